"""Degradation removal: what the picture still shows of the face, without noise, dots and artifacts (ours, not the
paper's)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """x + conv(relu(conv(x))), [N, C, H, W] -> the same shape: EDSR's block (arXiv 1707.02921). Starts as x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class DegradationRemoval(nn.Module):
    """Picture [N, 3, S, S] and v_DR -> the most likely undamaged one, [N, 3, S, S]: a U-Net, trained by L1 alone.

    As L1 asks, it removes what is not of the face and invents nothing: where detail is lost the result is smooth, and
    the prior has to draw. GFPGAN (arXiv 2101.04061) has such a network under this name. v_DR scales and shifts the
    features of each level (FiLM, arXiv 1709.07871): how much noise there is need not be found out again.

    channels: by the factor that the picture is reduced by, finest first; each is half as large as the one before.
    down, up: blocks on the way down and back. S is a multiple of the last factor.
    """

    def __init__(
        self,
        dr_dim: int,
        channels: Mapping[int, int] = {4: 64, 8: 96, 16: 128},
        down: Mapping[int, int] = {4: 1, 8: 1, 16: 3},
        up: Mapping[int, int] = {8: 2, 4: 3},
    ) -> None:
        super().__init__()
        self.fold = min(channels)
        factors = sorted(channels)
        self.stem = nn.Conv2d(3 * self.fold**2, channels[self.fold], 3, padding=1)
        self.encoder = nn.ModuleDict({str(f): _blocks(channels[f], down[f]) for f in factors})
        self.down = nn.ModuleDict({str(f): nn.Conv2d(channels[f // 2], channels[f], 2, stride=2) for f in factors[1:]})
        self.up = nn.ModuleDict({str(f): nn.Conv2d(channels[2 * f], channels[f], 1) for f in factors[-2::-1]})
        self.decoder = nn.ModuleDict({str(f): _blocks(channels[f], up[f]) for f in factors[-2::-1]})
        self.scale_down = nn.ModuleDict({str(f): _film(dr_dim, channels[f]) for f in factors})
        self.scale_up = nn.ModuleDict({str(f): _film(dr_dim, channels[f]) for f in factors[-2::-1]})
        self.head = nn.Conv2d(channels[self.fold], 3 * self.fold**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        v = v / math.sqrt(v.shape[1])  # of length 1, or steps of the optimizer would change much at once
        y = self.stem(F.pixel_unshuffle(x, self.fold))
        features = {}
        for f, blocks in self.encoder.items():
            y = _modulated(self.down[f](y) if f in self.down else y, self.scale_down[f](v))
            features[f] = y = blocks(y)
        for f, blocks in self.decoder.items():
            y = F.interpolate(self.up[f](y), scale_factor=2.0) + features[f]
            y = blocks(_modulated(y, self.scale_up[f](v)))
        return x + F.pixel_shuffle(self.head(y), self.fold).to(x.dtype)


def _film(dr_dim: int, channels: int) -> nn.Linear:
    linear = nn.Linear(dr_dim, 2 * channels)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _modulated(x: Tensor, change: Tensor) -> Tensor:
    scale, shift = change[..., None, None].chunk(2, 1)
    return x * (1 + scale) + shift
