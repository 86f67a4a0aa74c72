"""The FFHQ crop: an upright square around a face, computed from the eyes and the corners of the mouth.

A transform is a float64 [2, 3] matrix that maps x, y in one picture to x, y in another. The coordinates are continuous
(see `panini.faces.detect`), so that enlarging a picture multiplies them.
"""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Transform = NDArray[np.float64]
Picture = NDArray[np.uint8] | NDArray[np.float32]

DETECTED_ZOOM = 1.045
"""Landmarks of `CenterFace` are too far apart by this factor (median over faces with a known alignment)."""


def ffhq_transform(landmarks: NDArray[np.floating], size: int = 512, zoom: float = 1.0) -> Transform:
    """Similarity from the photo to its `size` x `size` crop, from landmarks [5, 2] as in `Face`.

    The horizontal axis of the crop is the mean of the eye line and the normal to the line from eyes to mouth. Its side
    is the larger of 4 eye distances and 3.6 eye-to-mouth distances (Karras et al., arXiv 1812.04948, appendix), divided
    by `zoom`.
    Raises ValueError if the landmarks coincide.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(landmarks, np.float64)
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    along, down = right_eye - left_eye, mouth - eyes
    axis = along + np.array([down[1], -down[0]])  # `down`, turned by 90 degrees to the right
    length = np.hypot(*axis)
    if length < 1e-6:
        raise ValueError("the landmarks coincide")
    half = max(2.0 * np.hypot(*along), 1.8 * np.hypot(*down)) / zoom
    (cos, sin), center = axis / length, eyes + 0.1 * down
    turn = np.array([[cos, sin], [-sin, cos]]) * (size / (2 * half))
    return np.hstack([turn, (size / 2 - turn @ center)[:, None]])


def invert(transform: Transform) -> Transform:
    """The inverse transform."""
    return np.asarray(cv2.invertAffineTransform(transform), np.float64)


def scaled(transform: Transform, *, source: float = 1, target: float = 1) -> Transform:
    """The same transform between pictures that are enlarged `source` and `target` times."""
    linear = transform[:, :2] * (target / source)
    return np.hstack([linear, transform[:, 2:] * target])


def scale_of(transform: Transform) -> float:
    """The factor by which lengths grow."""
    return float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))


def covered(shape: tuple[int, int], transform: Transform, side: int) -> NDArray[np.bool_]:
    """Mask [side, side] of the part of a crop that lies inside the picture of `shape` (height, width)."""
    back = invert(transform)
    x, y = (np.arange(side) + 0.5)[None], (np.arange(side) + 0.5)[:, None]
    across, down = (row[0] * x + row[1] * y + row[2] for row in back)
    return (across >= 0) & (across <= shape[1]) & (down >= 0) & (down <= shape[0])


def warp(
    image: Picture,
    transform: Transform,
    size: tuple[int, int],
    *,
    border: int = cv2.BORDER_REFLECT_101,
    interpolation: int = cv2.INTER_CUBIC,
) -> Picture:
    """Applies `transform` to `image` [H, W] or [H, W, C] (uint8 or float32); the result has size (width, height).

    Antialiased: if the transform shrinks, the image is averaged down first. Only the visible part is processed.
    """
    width, height = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ invert(transform).T
    margin = 4 / min(scale_of(transform), 1)  # reach of the kernels
    limits = (image.shape[1], image.shape[0])
    x0, y0 = (int(np.clip(v, 0, n - 1)) for v, n in zip(np.floor(corners.min(0) - margin), limits, strict=True))
    x1, y1 = (int(np.clip(v, 1, n)) for v, n in zip(np.ceil(corners.max(0) + margin), limits, strict=True))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    part: Any = image[y0:y1, x0:x1]
    # From here on, coordinates are relative to the part.
    transform = np.hstack([transform[:, :2], transform[:, :2] @ [[x0], [y0]] + transform[:, 2:]])
    shrink = scale_of(transform)
    if shrink < 1:
        w, h = (max(1, round(n * shrink)) for n in (x1 - x0, y1 - y0))
        part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
        transform = transform @ np.diag([(x1 - x0) / w, (y1 - y0) / h, 1.0])
    # In OpenCV, integer coordinates are the centers of pixels.
    shift = transform[:, :2] @ [0.5, 0.5] + transform[:, 2] - 0.5
    matrix = np.hstack([transform[:, :2], shift[:, None]])
    warped: Any = cv2.warpAffine(part, matrix, size, flags=interpolation, borderMode=border)
    return cast(Picture, warped)
