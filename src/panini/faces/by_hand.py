"""Finds the face in a box that the user drew, where the detector found none."""

from __future__ import annotations

from copy import copy

import numpy as np

from panini.errors import PaniniError
from panini.faces.detect import Box, CenterFace, Detector, Face
from panini.photo.pixels import Pixels

SMALLEST = 8.0
"""Minimum side of a box, in pixels."""
_ASPECT = 0.75  # width by height of the detector's boxes
_LANDMARKS = np.array([[0.275, 0.4], [0.725, 0.4], [0.5, 0.61], [0.315, 0.757], [0.685, 0.757]])
"""Median positions of the detector's landmarks in its box, for upright frontal faces."""
_DOUBTFUL = 0.15  # the lowest score where the user marked a face


def face_in_box(detector: Detector, pixels: Pixels, box: Box) -> Face:
    """The face in `box` of a photo uint8 RGB [H, W, 3].

    If the detector finds none even with a low threshold, assumes an upright frontal face that fills the box, with
    score 0. Raises PaniniError if the box is tiny or its center is outside the photo.
    """
    x, y, w, h = box
    height, width = pixels.shape[:2]
    if not (w >= SMALLEST and h >= SMALLEST):
        raise PaniniError(f"a face must be at least {SMALLEST:g} pixels wide and high, not {w:g}x{h:g}")
    if not (0 <= x + w / 2 < width and 0 <= y + h / 2 < height and w <= 2 * width and h <= 2 * height):
        raise PaniniError(f"the box {x:g},{y:g},{w:g},{h:g} is not in the photo, which has {width}x{height} pixels")
    wide = (w * h * _ASPECT) ** 0.5
    place = np.array([x + w / 2 - wide / 2, y + h / 2 - wide / _ASPECT / 2])
    size = np.array([wide, wide / _ASPECT])
    guess = Face((*place.tolist(), *size.tolist()), 0.0, (place + size * _LANDMARKS).astype(np.float32))
    if not isinstance(detector, CenterFace):
        return guess
    lenient = copy(detector)  # which shares the network
    lenient.min_score, lenient.min_face = _DOUBTFUL, 0
    return lenient.look_again(pixels, guess) or guess
