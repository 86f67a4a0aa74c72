"""Consistent super-resolution: a result that, made small again, is the input.

For inputs that are plain down-samplings of a picture. The kernel is Pillow's bicubic, which widens as the picture
shrinks and is what super-resolution is measured with. The result is projected onto the pictures that shrink to the
input: the least change that does it. Values are kept in 0..255, so it takes some rounds. An input that is no
down-sampling of anything (white noise, say) is met as nearly as these values can. Pillow itself rounds after each pass,
so its own 8-bit shrinking of the result may be one level off.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panini.errors import PaniniError
from panini.photo.pixels import Pixels

ENOUGH = 0.9
"""Of 255: the error that is left."""
CLOSE = 2.0
"""Of 255, root mean square: how nearly a result shrinks to its input where nothing in that had to be mended. Noise,
blur and JPEG are mended by more."""
ROUNDS = 100
HASTE = 1.5
"""How much more than what is missing is added: where values are clipped, others must make up for them."""
LARGEST = 4096
"""Pixels of the input's longer side: the kernel is solved as a whole."""

Array = NDArray[np.float32]


def consistent(result: Pixels, given: Pixels) -> Pixels:
    """`result` [H, W, 3] changed as little as possible so that `shrunk` to the size of `given` [h, w, 3] it is that.

    Raises PaniniError if the result is not larger than the input, for then there is nothing to choose, or the input is
    too large.
    """
    (height, width), (tall, wide) = given.shape[:2], result.shape[:2]
    if tall <= height or wide <= width:
        raise PaniniError("consistent wants a result larger than the input: a small --aligned face, or --scale 2 or 4")
    if max(height, width) > LARGEST:
        raise PaniniError(f"consistent takes photos of at most {LARGEST} pixels a side")
    down, across = _kernel(tall, height), _kernel(wide, width)
    up, along = _inverse(tall, height), _inverse(wide, width)
    channels = []
    for i in range(3):
        now, target = result[..., i].astype(np.float32), given[..., i].astype(np.float32)
        for _ in range(ROUNDS):
            missing = target - _shrunk(np.rint(now), down, across)
            if np.abs(missing).max() < ENOUGH:
                break
            now = np.clip(now + HASTE * (up @ missing @ along.T), 0, 255)
        channels.append(np.rint(now).astype(np.uint8))
    return np.stack(channels, -1)


def close(result: Pixels, given: Pixels) -> bool:
    """Whether `result` [H, W, 3], `shrunk` to the size of a smaller `given` [h, w, 3], is nearly that."""
    height, width = given.shape[:2]
    return bool(np.square(shrunk(result, (width, height)) - given).mean() < CLOSE**2)


def shrunk(picture: Pixels, size: tuple[int, int]) -> Array:
    """[H, W, 3] at size = (width, height) by the kernel, not rounded."""
    down, across = _kernel(picture.shape[0], size[1]), _kernel(picture.shape[1], size[0])
    return np.stack([_shrunk(picture[..., i].astype(np.float32), down, across) for i in range(3)], -1)


def _shrunk(channel: Array, down: Array, across: Array) -> Array:
    """Rows first, values kept in 0..255 after each pass, as Pillow does with 8 bits."""
    return np.asarray(np.clip(down @ np.clip(channel @ across.T, 0, 255), 0, 255), np.float32)


@lru_cache(4)
def _kernel(long: int, short: int) -> Array:
    """[short, long]: Pillow's bicubic, as a matrix."""
    identity = Image.fromarray(np.eye(long, dtype=np.float32))
    return np.asarray(identity.resize((long, short), Image.Resampling.BICUBIC), np.float32)


@lru_cache(4)
def _inverse(long: int, short: int) -> Array:
    """[long, short]: the kernel's pseudo-inverse."""
    kernel = _kernel(long, short).astype(np.float64)
    return np.asarray(np.linalg.solve(kernel @ kernel.T, kernel).T, np.float32)
