"""Several looks at each face, averaged: what a network imagines differently each time is not of the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from panini.errors import PaniniError
from panini.inference.base import Array, Engine, EngineOutput
from panini.report.calibration import Calibration
from panini.report.face_report import adds, damages

LOOKS = 2
"""At a face over which something lies, if nothing else is asked for."""
_MOVES = ((0, 0), (0, 0), (3, 1), (1, 5), (6, 2), (2, 6), (5, 4), (4, 3))
"""Pixels down and right by which each look's face is moved. Every second is mirrored, too. No two of a network's grids
coincide before 8 pixels."""


class Ensemble:
    """Another engine's mean over several looks at each face, the first at the face as it is: the self-ensemble of EDSR
    (arXiv 1707.02921, section 3.4), but moved where that turns, for a face is upright.

    looks: how many, 1 to 8; by default `LOOKS` for a face over which something lies (noise, a codec:
    `panini.report.face_report.adds`), to judge by the calibration, and one for others and where nothing is calibrated.
    What such damage makes a network draw, serrated, embossed or splintered, lies elsewhere in every look and is
    averaged out; where a picture has only lost detail, the mean of several that were imagined is a blurred one. Raises
    PaniniError for other numbers.

    calibration: to judge by in place of the engine's, as long as that is being made.
    """

    def __init__(self, engine: Engine, looks: int | None = None, calibration: Calibration | None = None) -> None:
        if looks is not None and not 1 <= looks <= len(_MOVES):
            raise PaniniError(f"looks must be from 1 to {len(_MOVES)}, not {looks}")
        self.looks = looks
        self.calibration = engine.calibration if calibration is None else calibration
        self.input_size = engine.input_size
        self.output_size = engine.output_size
        self.levels = engine.levels
        self.digest = engine.digest
        self._engine = engine

    def degradation(self, faces: Array, /) -> Array:
        """v_DR [N, 256] of faces [N, 3, input_size, input_size], as they are."""
        return self._engine.degradation(faces)

    def restore(self, faces: Array, v: Array, own: Array | None = None, /) -> EngineOutput:
        """Faces [N, 3, input_size, input_size] restored as `v` [N, 256] or [N, levels + 1, 256] says."""
        own = self.degradation(faces) if own is None else own
        output = self._engine.restore(faces, v, own)
        looks = tuple(map(self._enough, own))
        images = output.images.copy() if any(count > 1 for count in looks) else output.images
        for i, count in enumerate(looks):
            if count > 1:
                one = slice(i, i + 1)
                images[i] = self._mean(faces[one], v[one], own[one], images[i], count)
        return replace(output, images=images, looks=looks)

    def settled(self, own: Array) -> Ensemble:
        """The same with as many looks at every face as this takes at the one whose v_DR [256] is `own`: from one frame
        of a video to the next the number is not to change."""
        return Ensemble(self._engine, self._enough(own), self.calibration)

    def _mean(self, face: Array, v: Array, own: Array, first: Array, looks: int) -> Array:
        """Of `looks` looks at one face: the `first`, [3, output_size, output_size], and others."""
        ratio, size, total = self.output_size // self.input_size, self.input_size, first.copy()
        seen = np.ones(first.shape[1:], np.float32)
        for look, (down, right) in enumerate(_MOVES[1:looks], 1):
            turn = slice(None, None, -1 if look % 2 else 1)
            moved = np.pad(face, ((0, 0), (0, 0), (down, 0), (right, 0)), "reflect")[..., :size, :size]
            there = self._engine.restore(np.ascontiguousarray(moved[..., turn]), v, own).images[0][..., turn]
            there = there[:, ratio * down :, ratio * right :]
            _, height, width = there.shape
            total[:, :height, :width] += there
            seen[:height, :width] += 1
        return total / seen

    def _enough(self, own: Array) -> int:
        """How many looks at the face whose v_DR [256] that is."""
        if self.looks is not None:
            return self.looks
        return LOOKS if self.calibration is not None and adds(damages(self.calibration, own)) else 1
