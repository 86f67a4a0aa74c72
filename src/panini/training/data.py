"""Faces to train on, and the damaged samples made of them. Sample i of a run depends on the seed and i alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from panini.degradation import Degradation, draw
from panini.errors import PaniniError
from panini.faces import align
from panini.faces.detect import CenterFace
from panini.photo.pixels import Pixels, Signed, decode_rgb, resize, to_signed
from panini.weights.downloads import cache_folder

FACE_SIZE = 512
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Faces:
    """Aligned faces held as encoded bytes; `faces[i]` is uint8 [size, size, 3] RGB.

    latents: [len, latent_dim], the w each face was sampled from the prior with; None for real ones.
    decoded: how many faces are kept decoded, too (0.8 MB each, in every worker), for those that come again and again.
    """

    def __init__(
        self, files: Mapping[str, bytes], latents: Signed | None = None, size: int = FACE_SIZE, decoded: int = 0
    ) -> None:
        if not files:
            raise PaniniError("no faces to train on")
        self.names = list(files)
        self._data = list(files.values())
        self.latents = latents
        self.size = size
        self._get = lru_cache(decoded)(self._decode) if decoded else self._decode

    @classmethod
    def open(cls, path: Path, size: int = FACE_SIZE, decoded: int = 0) -> Faces:
        """Every .jpg, .png and .webp of a folder, or of the tar files in it.

        With an `index.json` of {name, size, …} beside tar files, faces under 512 pixels are left out. With `w.npy` in a
        folder, faces sampled from the prior: its rows are their latents by number. Raises PaniniError.
        """
        try:
            archives = sorted(path.glob("*.tar"))
            if archives:
                return cls(_read_archives(path, archives), None, size, decoded)
            paths = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _SUFFIXES]
            files = {p.name: p.read_bytes() for p in paths}
            latents = path / "w.npy"
            if not latents.exists():
                return cls(files, None, size, decoded)
            return cls(files, np.load(latents)[[int(p.stem) for p in paths]], size, decoded)
        except (OSError, ValueError, KeyError, IndexError, TypeError, tarfile.TarError) as error:
            raise PaniniError(f"cannot read faces in {path}: {error}") from error
        except PaniniError as error:
            raise PaniniError(f"{path}: {error}") from error

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, i: int) -> Pixels:
        return self._get(i)

    def _decode(self, i: int) -> Pixels:
        return resize(decode_rgb(self._data[i], self.names[i]), self.size, cv2.INTER_CUBIC)

    def hashes(self) -> set[str]:
        """sha256 of every file."""
        return {hashlib.sha256(data).hexdigest() for data in self._data}


def _read_archives(folder: Path, archives: Iterable[Path]) -> dict[str, bytes]:
    index, wanted = folder / "index.json", None
    if index.exists():
        wanted = {row["name"] for row in json.loads(index.read_text()) if row["size"] >= FACE_SIZE}
    files = {}
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                fits = Path(member.name).suffix.lower() in _SUFFIXES if wanted is None else member.name in wanted
                if fits and (stream := archive.extractfile(member)):
                    files[f"{path.name}/{member.name}"] = stream.read()
    return files


def aligned(photos: Path, size: int = FACE_SIZE) -> Path:
    """The folder with the faces of the photos in a folder, aligned; found once, then kept in the user's cache.

    The largest face of each photo; photos without one are left out. Raises PaniniError if none has any.
    """
    try:
        paths = [p for p in sorted(photos.iterdir()) if p.suffix.lower() in _SUFFIXES]
        data = {path: path.read_bytes() for path in paths}
    except OSError as error:
        raise PaniniError(f"cannot read the photos in {photos}: {error.strerror}") from error
    folder = cache_folder() / "aligned" / str(size)
    folder = folder / hashlib.sha256(b"".join(hashlib.sha256(d).digest() for d in data.values())).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        detector = CenterFace()
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:  # whole or not at all: processes start together
            for i, (path, content) in enumerate(data.items()):
                photo = decode_rgb(content, str(path))
                if found := detector(photo):
                    transform = align.ffhq_transform(found[0].landmarks, size, align.DETECTED_ZOOM)
                    face = np.asarray(align.warp(photo, transform, (size, size)), np.uint8)
                    cv2.imwrite(f"{made}/{i:05d}.png", cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
            if not any(Path(made).iterdir()):
                raise PaniniError(f"no face found in any photo of {photos}")
            with contextlib.suppress(OSError):  # another process was first
                Path(made).rename(folder)
    return folder


def choose(mixture: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the named distributions, by weight."""
    names = list(mixture)
    weights = np.array([mixture[n] for n in names])
    return names[rng.choice(len(names), p=weights / weights.sum())]


