"""Finds faces and five landmarks each with CenterFace (arXiv 1911.03599), offline and on the CPU.

Coordinates are continuous throughout `panini.faces`: the pixel in column i covers [i, i + 1), its centre is i + 0.5.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

_STRIDE = 4  # the network's output stride
_MULTIPLE = 32  # its input's sides must be multiples of this
_TILE = 1024  # most pixels of a side that the network sees at once: bounds memory on large scans
_OVERLAP = 160  # of neighbouring tiles; larger faces are found whole at the next coarser level
_LEVEL_STEP = 4  # between levels; the network finds faces from about 10 to 400 px
_COARSEST = 320  # a level whose longer side is at most this is the last
_SMALLEST = 16  # px that the smallest face measures at the finest level
_CLOSE_UP = 224  # px of the view in which a face is looked at a second time,
_CLOSE_UP_FACE = 105  # and of the face's box in it: there its landmarks come out best

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """A face in a photo, in pixels of the photo."""

    box: tuple[float, float, float, float]
    """x, y, width, height; may reach over the photo's edge."""
    score: float
    """The detector's confidence in [0, 1]."""
    landmarks: NDArray[np.float32]
    """[5, 2] x, y: left eye, right eye, nose, left and right corner of the mouth, as seen in the picture."""


class Detector(Protocol):
    """What a `Restorer` needs to find faces: uint8 RGB [H, W, 3] -> faces, largest first."""

    def __call__(self, image: NDArray[np.uint8], /) -> list[Face]: ...


class CenterFace:
    """Finds upright faces from `min_face` pixels across to the whole frame."""

    def __init__(self, min_score: float = 0.5, min_face: float = 24, threads: int = 0) -> None:
        """Faces below `min_score` or narrower than `min_face` pixels are left out; `threads` 0 means all cores."""
        self.min_score = min_score
        self.min_face = min_face
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        model = resources.files(__package__).joinpath("centerface.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, image: NDArray[np.uint8], /) -> list[Face]:
        """Faces in a uint8 RGB picture [H, W, 3], largest first, none twice."""
        found = [face for scale in self._levels(image) for face in self._at_level(image, scale)]
        faces = _once([self._look_closer(image, face) for face in _once(found)])
        faces = [face for face in faces if max(face.box[2:]) >= self.min_face]
        return sorted(faces, key=lambda face: -face.box[2] * face.box[3])

    def _levels(self, image: NDArray[np.uint8]) -> Iterator[float]:
        """Scales at which to look: the finest shows the smallest face just large enough."""
        scale = min(_SMALLEST / self.min_face, 1.0)
        while True:
            yield scale
            if max(image.shape[:2]) * scale <= _COARSEST:
                return
            scale /= _LEVEL_STEP

    def _at_level(self, image: NDArray[np.uint8], scale: float) -> Iterator[Face]:
        level = _resized(image, scale)
        height, width = level.shape[:2]
        sx, sy = image.shape[1] / width, image.shape[0] / height
        for (x0, x1), (y0, y1) in itertools.product(_spans(width), _spans(height)):
            for face in self._detect(level[None, y0:y1, x0:x1])[0]:
                x, y, w, h = face.box
                # A face cut by a tile's inner edge is seen whole in the next tile or at the next level.
                if (x < 0 < x0) or (y < 0 < y0) or (x0 + x + w > x1 < width) or (y0 + y + h > y1 < height):
                    continue
                yield _scaled(_moved(face, x0, y0), sx, sy)

    def _look_closer(self, image: NDArray[np.uint8], face: Face) -> Face:
        """The face seen again at a fixed size, straight and mirrored, where landmarks are most exact."""
        x, y, w, h = face.box
        side = max(w, h) * _CLOSE_UP / _CLOSE_UP_FACE
        (x0, x1), (y0, y1) = (
            (int(np.clip(start, 0, n - 1)), int(np.clip(start + side + 1, 1, n)))
            for start, n in ((x + (w - side) / 2, image.shape[1]), (y + (h - side) / 2, image.shape[0]))
        )
        view = _resized(image[y0:y1, x0:x1], _CLOSE_UP / side)
        height, width = view.shape[:2]
        straight, mirrored = self._detect(np.stack([view, view[:, ::-1]]))
        sx, sy = (x1 - x0) / width, (y1 - y0) / height
        again = []
        for seen in (straight, [_mirrored(other, width) for other in mirrored]):
            here = [_moved(_scaled(other, sx, sy), x0, y0) for other in seen]
            best = max(here, key=lambda other: _overlap(other, face)[0], default=face)
            if _overlap(best, face)[0] > 0.4:
                again.append(best)
        bx, by, bw, bh = (float(v) for v in np.mean([other.box for other in again], axis=0))
        landmarks = np.stack([other.landmarks for other in again]).mean(axis=0, dtype=np.float32)
        return Face((bx, by, bw, bh), max(other.score for other in (face, *again)), np.asarray(landmarks))

    def _detect(self, images: NDArray[np.uint8]) -> list[list[Face]]:
        """Faces in each of the pictures [N, H, W, 3], at their own scale."""
        bottom, right = (-n % _MULTIPLE for n in images.shape[1:3])
        padded = np.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)))
        tensor = np.ascontiguousarray(padded.transpose(0, 3, 1, 2), dtype=np.float32)  # RGB in [0, 255]
        outputs = self._session.run(["heatmap", "size", "offset", "landmarks"], {"image": tensor})
        return [_once(list(self._decode(*maps))) for maps in zip(*outputs, strict=True)]

    def _decode(self, heatmap: Maps, size: Maps, offset: Maps, landmarks: Maps) -> Iterator[Face]:
        """Faces in one picture's maps [C, H / 4, W / 4], doubles among them."""
        for row, column in zip(*np.nonzero(heatmap[0] >= self.min_score), strict=True):
            h, w = np.exp(size[:, row, column]) * _STRIDE
            dy, dx = offset[:, row, column]
            x, y = (column + dx + 0.5) * _STRIDE - w / 2, (row + dy + 0.5) * _STRIDE - h / 2
            points = landmarks[:, row, column].reshape(5, 2)[:, ::-1] * (w, h) + (x, y)
            box = (float(x), float(y), float(w), float(h))
            yield Face(box, float(heatmap[0, row, column]), points.astype(np.float32))


