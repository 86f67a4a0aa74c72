"""Test-time augmentation: averages passes of the network over shifted and mirrored copies of a face.

This is the self-ensemble of EDSR (arXiv 1707.02921, section 3.4), with shifts instead of rotations because faces are
upright. Detail that differs between passes is invented, and averaging suppresses it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from panini.errors import PaniniError
from panini.inference.base import Array, Engine, EngineOutput

_SHIFTS = ((0, 0), (0, 0), (3, 1), (1, 5), (6, 2), (2, 6), (5, 4), (4, 3))
"""How far each pass shifts the face down and right, in pixels. Every second pass also mirrors it. The shifts differ
modulo 8, so passes do not share the 8-pixel grid of the network."""
MAX_PASSES = len(_SHIFTS)


def check_passes(passes: int) -> None:
    """Raises PaniniError unless `passes` is from 1 to `MAX_PASSES`."""
    if not 1 <= passes <= MAX_PASSES:
        raise PaniniError(f"passes must be from 1 to {MAX_PASSES}, not {passes}")


def restore_averaged(engine: Engine, faces: Array, v: Array, own: Array, passes: int) -> EngineOutput:
    """Averages `engine.restore` over `passes` passes. The first pass uses the unchanged faces.

    The shares are from the first pass. Raises PaniniError for an invalid number of passes.
    """
    check_passes(passes)
    first = engine.restore(faces, v, own)
    if passes == 1:
        return first
    ratio, size, total = engine.output_size // engine.input_size, engine.input_size, first.images.copy()
    count = np.ones(total.shape[2:], np.float32)
    for number, (down, right) in enumerate(_SHIFTS[1:passes], 1):
        flip = slice(None, None, -1 if number % 2 else 1)
        shifted = np.pad(faces, ((0, 0), (0, 0), (down, 0), (right, 0)), "reflect")[..., :size, :size]
        images = engine.restore(np.ascontiguousarray(shifted[..., flip]), v, own).images[..., flip]
        images = images[..., ratio * down :, ratio * right :]
        height, width = images.shape[2:]
        total[..., :height, :width] += images
        count[:height, :width] += 1
    return replace(first, images=total / count)