def vary(face: Pixels, rng: np.random.Generator) -> Pixels:
    """Flip, mild colour change and the small misalignment that a detector makes."""
    size = len(face)
    if rng.random() < 0.5:
        face = face[:, ::-1]
    angle, scale = rng.normal(0, 2.0), np.exp(rng.normal(0, 0.03))
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), angle, scale)
    matrix = matrix + np.pad(rng.normal(0, size / 100, (2, 1)), ((0, 0), (2, 0)))
    moved = cv2.warpAffine(
        np.ascontiguousarray(face), matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    gain, offset = np.exp(rng.normal(0, 0.08, 3) + rng.normal(0, 0.08)), rng.normal(0, 6.0)
    return np.clip(moved * gain + offset, 0, 255).astype(np.uint8)


class DamagedSamples(Dataset[dict[str, Tensor]]):
    """Faces whose damage is drawn for each item by itself.

    damage: whether items are damaged as they are read (`given`) or, on an accelerator, in batches there.
    """

    def __init__(self, mixture: Mapping[str, float], seed: int, damage: bool) -> None:
        self.mixture = dict(mixture)
        self.seed = seed
        self.damage = damage

    def degradation(self, i: int) -> tuple[Degradation, int]:
        """Of item i: the damage and the seed of its noise."""
        rng = np.random.default_rng((self.seed, i, 1))
        return draw(choose(self.mixture, rng), rng), int(rng.integers(2**31))

    def distribution(self, i: int) -> str:
        """What the damage of item i is drawn from."""
        return choose(self.mixture, np.random.default_rng((self.seed, i, 1)))


class RestorationSamples(DamagedSamples):
    """Item i: {truth: [3, S, S] in [-1, 1]; given: the same damaged, unless `damage` is off; index: i;
    w: [latent_dim] and known: 1 where the prior's latent is known, else 0; dial: in [-1, 1]; realism; adds: 1 where the
    damage does (`Degradation.adds`), else 0}.

    prior_share: how many of the faces come from `sampled`. Those keep their pixels, since their latents do.
    dialled: how many of the samples are to be restored at a setting of the dial other than 0. realism: by distribution,
    how many times what judges looks is to count; once for those it does not name.
    """

    def __init__(
        self,
        real: Faces,
        sampled: Faces | None,
        mixture: Mapping[str, float],
        prior_share: float,
        seed: int,
        damage: bool = True,
        dialled: float = 0.0,
        realism: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(mixture, seed, damage)
        self.real = real
        self.sampled = sampled
        self.prior_share = prior_share
        self.dialled = dialled
        self.realism = dict(realism or {})

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
        rng = np.random.default_rng((self.seed, i, 2))
        dial = rng.uniform(-1, 1) if rng.random() < self.dialled else 0.0
        degradation, seed = self.degradation(i)
        sample = {
            "truth": torch.from_numpy(to_signed(truth)),
            "w": torch.from_numpy(w),
            "known": torch.tensor(known),
            "index": torch.tensor(i),
            "dial": torch.tensor(dial, dtype=torch.float32),
            "realism": torch.tensor(self.realism.get(self.distribution(i), 1.0), dtype=torch.float32),
            "adds": torch.tensor(float(degradation.adds)),
        }
        if self.damage:
            sample["given"] = torch.from_numpy(to_signed(degradation.apply(truth, seed)))
        return sample


def check_disjoint(train: Iterable[Faces], validation: Path) -> None:
    """Raises PaniniError if a training file is also a file of the validation folder (by content)."""
    kept_out = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in validation.rglob("*") if p.is_file()}
    for faces in train:
        if shared := faces.hashes() & kept_out.keys():
            raise PaniniError(f"{kept_out[shared.pop()]} is also among the training faces")
