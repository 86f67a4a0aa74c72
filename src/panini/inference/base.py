"""What a `Restorer` needs of a network, and the least thing that offers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.report.calibration import Calibration

Array = NDArray[np.float32]


@dataclass(frozen=True)
class EngineOutput:
    """Restored faces."""

    images: Array
    """[N, 3, output_size, output_size], RGB in [-1, 1]."""
    prior_share: Array
    """[N, levels] in [0, 1]: how much of each of the network's levels, coarse to fine, came from the GAN prior."""
    image_share: Array
    """[N, bands] in [0, 1]: how much of each band of the input's own detail, deblurred, was kept, finest first. The
    bands are the octaves of `input_size`: what each halving loses, and last all that is left. One 0 if the network
    keeps nothing."""
    looks: tuple[int, ...] = ()
    """[N]: how many restorations each is the mean of; empty if all are single ones. The shares are the same in each."""


class Engine(Protocol):
    """Runs a network on aligned faces, float32 RGB [N, 3, input_size, input_size] in [-1, 1]."""

    input_size: int
    output_size: int
    levels: int
    """At how many resolutions, 4, 8, …, it interpolates between the prior and the picture."""
    digest: str
    """Of its weights file; empty if it has none."""
    calibration: Calibration | None
    """What was measured of these very weights."""

    def degradation(self, faces: Array, /) -> Array:
        """The degradation representation v_DR [N, 256] of the faces."""
        ...

    def restore(self, faces: Array, v: Array, own: Array | None = None, /) -> EngineOutput:
        """The faces restored, taking them to be damaged as `v` says: [N, 256], or a vector for each level, coarse to
        fine, and a last one for the bands of the input, [N, levels + 1, 256]. own: their `degradation`, if known."""
        ...


class BicubicEngine:
    """No network: bicubic enlargement. A baseline, and a way to test everything around a network."""

    input_size = 512
    output_size = 1024
    levels = 1
    digest = ""
    calibration: Calibration | None = None

    def degradation(self, faces: Array, /) -> Array:
        return np.zeros((len(faces), 256), np.float32)

    def restore(self, faces: Array, v: Array, own: Array | None = None, /) -> EngineOutput:
        size = (self.output_size, self.output_size)
        images = [cv2.resize(face.transpose(1, 2, 0), size, interpolation=cv2.INTER_CUBIC) for face in faces]
        stacked = np.stack(images).transpose(0, 3, 1, 2)
        none, all_ = np.zeros((len(faces), 1), np.float32), np.ones((len(faces), 1), np.float32)
        return EngineOutput(np.clip(stacked, -1, 1), none, all_)


def by_level(v: Array, own: Array, levels: int) -> Array:
    """What a network is told: v_DR [N, dim] or [N, levels + 1, dim], and the faces' own [N, dim], as
    [N, levels + 2, dim], float32."""
    rows = v if v.ndim == 3 else np.repeat(v[:, None], levels + 1, 1)
    return np.concatenate((rows, own[:, None]), 1, dtype=np.float32)
