"""Finds faces and their five landmarks with CenterFace (arXiv 1911.03599), offline and on the CPU.

Coordinates are continuous in `panini.faces`: the pixel in column i covers [i, i + 1), and its center is at i + 0.5.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.errors import PaniniError
from panini.faces import MIN_FACE
from panini.faces.align import Transform, invert, warp
from panini.onnx_session import open_network

_STRIDE = 4  # the network's output stride
_MULTIPLE = 32  # its input's sides must be multiples of this
_TILE = 1024  # pixels: largest side that the network sees at once, which bounds memory on large scans
_OVERLAP = 112  # pixels that neighboring tiles share; larger faces are found whole at the next coarser level
_LEVEL_STEP = 2  # halvings between searched levels; the network finds faces from about 10 to 400 px
_COARSEST = 320  # pixels: longest side of the last level
_SMALLEST = 14  # pixels: width of the smallest face at the finest level
_CANDIDATE = 0.05  # the lowest score of candidates, which are checked again upright
_FAINT = 0.02  # the same for small faces in the upright search, where small turned faces show faintly
_PLAUSIBLE = 0.35  # the lowest score then required in the best of four directions
_FIRST_VIEW = 64  # pixels: side of these four views, small because there are many
_CLOSE_UP = 224  # pixels: side of the last view, which the landmarks come from
_CLOSE_UP_FACE = 0.47  # width of the face relative to these views, for which the network is most exact
_SAME = 0.7  # share of the smaller box that two boxes of one face have in common

Maps = NDArray[np.float32]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Face:
    """A face in a photo, in pixels of the photo."""

    box: Box
    """x, y, width, height. It may extend past the edge of the photo."""
    score: float
    """The detector's confidence in [0, 1]."""
    landmarks: NDArray[np.float32]
    """[5, 2] x, y: left eye, right eye, nose, left and right corner of the mouth, as seen when the face is upright."""
    spread: float = 0.0
    """How far the landmarks move if the face is mirrored, in eye distances. Above 0.2 they are unreliable."""

    @property
    def angle(self) -> float:
        """Clockwise rotation of the face in the picture, in degrees in [-180, 180]."""
        left_eye, right_eye, _, left_mouth, right_mouth = self.landmarks
        down = (left_mouth + right_mouth - left_eye - right_eye) / 2
        x, y = right_eye - left_eye + (down[1], -down[0])  # the crop's axis, as in `ffhq_transform`
        return float(np.degrees(np.arctan2(y, x)))

    @property
    def yaw(self) -> float:
        """Offset of the nose from the line between eyes and mouth, in eye distances. Negative if it points left."""
        left_eye, right_eye, nose, left_mouth, right_mouth = self.landmarks
        eyes, along = (left_eye + right_eye) / 2, right_eye - left_eye
        down = (left_mouth + right_mouth) / 2 - eyes
        x, y = nose - eyes
        return float((x * down[1] - y * down[0]) / max(np.hypot(*down) * np.hypot(*along), 1e-6))

    @property
    def center(self) -> tuple[float, float]:
        """x, y of the box's center."""
        x, y, w, h = self.box
        return x + w / 2, y + h / 2


class Detector(Protocol):
    """Finds faces for a `Restorer`: uint8 RGB [H, W, 3] -> faces, largest first."""

    def __call__(self, image: NDArray[np.uint8], /) -> list[Face]: ...


def choose(faces: Sequence[Face], numbers: Sequence[int] = (), boxes: Sequence[Box] = ()) -> list[Face]:
    """Selects the faces with these numbers (from 1) or with their center in one of the boxes. By default, all faces.

    Raises PaniniError if there is no face with a number or in a box.
    """
    if not numbers and not boxes:
        return list(faces)
    chosen = set()
    for number in numbers:
        if not 1 <= number <= len(faces):
            raise PaniniError(f"no face {number}: {len(faces)} found")
        chosen.add(number - 1)
    for x, y, w, h in boxes:
        inside = {i for i, f in enumerate(faces) if x <= f.center[0] < x + w and y <= f.center[1] < y + h}
        if not inside:
            raise PaniniError(f"no face has its center in the box {x:g},{y:g},{w:g},{h:g}")
        chosen |= inside
    return [faces[i] for i in sorted(chosen)]


