"""The interface to a network that restores aligned faces, and the simplest implementation of it.

Shapes: N faces; S = `input_size`; T = `output_size`; L = `levels`; D = `dim`, the length of a v_DR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.weights.calibration import Calibration

Array = NDArray[np.float32]


@dataclass(frozen=True)
class EngineOutput:
    """Restored faces, and the shares that came from the prior and from the input."""

    images: Array
    """[N, 3, T, T], RGB, about [-1, 1]; not clipped."""
    prior_share: Array
    """[N, L] in [0, 1]: the share of each level of the network, coarse to fine, that came from the GAN prior."""
    image_share: Array
    """[N, 1] in [0, 1]: the share of the input, after degradation removal, in the result; the rest is generated. Only
    the lowest frequencies always come from the input. 0 if the network only generates."""


class Engine(Protocol):
    """Runs a network on aligned faces: float32 RGB [N, 3, S, S] in [-1, 1]."""

    input_size: int
    output_size: int
    levels: int
    """Number of resolutions (4, 8, ...) at which the network interpolates between the prior and the input."""
    dim: int
    digest: str
    """Digest of the weights file; empty if there is none."""
    calibration: Calibration | None
    """What `panini calibrate` measured for these weights."""

    def degradation(self, faces: Array, /) -> Array:
        """The degradation representation v_DR [N, D] of the faces."""
        ...

    def restore(self, faces: Array, v: Array, own: Array, /) -> EngineOutput:
        """Restores the faces as if their damage were `v`.

        v: [N, L + 1, D], one v_DR per level, coarse to fine, and one for the choice between the input and the generated
            face.
        own: [N, D], the faces' own `degradation`, which controls the deblurring.
        """
        ...


class BicubicEngine:
    """Bicubic enlargement without a network: a baseline, and a fast engine for tests."""

    input_size = 512
    output_size = 1024
    levels = 1
    dim = 256
    digest = ""
    calibration: Calibration | None = None

    def degradation(self, faces: Array, /) -> Array:
        return np.zeros((len(faces), self.dim), np.float32)

    def restore(self, faces: Array, v: Array, own: Array, /) -> EngineOutput:
        size = (self.output_size, self.output_size)
        images = [cv2.resize(face.transpose(1, 2, 0), size, interpolation=cv2.INTER_CUBIC) for face in faces]
        stacked = np.stack(images).transpose(0, 3, 1, 2)
        none, all_ = np.zeros((len(faces), 1), np.float32), np.ones((len(faces), 1), np.float32)
        return EngineOutput(np.clip(stacked, -1, 1), none, all_)


def at_every_level(v: Array, levels: int) -> Array:
    """Repeats a v_DR [N, D] for every level and for the input: [N, levels + 1, D]."""
    return np.repeat(v[:, None], levels + 1, 1)


def graph_input(v: Array, own: Array) -> Array:
    """The v_DR input of the exported network, [N, L + 2, D]: `v` [N, L + 1, D] followed by `own` [N, D]."""
    return np.concatenate((v, own[:, None]), 1, dtype=np.float32)
