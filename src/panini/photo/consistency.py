"""Consistent super-resolution: makes a result that equals the input when it is downsampled again.

This is for inputs that are plain downsamplings of a picture. The kernel is Pillow's antialiased bicubic, which is usual
in super-resolution benchmarks. The result is projected onto the set of pictures that downsample to the input. This is
iterative, because values must stay in 0..255. Inputs that are not a downsampling of any picture, such as white noise,
are matched as closely as possible. Pillow rounds after each axis, so its 8-bit downsampling may differ by one level.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panini.errors import PaniniError
from panini.photo.pixels import Pixels

ENOUGH = 0.9  # of 255: the largest error that may remain
CLOSE = 10.0
"""Of 255, root mean square: below this error, a result is nearly consistent. Generated faces differ by 4 to 9 from a
plain downsampling to 64 pixels; if blur was removed, by more."""
ROUNDS = 100
RELAXATION = 1.5  # over-relaxation factor, which compensates for clipped values
LARGEST = 4096  # largest side of the input, in pixels: the kernel is inverted as one matrix

Array = NDArray[np.float32]


def consistent(result: Pixels, given: Pixels) -> Pixels:
    """Changes `result` [H, W, 3] as little as possible so that it downsamples to `given` [h, w, 3].

    Raises PaniniError if the result is not larger than the input, or the input is too large.
    """
    (height, width), (tall, wide) = given.shape[:2], result.shape[:2]
    if tall <= height or wide <= width:
        raise PaniniError("consistent needs a larger result: use a small --aligned face, or --scale 2 or 4")
    if max(height, width) > LARGEST:
        raise PaniniError(f"consistent works with photos of at most {LARGEST} pixels per side")
    down, across = _kernel(tall, height), _kernel(wide, width)
    up, along = _inverse(tall, height), _inverse(wide, width)
    channels = []
    for i in range(3):
        now, target = result[..., i].astype(np.float32), given[..., i].astype(np.float32)
        for _ in range(ROUNDS):
            missing = target - _shrunk(np.rint(now), down, across)
            if np.abs(missing).max() < ENOUGH:
                break
            now = np.clip(now + RELAXATION * (up @ missing @ along.T), 0, 255)
        channels.append(np.rint(now).astype(np.uint8))
    return np.stack(channels, -1)


def close(result: Pixels, given: Pixels) -> bool:
    """Whether `result` [H, W, 3] already downsamples to nearly `given` [h, w, 3]."""
    height, width = given.shape[:2]
    return bool(np.square(shrunk(result, (width, height)) - given).mean() < CLOSE**2)


def shrunk(picture: Pixels, size: tuple[int, int]) -> Array:
    """Downsamples [H, W, 3] to size = (width, height), without rounding."""
    down, across = _kernel(picture.shape[0], size[1]), _kernel(picture.shape[1], size[0])
    return np.stack([_shrunk(picture[..., i].astype(np.float32), down, across) for i in range(3)], -1)


def _shrunk(channel: Array, down: Array, across: Array) -> Array:
    """Rows first, values kept in 0..255 after each pass, as Pillow does with 8 bits."""
    return np.asarray(np.clip(down @ np.clip(channel @ across.T, 0, 255), 0, 255), np.float32)


@lru_cache(4)
def _kernel(long: int, short: int) -> Array:
    """[short, long]: Pillow's bicubic kernel as a matrix."""
    identity = Image.fromarray(np.eye(long, dtype=np.float32))
    return np.asarray(identity.resize((long, short), Image.Resampling.BICUBIC), np.float32)


@lru_cache(4)
def _inverse(long: int, short: int) -> Array:
    """[long, short]: the kernel's pseudo-inverse."""
    kernel = _kernel(long, short).astype(np.float64)
    return np.asarray(np.linalg.solve(kernel @ kernel.T, kernel).T, np.float32)
