"""Laplacian pyramids: pictures split into frequency bands."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_PHASE = torch.tensor([[0.125, 1.0, -0.125], [-0.125, 1.0, 0.125]])
_PHASES = torch.einsum("pi,qj->pqij", _PHASE, _PHASE).reshape(4, 1, 3, 3)
"""The filters of the four pixels that `enlarge` makes of one."""


def enlarge(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W], linear within each pixel with its neighbors' slope.

    The mean of each 2x2 block is the pixel it came from, so averaging down again gives exactly `x`.
    """
    kernel = _PHASES.to(x.dtype) if x.device.type == "cpu" else _phases(x.device, x.dtype)
    channels = x.shape[1]
    x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel.repeat(channels, 1, 1, 1), groups=channels)
    if torch.onnx.is_in_onnx_export():  # same result, ten times faster in ONNX Runtime
        places = torch.eye(4).reshape(4, 1, 2, 2).repeat(channels, 1, 1, 1)
        return F.conv_transpose2d(x, places, stride=2, groups=channels)
    return F.pixel_shuffle(x, 2)


@lru_cache(maxsize=8)
def _phases(device: torch.device, dtype: torch.dtype) -> Tensor:
    """`_PHASES` on a GPU: CUDA graphs cannot copy it there each time."""
    return _PHASES.to(device, dtype)


def octaves(x: Tensor, count: int) -> list[Tensor]:
    """[N, 3, S, S] -> `count` bands of sides S, S/2, …, finest first: the loss of each downsampling, and the rest."""
    bands = []
    for _ in range(count - 1):
        coarser = F.avg_pool2d(x, 2)
        bands.append(x - enlarge(coarser))
        x = coarser
    return [*bands, x]
