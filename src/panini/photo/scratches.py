"""Finds thin, straight scratches on a face crop and fills them, so that the network does not treat them as edges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.photo.pixels import Pixels

_SIZE = 512  # pixels: side of the crop that the lengths below refer to
_SHORTEST = 110  # pixels: shorter lines may be hairs or wrinkles
_LONGEST_AT_LEAST = 190  # pixels: if no line is this long, the lines may be hair
_GAP = 10  # pixels of a scratch that may be missing
_WIDEST = 13  # pixels: size of a median filter that removes scratches
_CONTRAST = 22.0  # of 255: minimum difference between a scratch and its surroundings
_ABOVE_NOISE = 5.0  # minimum difference, as a multiple of the noise
_SOLID = 0.7  # minimum share of a line that differs
_CLEAR = 0.55  # minimum share of a line with equal surroundings on both sides, unlike edges of patterns
_MOST = 0.06  # maximum share of the crop: a larger share is texture

Mask = NDArray[np.bool_]


def cleaned(crop: Pixels) -> tuple[Pixels, float]:
    """Removes the scratches from a crop [S, S, 3]. Returns the crop and the share that the scratches covered."""
    mask = find(crop)
    return (crop, 0.0) if mask is None else (fill(crop, mask), float(mask.mean()))


def find(crop: Pixels) -> Mask | None:
    """Finds the scratches of a crop [S, S, 3] as a mask [S, S]. None if there are none."""
    gray = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)
    ridge = gray.astype(np.float32) - cv2.medianBlur(gray, _WIDEST)
    noise = 1.4826 * float(np.median(np.abs(ridge)))
    found, longest = np.zeros((_SIZE, _SIZE), np.uint8), 0.0
    for sign in (1, -1):
        over = (sign * ridge > max(_CONTRAST, _ABOVE_NOISE * noise)).astype(np.uint8)
        faint = (sign * ridge > _CONTRAST / 2).astype(np.uint8)
        lines = cv2.HoughLinesP(over * 255, 1, np.pi / 360, 60, minLineLength=_SHORTEST, maxLineGap=_GAP)
        for line in [] if lines is None else np.asarray(lines).reshape(-1, 4):
            if _is_scratch(over, line):
                longest = max(longest, float(np.hypot(*(line[2:] - line[:2]))))
                ends = (_extended(faint, line[2:], line[:2]), _extended(faint, line[:2], line[2:]))
                drawn = np.zeros_like(found)
                cv2.line(drawn, *ends, 1, 7)
                found |= drawn & np.asarray(cv2.dilate(faint, np.ones((5, 5), np.uint8)), np.uint8)
    if longest < _LONGEST_AT_LEAST or found.mean() > _MOST:
        return None
    mask = cv2.dilate(found, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.resize(mask, crop.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)


def fill(crop: Pixels, mask: Mask) -> Pixels:
    """Fills the scratches of a crop from their surroundings."""
    radius = max(3, round(5 * crop.shape[0] / _SIZE))
    return np.asarray(cv2.inpaint(crop, mask.astype(np.uint8), radius, cv2.INPAINT_TELEA), np.uint8)


def _extended(faint: Any, start: Any, end: Any) -> list[int]:
    """x, y of the last visible point of the line from `start` through `end`."""
    way = (end - start) / np.hypot(*(end - start))
    last, missing, place = end.astype(np.float64), 0, end.astype(np.float64)
    while missing <= _GAP:
        place = place + way
        x, y = np.rint(place).astype(int)
        if not (2 <= x < _SIZE - 2 and 2 <= y < _SIZE - 2):
            break
        seen = faint[y - 2 : y + 3, x - 2 : x + 3].any()
        last, missing = (place, 0) if seen else (last, missing + 1)
    return [int(value) for value in np.rint(last)]


def _is_scratch(over: NDArray[np.uint8], line: Any) -> bool:
    """Whether a line (x, y, x, y) differs from its surroundings, which are the same on both sides."""
    start, end = line[:2].astype(np.float64), line[2:].astype(np.float64)
    length = float(np.hypot(*(end - start)))
    points = start + np.linspace(0, 1, round(length))[:, None] * (end - start)
    across = np.array([start[1] - end[1], end[0] - start[0]]) / length

    def share(offset: float, reach: int = 1) -> NDArray[np.bool_]:
        seen = np.zeros(len(points), np.bool_)
        for step in range(-reach, reach + 1):
            x, y = np.clip(np.rint(points + (offset + step) * across), 0, _SIZE - 1).astype(int).T
            seen |= over[y, x] > 0
        return seen

    clear = ~share(8) & ~share(-8)
    return bool(share(0).mean() >= _SOLID and clear.mean() >= _CLEAR)
