"""Degradation removal: removes noise, halftone dots and artifacts from the picture (not in the paper)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.deblur import cosines
from panini.models.initialize import zeroed

LUMA_AND_COLOR = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [-0.5, -0.5, 1.0], [1.0, -1.0, 0.0]]))
"""Orthonormal [3, 3]: luma and two color differences of RGB."""
_OPEN, _STEEP = 6.0, 10.0
"""Before any training, all but e^-6 of each frequency passes; the second makes steps of the optimizer large enough."""


class Residual(nn.Module):
    """x + conv(relu(conv(x))), [N, C, H, W] -> the same shape: EDSR's block (arXiv 1707.02921). Starts as the
    identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class DegradationRemoval(nn.Module):
    """Picture [N, 3, S, S] and v_DR -> estimated undamaged picture, [N, 3, S, S]: a U-Net.

    It is trained with L1 and, for pictures that have kept their detail, with a perceptual distance. So it is crisp for
    light damage; where detail is lost, it removes artifacts but stays smooth, and the prior generates that detail.
    GFPGAN (arXiv 2101.04061) has such a network under this name.

    v_DR scales and shifts the features of each level (FiLM, arXiv 1709.07871), so that the U-Net does not have to
    estimate the degradation again. It also decides how much of each frequency of the input passes around the U-Net, as
    in a Wiener filter: the U-Net would learn slowly to reproduce noise only to subtract it. The frequencies are those
    of the cosine transform of blocks of pixels, of luma and two color differences.

    channels: by downsampling factor, which doubles from level to level. down, up: number of blocks of the encoder and
    of the decoder, by factor. S is a multiple of the largest factor.
    """

    basis: Tensor

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
        self.scale_down = nn.ModuleDict({str(f): zeroed(nn.Linear(dr_dim, 2 * channels[f])) for f in factors})
        self.scale_up = nn.ModuleDict({f: zeroed(nn.Linear(dr_dim, 2 * channels[int(f)])) for f in self.decoder})
        self.passed = zeroed(nn.Linear(dr_dim, 3 * self.fold**2))
        self.register_buffer("basis", _basis(self.fold)[..., None, None], persistent=False)
        self.head = zeroed(nn.Conv2d(channels[self.fold], 3 * self.fold**2, 3, padding=1))

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        v = v / math.sqrt(v.shape[1])  # of length 1, to limit the effect of one optimizer step
        folded = F.pixel_unshuffle(x, self.fold)
        y = self.stem(folded)
        features = {}
        for f, blocks in self.encoder.items():
            y = _modulated(self.down[f](y) if f in self.down else y, self.scale_down[f](v))
            features[f] = y = blocks(y)
        for f, blocks in self.decoder.items():
            y = F.interpolate(self.up[f](y), scale_factor=2.0) + features[f]
            y = blocks(_modulated(y, self.scale_up[f](v)))
        held = (-_OPEN - _STEEP * self.passed(v)).sigmoid()[..., None, None]
        noise = F.conv2d(held * F.conv2d(folded, self.basis), self.basis.transpose(0, 1))
        return x + F.pixel_shuffle(self.head(y) - noise, self.fold).to(x.dtype)


def _basis(side: int) -> Tensor:
    """[3 side², 3 side²], orthonormal: the cosine transform of blocks of luma and of two color differences."""
    waves = cosines(side)
    return torch.kron(LUMA_AND_COLOR, torch.kron(waves, waves))


def _modulated(x: Tensor, change: Tensor) -> Tensor:
    """x [N, C, H, W] times 1 plus the first C of `change` [N, 2C], plus the others."""
    scale, shift = change[..., None, None].chunk(2, 1)
    return x * (1 + scale) + shift