class CenterFace:
    """Finds faces from `min_face` pixels across to the whole frame, at any angle."""

    def __init__(self, min_score: float = 0.6, min_face: float = MIN_FACE, threads: int | None = None) -> None:
        """Skips faces below `min_score` or narrower than `min_face` pixels. threads: see `open_network`."""
        self.min_score = min_score
        self.min_face = min_face
        self.progress: Callable[[int, int], None] = lambda done, of: None
        """Called with the number of searched tiles and the largest number of tiles that the search may take."""
        self.smaller = 0
        """Number of faces that the last call skipped because they are narrower than `min_face`."""
        self._session = open_network(resources.files(__package__).joinpath("centerface.onnx").read_bytes(), threads)

    def __call__(self, image: NDArray[np.uint8], /) -> list[Face]:
        """Finds the faces in a uint8 RGB picture [H, W, 3], largest first, without duplicates."""
        levels = _pyramid(image, min(_SMALLEST / self.min_face, 1.0))
        fine, coarse = levels[0::_LEVEL_STEP], levels[1::_LEVEL_STEP] if len(levels) > _LEVEL_STEP else []
        tiles = [sum(len(_tiles(level)) for level in part) for part in (fine, coarse, fine)]
        seen = self._search(image, fine, (0,), [], 0, sum(tiles))
        # Few photos have turned faces. Half the size shows most of them for a quarter of the work.
        if coarse and any(_is_upright(face) for face in seen):
            seen += self._search(image, coarse, (1, 2, 3), seen, tiles[0], sum(tiles))
        if not (coarse and seen and all(map(_is_upright, seen))):
            seen += self._search(image, fine, (1, 2, 3), seen, tiles[0] + tiles[1], sum(tiles))
        faces = _once([face for face in seen if max(face.box[2:]) >= self.min_face])
        small = _once([face for face in seen if max(face.box[2:]) < self.min_face])
        self.smaller = sum(all(overlap(face, other)[1] < _SAME for other in faces) for face in small)
        return sorted(faces, key=lambda face: -face.box[2] * face.box[3])

    def _search(
        self,
        image: NDArray[np.uint8],
        levels: list[NDArray[np.uint8]],
        turns: Sequence[int],
        seen: list[Face],
        done: int,
        of: int,
    ) -> list[Face]:
        """Faces not yet `seen`, in these directions (quarter turns). done, of: number of tiles before, and of all."""
        found, faint = list[Face](), turns == (0,)
        for level in levels:
            height, width = level.shape[:2]
            sx, sy = image.shape[1] / width, image.shape[0] / height
            for (x0, x1), (y0, y1) in _tiles(level):
                self.progress(done, of)
                done += 1
                for face in self._in_tile(level[y0:y1, x0:x1], turns):
                    x, y, w, h = face.box
                    if face.score < _CANDIDATE and not (faint and level is levels[0] and max(w, h) < 2 * _SMALLEST):
                        continue
                    # A face cut by a tile's inner edge is seen whole in the next tile or at the next level.
                    if (x < 0 < x0) or (y < 0 < y0) or (x0 + x + w > x1 < width) or (y0 + y + h > y1 < height):
                        continue
                    found.append(_seen_through(np.array([[sx, 0, x0 * sx], [0, sy, y0 * sy]]), face))
        new = [face for face in _once(found) if not any(_is_same(face, other) for other in seen)]
        closer = (self._look_closer(image, face) for face in new)
        return [face for face in closer if face is not None]

    def _in_tile(self, tile: NDArray[np.uint8], turns: Sequence[int]) -> Iterator[Face]:
        """Candidates in one tile [H, W, 3], in these directions, because the network only finds upright faces."""
        height, width = tile.shape[:2]
        backs = np.array(
            [
                [[1, 0, 0], [0, 1, 0]],
                [[0, -1, width], [1, 0, 0]],
                [[-1, 0, width], [0, -1, height]],
                [[0, 1, 0], [-1, 0, height]],
            ],
            np.float64,
        )
        for turn in turns:
            yield from (_seen_through(backs[turn], face) for face in self._detect(np.rot90(tile, turn)))

    def _look_closer(self, image: NDArray[np.uint8], face: Face) -> Face | None:
        """Finds the face again, upright and at a fixed size, for accurate landmarks. None if it is not a face."""
        # The angle of a candidate may be wrong by a multiple of 90 degrees: the best of four directions is right.
        views = [self._look(image, face, _FIRST_VIEW, face.angle + turn) for turn in (0, 90, 180, 270)]
        best = max((other for other in views if other is not None), key=lambda other: other.score, default=None)
        return None if best is None or best.score < _PLAUSIBLE else self._close_up(image, best)

    def look_again(self, image: NDArray[np.uint8], face: Face) -> Face | None:
        """Finds the face near its old position in another frame; None if it is gone. Faster than a full search."""
        found = self._close_up(image, face) or self._look_closer(image, face)
        return found if found is not None and max(found.box[2:]) >= self.min_face else None

    def _close_up(self, image: NDArray[np.uint8], best: Face) -> Face | None:
        """Finds the face again at its known angle, once as it is and once mirrored."""
        straight, mirrored = (self._look(image, best, _CLOSE_UP, best.angle, mirror) for mirror in (False, True))
        if straight is None or mirrored is None or (straight.score + mirrored.score) / 2 < self.min_score:
            return None
        points = np.stack([straight.landmarks, mirrored.landmarks])
        eyes = float(np.hypot(*(points[:, 1] - points[:, 0]).mean(0)))
        box: Any = tuple(np.mean([straight.box, mirrored.box], axis=0).tolist())
        return Face(
            box=box,
            score=(straight.score + mirrored.score) / 2,
            landmarks=points.mean(axis=0, dtype=np.float32),
            spread=float(np.hypot(*(points[1] - points[0]).T).mean()) / max(eyes, 1e-6),
        )

    def _look(self, image: NDArray[np.uint8], face: Face, side: int, angle: float, mirror: bool = False) -> Face | None:
        """Finds the face in a view of `side` pixels, turned back by `angle`, maybe mirrored. None if not found."""
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        linear = np.array([[cos, sin], [-sin, cos]]) * (_CLOSE_UP_FACE * side / max(*face.box[2:], 1.0))
        if mirror:
            linear[0] *= -1
        way = np.hstack([linear, (side / 2 - linear @ face.center)[:, None]])
        view = np.asarray(warp(image, way, (side, side), border=cv2.BORDER_CONSTANT), np.uint8)
        seen = [other for other in self._detect(view) if other.score >= _CANDIDATE and abs(other.angle) < 60]
        here = [_seen_through(invert(way), other, mirror) for other in seen]
        best = max(here, key=lambda other: overlap(other, face)[0], default=None)
        return best if best is not None and overlap(best, face)[0] > 0.3 else None

    def _detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Faces in a picture [H, W, 3]."""
        bottom, right = (-n % _MULTIPLE for n in image.shape[:2])
        padded = np.pad(image, ((0, bottom), (0, right), (0, 0)))
        tensor = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32)  # RGB in [0, 255]
        outputs = self._session.run(["heatmap", "size", "offset", "landmarks"], {"image": tensor})
        return _once(list(self._decode(*(maps[0] for maps in outputs))))

    def _decode(self, heatmap: Maps, size: Maps, offset: Maps, landmarks: Maps) -> Iterator[Face]:
        """Decodes the output maps [C, H / 4, W / 4] of one picture into faces, with duplicates."""
        peaks = heatmap[0] >= np.maximum(cv2.dilate(heatmap[0], np.ones((3, 3), np.uint8)), _FAINT)
        for row, column in zip(*np.nonzero(peaks), strict=True):
            h, w = np.exp(np.clip(size[:, row, column], -8, 8)) * _STRIDE
            dy, dx = offset[:, row, column]
            x, y = (column + dx + 0.5) * _STRIDE - w / 2, (row + dy + 0.5) * _STRIDE - h / 2
            points = landmarks[:, row, column].reshape(5, 2)[:, ::-1] * (w, h) + (x, y)
            box = (float(x), float(y), float(w), float(h))
            yield Face(box, float(heatmap[0, row, column]), points.astype(np.float32))


def _pyramid(image: NDArray[np.uint8], scale: float) -> list[NDArray[np.uint8]]:
    """The picture at `scale`, at half that scale, and so on, down to the second that is not larger than `_COARSEST`."""
    levels = [_resized(image, scale)]
    while max(levels[-1].shape[:2]) > _COARSEST // 2:
        levels.append(_resized(levels[-1], 0.5))
    return levels


def _resized(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def _seen_through(transform: Transform, face: Face, mirrored: bool = False) -> Face:
    """Transforms a face. The new box encloses the ellipse in the old box. mirrored: swap left and right landmarks."""
    linear = transform[:, :2]
    (x, y), (w, h) = linear @ face.center + transform[:, 2], np.hypot(*(linear * face.box[2:]).T)
    landmarks = face.landmarks[[1, 0, 2, 4, 3] if mirrored else slice(None)] @ linear.T + transform[:, 2]
    box = (float(x - w / 2), float(y - h / 2), float(w), float(h))
    return Face(box, face.score, landmarks.astype(np.float32), face.spread)


def _tiles(level: NDArray[np.uint8]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The columns and rows of overlapping tiles that cover a picture."""
    return list(itertools.product(_spans(level.shape[1]), _spans(level.shape[0])))


def _spans(length: int) -> list[tuple[int, int]]:
    """Overlapping intervals of at most `_TILE` that cover [0, length)."""
    if length <= _TILE:
        return [(0, length)]
    count = int(np.ceil((length - _OVERLAP) / (_TILE - _OVERLAP)))
    side = int(np.ceil((length + (count - 1) * _OVERLAP) / count))
    starts = np.linspace(0, length - side, count).astype(int)
    return [(int(start), int(start) + side) for start in starts]


def overlap(a: Face, b: Face) -> tuple[float, float]:
    """Intersection over union, and over the smaller box."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
    w, h = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    common = max(w, 0.0) * max(h, 0.0)
    return common / (aw * ah + bw * bh - common), common / min(aw * ah, bw * bh)


def _is_same(face: Face, other: Face) -> bool:
    """Whether two boxes show the same face."""
    union, smaller = overlap(face, other)
    return union >= 0.3 or smaller >= _SAME


def _is_upright(face: Face) -> bool:
    return abs(face.angle) <= 45


def _once(faces: list[Face]) -> list[Face]:
    """The face with the highest score of each group of boxes that show the same face."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(_is_same(face, other) for other in kept):
            kept.append(face)
    return kept
