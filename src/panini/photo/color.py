"""Transfers color and light from a crop to its restored version."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.photo.pixels import LUMA, Pixels

_LIGHT_SIZE = 64  # side at which color and light are compared
_LIGHT_SIGMA = 3.0  # pixels at that size: the Gaussian that defines light, about 1/20 of the crop
_TINT_SIGMA = 1.5  # pixels at that size: the same for the tints of a nearly gray picture
_TONE_SPREAD = 2.5  # of 255: largest deviation of a monochrome picture's chroma from its tone curve


def is_monochrome(image: Pixels) -> bool:
    """Whether a picture [H, W, 3] has a single tone, such as gray or sepia: its brightness determines its color."""
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
    luma, chroma = _split(small)
    return bool(np.std(chroma - _tone_of(luma, _tone_curve(luma, chroma))) < _TONE_SPREAD)


def match_color(restored: Pixels, original: Pixels, *, monochrome: bool = False) -> Pixels:
    """Gives `restored` [S, S, 3] the low frequencies of `original` [T, T, 3], the same crop before restoration.

    monochrome: brightness determines color as in `original`, so gray stays exactly gray. Local tints in `original`,
    such as hand-tinted cheeks, are kept.
    """
    size = (_LIGHT_SIZE, _LIGHT_SIZE)
    before, after = (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) for image in (original, restored)
    )
    light = cv2.GaussianBlur(before - after, (0, 0), _LIGHT_SIGMA, borderType=cv2.BORDER_REPLICATE)
    light = cv2.resize(light, restored.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    result = restored + light
    if monochrome:
        gray, chroma = _split(before)
        curve = _tone_curve(gray, chroma)
        tint = cv2.GaussianBlur(chroma - _tone_of(gray, curve), (0, 0), _TINT_SIGMA, borderType=cv2.BORDER_REPLICATE)
        luma = np.rint(_split(result)[0])
        result = luma[..., None] + _tone_of(luma, curve)
        result += cv2.resize(tint, restored.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    pixels: Pixels = np.rint(np.clip(result, 0, 255)).astype(np.uint8)
    return pixels


def _split(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Brightness [H, W] of a picture in [0, 255], and the differences of its channels from it [H, W, 3]."""
    luma = image @ LUMA
    return luma, image - luma[..., None]


def _tone_curve(luma: NDArray[np.float32], chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coefficients [3, 3] of the least-squares quadratic from brightness to chroma."""
    return np.linalg.lstsq(_powers(luma).reshape(-1, 3), chroma.reshape(-1, 3))[0]


def _tone_of(luma: NDArray[np.float32], curve: NDArray[np.float32]) -> NDArray[np.float32]:
    tone: NDArray[np.float32] = _powers(luma) @ curve
    return tone


def _powers(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([np.ones_like(luma), luma / 255, (luma / 255) ** 2], axis=-1)
