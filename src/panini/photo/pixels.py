"""Pictures as arrays: uint8 [H, W, 3] RGB outside the network, float32 [3, H, W] in [-1, 1] inside it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.errors import PaniniError, one_line

Pixels = NDArray[np.uint8]
Signed = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the brightness (Rec. 601, as in JPEG)."""


def to_signed(picture: Pixels) -> Signed:
    """uint8 [H, W, 3] -> float32 [3, H, W] in [-1, 1]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32) / 127.5 - 1


def from_signed(picture: Signed) -> Pixels:
    """float [3, H, W], clipped to [-1, 1] -> uint8 [H, W, 3], rounded."""
    return np.rint((np.clip(picture, -1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)


def resize(picture: Pixels, size: int, interpolation: int) -> Pixels:
    """Resizes [H, W, C] to a square with an OpenCV interpolation. Returns the picture itself if the size is right."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=interpolation), np.uint8)


def laplacian_variance(crop: Pixels) -> float:
    """Sharpness of a square crop [S, S, 3]: the variance of its Laplacian at 256 pixels. Below about 50 it is soft."""
    small = resize(crop, 256, cv2.INTER_AREA if crop.shape[0] > 256 else cv2.INTER_CUBIC)
    return float(cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def decode_rgb(data: bytes, name: str) -> Pixels:
    """Decodes a picture to uint8 [H, W, 3] RGB. Raises PaniniError, with its name, if that fails."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise PaniniError(f"cannot read {name} as a picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def read_rgb(path: Path) -> Pixels:
    """Reads a picture file as uint8 [H, W, 3] RGB, without its metadata. Raises PaniniError."""
    try:
        return decode_rgb(path.read_bytes(), str(path))
    except OSError as error:
        raise PaniniError(f"cannot read {path}: {one_line(error)}") from error
