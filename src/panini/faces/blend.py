"""Puts a restored face back: in the photo's colour and light, and without a visible seam."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.faces.align import Transform, invert, scaled, warp

_FEATHER = 0.12  # of the crop's side: how far from its border the mask reaches 1
_MASK_SIZE = 256
_LIGHT_SIZE = 64  # side at which colour and light are compared,
_LIGHT_SIGMA = 3.0  # and what counts as light there: what this Gaussian leaves, about 1/20 of the face's crop
_TONE_SPREAD = 2.5  # of 255: a picture whose chroma strays less than this from its tone curve has one tone

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Pixels = NDArray[np.uint8]


def is_toned(image: Pixels) -> bool:
    """Whether a picture [H, W, 3] is grey, sepia or otherwise of one tone: its colour follows from its brightness."""
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
    luma, chroma = _split(small)
    return bool(np.std(chroma - _tone_of(luma, _tone_curve(luma, chroma))) < _TONE_SPREAD)


def match_colour(restored: Pixels, original: Pixels, *, toned: bool = False) -> Pixels:
    """`restored` [S, S, 3] with the low frequencies of `original` [T, T, 3], the same crop before.

    With `toned`, its colour follows from its brightness as it does in `original`: grey stays exactly grey.
    """
    size = (_LIGHT_SIZE, _LIGHT_SIZE)
    before, after = (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) for image in (original, restored)
    )
    light = cv2.GaussianBlur(before - after, (0, 0), _LIGHT_SIGMA, borderType=cv2.BORDER_REPLICATE)
    light = cv2.resize(light, restored.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    result = restored + light
    if toned:
        curve = _tone_curve(*_split(before))
        luma = np.rint(_split(result)[0])
        result = luma[..., None] + _tone_of(luma, curve)
    pixels: Pixels = np.rint(np.clip(result, 0, 255)).astype(np.uint8)
    return pixels


def paste(photo: Pixels, restored: Pixels, transform: Transform, crop_size: int, scale: int = 1) -> None:
    """Blends a restored crop [S, S, 3] into `photo` [H, W, 3], in place.

    `transform` takes the photo before it was enlarged `scale` times to a crop of side `crop_size`. Nothing changes
    where the feathered mask is zero, which it is from the crop's border outwards.
    """
    to_crop = scaled(transform, source=scale, target=restored.shape[0] / crop_size)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * restored.shape[0]
    to_photo = invert(to_crop)
    corners = corners @ to_photo[:, :2].T + to_photo[:, 2]
    limits = np.array(photo.shape[1::-1])
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, limits).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)), 0, limits).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    part = photo[y0:y1, x0:x1]
    to_part = to_photo - [[0, 0, x0], [0, 0, y0]]
    size = (int(x1 - x0), int(y1 - y0))
    face = warp(restored, to_part, size, border=cv2.BORDER_REPLICATE)
    mask = warp(
        feathered_mask(_MASK_SIZE),
        scaled(to_part, source=_MASK_SIZE / restored.shape[0]),
        size,
        border=cv2.BORDER_CONSTANT,
        interpolation=cv2.INTER_LINEAR,
    )[..., None]
    part[:] = np.rint(part + mask * np.subtract(face, part, dtype=np.float32)).astype(np.uint8)


def feathered_mask(size: int) -> NDArray[np.float32]:
    """[size, size] in [0, 1]: one inside, falling smoothly to zero at the border, with round corners."""
    ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) / (_FEATHER * (size - 1))
    ramp = np.clip(ramp, 0, 1)
    # The distance from the inner square, so that corners are round.
    inward = 1 - np.minimum(np.hypot(1 - ramp[:, None], 1 - ramp[None, :]), 1)
    mask: NDArray[np.float32] = (inward * inward * (3 - 2 * inward)).astype(np.float32)
    return mask


def _split(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Brightness [H, W] of a picture in [0, 255], and what its channels have beyond it [H, W, 3]."""
    luma = image @ _LUMA
    return luma, image - luma[..., None]


def _tone_curve(luma: NDArray[np.float32], chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chroma as a quadratic in brightness, least squares [3, 3]."""
    return np.linalg.lstsq(_powers(luma).reshape(-1, 3), chroma.reshape(-1, 3))[0]


def _tone_of(luma: NDArray[np.float32], curve: NDArray[np.float32]) -> NDArray[np.float32]:
    tone: NDArray[np.float32] = _powers(luma) @ curve
    return tone


def _powers(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([np.ones_like(luma), luma / 255, (luma / 255) ** 2], axis=-1)
