"""Faces to train on, and the damaged samples made of them. Sample i of a run depends on the seed and i alone."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from panini.degradation import Degradation, draw
from panini.errors import PaniniError
from panini.pixels import Pixels, Signed, decode_rgb, resize, to_signed

FACE_SIZE = 512


class Faces:
    """Aligned faces held as encoded bytes; `faces[i]` is uint8 [512, 512, 3] RGB.

    latents: [len, latent_dim], the w each face was sampled from the prior with; None for real ones.
    """

    def __init__(self, files: Mapping[str, bytes], latents: Signed | None = None) -> None:
        if not files:
            raise PaniniError("no faces to train on")
        self.names = list(files)
        self._data = list(files.values())
        self.latents = latents

    @classmethod
    def from_shards(cls, folder: Path, smallest: int = FACE_SIZE) -> Faces:
        """Tar shards with an `index.json` of {name, shard, size, …}; faces under `smallest` pixels are left out."""
        try:
            index = json.loads((folder / "index.json").read_text())
            wanted = {row["name"] for row in index if row["size"] >= smallest}
            files = {}
            for shard in sorted({row["shard"] for row in index}):
                with tarfile.open(folder / shard) as archive:
                    for member in archive:
                        if member.name in wanted and (stream := archive.extractfile(member)):
                            files[member.name] = stream.read()
        except (OSError, ValueError, KeyError, tarfile.TarError) as error:
            raise PaniniError(f"cannot read face shards in {folder}: {error}") from error
        return cls(files)

    @classmethod
    def from_folder(cls, folder: Path) -> Faces:
        """Every .jpg, .png and .webp of a folder; with `w.npy` in it, whose rows are their latents by number."""
        suffixes = {".jpg", ".jpeg", ".png", ".webp"}
        paths = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in suffixes]
        try:
            files = {p.name: p.read_bytes() for p in paths}
            latents = folder / "w.npy"
            if not latents.exists():
                return cls(files)
            return cls(files, np.load(latents)[[int(p.stem) for p in paths]])
        except (OSError, ValueError, IndexError) as error:
            raise PaniniError(f"cannot read faces in {folder}: {error}") from error

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, i: int) -> Pixels:
        return resize(decode_rgb(self._data[i], self.names[i]), FACE_SIZE, cv2.INTER_CUBIC)

    def hashes(self) -> set[str]:
        """sha256 of every file."""
        return {hashlib.sha256(data).hexdigest() for data in self._data}


def draw_mixed(mixture: Mapping[str, float], rng: np.random.Generator) -> Degradation:
    """A degradation of one of the named distributions, chosen by weight."""
    names = list(mixture)
    weights = np.array([mixture[n] for n in names])
    return draw(names[rng.choice(len(names), p=weights / weights.sum())], rng)


def vary(face: Pixels, rng: np.random.Generator) -> Pixels:
    """Flip, mild colour change and the small misalignment that a detector makes."""
    if rng.random() < 0.5:
        face = face[:, ::-1]
    angle, scale = rng.normal(0, 2.0), np.exp(rng.normal(0, 0.03))
    matrix = cv2.getRotationMatrix2D((FACE_SIZE / 2, FACE_SIZE / 2), angle, scale)
    matrix = matrix + np.pad(rng.normal(0, 5.0, (2, 1)), ((0, 0), (2, 0)))
    moved = cv2.warpAffine(
        np.ascontiguousarray(face), matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    gain, offset = np.exp(rng.normal(0, 0.08, 3) + rng.normal(0, 0.08)), rng.normal(0, 6.0)
    return np.clip(moved * gain + offset, 0, 255).astype(np.uint8)


class RestorationSamples(Dataset[dict[str, Tensor]]):
    """{given, truth: [3, 512, 512] in [-1, 1]; w: [latent_dim] and known: 1 where the prior's latent is known, else 0}.

    prior_share: how many of the faces come from `sampled`. Those keep their pixels, since their latents do.
    """

    def __init__(
        self, real: Faces, sampled: Faces | None, mixture: Mapping[str, float], prior_share: float, seed: int
    ) -> None:
        self.real = real
        self.sampled = sampled
        self.mixture = dict(mixture)
        self.prior_share = prior_share
        self.seed = seed

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, i))
        w, known = np.zeros(512, np.float32), 0.0
        if self.sampled is not None and rng.random() < self.prior_share:
            j = int(rng.integers(len(self.sampled)))
            truth = self.sampled[j]
            if self.sampled.latents is not None:
                w, known = self.sampled.latents[j], 1.0
        else:
            truth = vary(self.real[int(rng.integers(len(self.real)))], rng)
        given = draw_mixed(self.mixture, rng).apply(truth, int(rng.integers(2**31)))
        return {
            "given": torch.from_numpy(to_signed(given)),
            "truth": torch.from_numpy(to_signed(truth)),
            "w": torch.from_numpy(w),
            "known": torch.tensor(known),
        }


def check_disjoint(train: Iterable[Faces], validation: Path) -> None:
    """Raises PaniniError if a training file is also a file of the validation folder (by content)."""
    kept_out = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in validation.rglob("*") if p.is_file()}
    for faces in train:
        if shared := faces.hashes() & kept_out.keys():
            raise PaniniError(f"{kept_out[shared.pop()]} is also among the training faces")
