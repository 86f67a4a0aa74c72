"""Aligned faces for training: read from folders or tar files on demand, or decoded once and kept in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from panini.degradation.torch import to_device
from panini.errors import PaniniError
from panini.faces import align
from panini.faces.detect import CenterFace
from panini.photo.pixels import Pixels, decode_rgb, resize
from panini.weights.downloads import cache_folder

FACE_SIZE = 512
INDEX = "index.json"
"""Name of the list of faces beside tar files: [{name, size, …}, …]."""
SMALL_SIZE = 256
"""Pixels of the smaller faces of the training set."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class _Place(NamedTuple):
    """Position of an encoded picture: file, offset and length in bytes."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


class Faces:
    """Aligned faces, read and decoded on each access: `faces[i]` is uint8 [size, size, 3] RGB.

    names: names of the files ("archive/file" in tar files). Only the positions of the files are kept in memory.
    """

    def __init__(self, places: Mapping[str, _Place], size: int = FACE_SIZE) -> None:
        if not places:
            raise PaniniError("no faces to train on")
        self.names = list(places)
        self._places = list(places.values())
        self.size = size

    @classmethod
    def open(cls, path: Path, size: int = FACE_SIZE, least: int = FACE_SIZE) -> Faces:
        """Opens every .jpg, .png and .webp of a folder, or of the tar files in it.

        least: minimum size of the stored faces, in pixels; only for tar files with an `index.json` of {name, size, …}.
        Raises PaniniError.
        """
        try:
            if archives := sorted(path.glob("*.tar")):
                return cls(_in_archives(path, archives, least), size)
            files = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _SUFFIXES]
            return cls({p.name: _Place(p, 0, p.stat().st_size) for p in files}, size)
        except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
            raise PaniniError(f"cannot read faces in {path}: {error}") from error
        except PaniniError as error:
            raise PaniniError(f"{path}: {error}") from error

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> Pixels:
        return resize(self.decode(i), self.size, cv2.INTER_CUBIC)

    def encoded(self, i: int) -> bytes:
        """The content of the file of face i."""
        return self._places[i].read()

    def decode(self, i: int) -> Pixels:
        """Face i at its stored size."""
        return decode_rgb(self._places[i].read(), self.names[i])

    def hashes(self) -> set[str]:
        """sha256 of every file."""
        return {hashlib.sha256(place.read()).hexdigest() for place in self._places}


def _in_archives(folder: Path, archives: Iterable[Path], least: int) -> dict[str, _Place]:
    index, wanted = folder / INDEX, None
    if index.exists():
        wanted = {row["name"] for row in json.loads(index.read_text()) if row["size"] >= least}
    places = {}
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                fits = Path(member.name).suffix.lower() in _SUFFIXES if wanted is None else member.name in wanted
                if member.isfile() and fits:
                    places[f"{path.name}/{member.name}"] = _Place(path, member.offset_data, member.size)
    return places


class FaceBank:
    """All faces of a set, decoded once into uint8 tensors on a device: those of 256 pixels and those of `size`.

    A set that needs more than `memory` GB is decoded on demand instead. weights: sampling weights of faces by prefix of
    their names; 1 for all others.
    """

    def __init__(
        self,
        faces: Faces,
        device: torch.device,
        memory: float = 4.0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.faces = faces
        self.size = faces.size
        self.device = device
        chances = [
            next((times for start, times in (weights or {}).items() if name.startswith(start)), 1.0)
            for name in faces.names
        ]
        self._chances = np.array(chances) / sum(chances)
        self._kept: dict[int, Tensor] = {}
        self._rows: list[tuple[int, int]] = []  # of each face: the side and the row in `_kept`
        if len(faces) * 3 * self.size**2 <= memory * 1e9:
            self._decode()

    def _decode(self) -> None:
        parts: dict[int, list[Pixels]] = {SMALL_SIZE: [], self.size: []}
        with ThreadPoolExecutor() as pool:  # OpenCV releases Python's lock
            faces = list(pool.map(self._at_kept_size, range(len(self.faces))))
        for face in faces:
            self._rows.append((len(face), len(parts[len(face)])))
            parts[len(face)].append(face)
        for side in list(parts):
            if kept := parts.pop(side):
                stacked = torch.from_numpy(np.stack(kept)).permute(0, 3, 1, 2)
                self._kept[side] = stacked.contiguous().to(self.device)

    def _at_kept_size(self, i: int) -> Pixels:
        face = self.faces.decode(i)
        if len(face) <= SMALL_SIZE < self.size:
            return resize(face, SMALL_SIZE, cv2.INTER_CUBIC)
        return resize(face, self.size, cv2.INTER_AREA if len(face) > self.size else cv2.INTER_CUBIC)

    def __len__(self) -> int:
        return len(self.faces)

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """`count` faces [count, 3, size, size] in [-1, 1]."""
        return self.take(rng.choice(len(self.faces), count, p=self._chances).tolist())

    def take(self, numbers: Sequence[int]) -> Tensor:
        """The faces with these numbers, [n, 3, size, size] in [-1, 1], in any order."""
        if not self._rows:
            faces = np.stack([self.faces[i] for i in numbers]).transpose(0, 3, 1, 2)
            return to_signed(to_device(torch.from_numpy(np.ascontiguousarray(faces)), self.device))
        parts = []
        for side, kept in self._kept.items():
            rows = [self._rows[i][1] for i in numbers if self._rows[i][0] == side]
            if rows:
                part = to_signed(kept.index_select(0, to_device(torch.tensor(rows), self.device)))
                parts.append(enlarged(part, self.size))
        return torch.cat(parts)


def to_signed(pictures: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] -> float32 in [-1, 1], channels last."""
    return pictures.to(memory_format=torch.channels_last).float().div_(127.5).sub_(1)


def enlarged(pictures: Tensor, size: int) -> Tensor:
    """[N, 3, s, s] in [-1, 1] -> [N, 3, size, size], bicubic; unchanged if they have that size."""
    if pictures.shape[-1] == size:
        return pictures
    if pictures.device.type == "cpu" and not pictures.requires_grad:  # same result, five times faster
        rows = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        larger = np.stack([cv2.resize(row, (size, size), interpolation=cv2.INTER_CUBIC) for row in rows])
        return torch.from_numpy(larger).permute(0, 3, 1, 2).clamp_(-1, 1)
    return F.interpolate(pictures, size=(size, size), mode="bicubic", align_corners=False).clamp_(-1, 1)


def aligned(photos: Path, size: int = FACE_SIZE) -> Path:
    """Aligns the faces of the photos in a folder; returns the folder with the faces, in the user's cache.

    Uses the largest face of each photo and skips photos without faces. Raises PaniniError if no photo has a face.
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
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:  # atomic: processes may start together
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


def check_disjoint(train: Iterable[Faces], validation: Path) -> None:
    """Raises PaniniError if a training file is also a file of the validation folder (by content)."""
    kept_out = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in validation.rglob("*") if p.is_file()}
    for faces in train:
        if shared := faces.hashes() & kept_out.keys():
            raise PaniniError(f"{kept_out[shared.pop()]} is also among the training faces")