def _resized(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def _moved(face: Face, dx: float, dy: float) -> Face:
    x, y, w, h = face.box
    return Face((x + dx, y + dy, w, h), face.score, np.add(face.landmarks, (dx, dy), dtype=np.float32))


def _scaled(face: Face, sx: float, sy: float) -> Face:
    x, y, w, h = face.box
    return Face((x * sx, y * sy, w * sx, h * sy), face.score, np.multiply(face.landmarks, (sx, sy), dtype=np.float32))


def _mirrored(face: Face, width: int) -> Face:
    """The face of a mirrored picture in the picture itself: left is right."""
    x, y, w, h = face.box
    landmarks = (width, 0) + face.landmarks[[1, 0, 2, 4, 3]] * (-1, 1)
    return Face((width - x - w, y, w, h), face.score, landmarks.astype(np.float32))


def _spans(length: int) -> list[tuple[int, int]]:
    """Overlapping stretches of at most `_TILE` that cover [0, length)."""
    if length <= _TILE:
        return [(0, length)]
    count = int(np.ceil((length - _OVERLAP) / (_TILE - _OVERLAP)))
    starts = np.linspace(0, length - _TILE, count).astype(int)
    return [(int(start), int(start) + _TILE) for start in starts]


def _overlap(a: Face, b: Face) -> tuple[float, float]:
    """Intersection over union, and over the smaller box."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
    w, h = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    common = max(w, 0.0) * max(h, 0.0)
    return common / (aw * ah + bw * bh - common), common / min(aw * ah, bw * bh)


def _once(faces: list[Face]) -> list[Face]:
    """The most certain of each group of boxes that show the same face."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        overlaps = [_overlap(face, other) for other in kept]
        if all(union < 0.3 and smaller < 0.7 for union, smaller in overlaps):
            kept.append(face)
    return kept
