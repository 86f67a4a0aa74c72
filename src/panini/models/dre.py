"""Degradation representation encoder (DRE): what kind of damage a picture has, and how much (paper, UDRL)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spectrum(nn.Module):
    """Picture [N, 3, H, W] in [-1, 1] -> [N, size]: what damage writes into a picture's frequencies (ours).

    Of lines of 64 pixels, across and down, the power at 32 frequencies, of luma and of chroma: log of the mean (blur
    and downsampling cut the high ones, noise fills them, JPEG empties those of chroma) and mean of the log (detail is
    sparse, noise is not). And how steep luma is, on average, at each of the eight places of a JPEG block, across and
    down. H and W are multiples of 64.
    """

    colors: Tensor
    waves: Tensor

    def __init__(self, line: int = 64) -> None:
        super().__init__()
        self.line = line
        frequencies = line // 2
        self.size = 2 * 2 * 2 * frequencies + 2 * 8
        luma = torch.tensor([0.299, 0.587, 0.114])
        colors = torch.stack((luma, torch.tensor([0.0, 0.0, 1.0]) - luma, torch.tensor([1.0, 0.0, 0.0]) - luma))
        self.register_buffer("colors", colors[:, :, None, None], persistent=False)
        phase = 2 * math.pi * torch.arange(line) / line * torch.arange(1, frequencies + 1)[:, None]
        waves = torch.cat((phase.cos(), phase.sin())) * torch.hann_window(line)
        self.register_buffer("waves", (waves - waves.mean(1, keepdim=True))[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.colors)
        features = []
        for lines in (x, x.transpose(2, 3)):
            n, _, height, width = lines.shape
            parts = F.conv2d(lines.reshape(3 * n, 1, height, width), self.waves, stride=(4, self.line // 2))
            power = parts.unflatten(1, (2, -1)).square().sum(1).flatten(2) + 1e-4  # about that of 8-bit rounding
            power = power.unflatten(0, (n, 3))  # [N, 3, frequencies, places]
            for value in (power.mean(3).log(), power.log().mean(3)):
                features += [value[:, 0], value[:, 1:].mean(1)]
            luma = lines[:, 0]
            steep = F.pad((luma[..., 1:] - luma[..., :-1]).abs().mean(1), (0, 1)) + 1e-4
            steep = steep.unflatten(1, (-1, 8)).mean(1)
            features.append((steep / steep.mean(1, keepdim=True)).log())
        return torch.cat(features, 1)


class DegradationEncoder(nn.Module):
    """Picture [N, 3, H, W] in [-1, 1] -> v_DR [N, widths[-1]]: convolutions, then the mean over the picture.

    Damage is a local statistic, so any size of picture may be given that the strides divide; `input_size` is what
    pictures are averaged down to first (the paper's 256), None keeps them as they are. `unshuffle` folds blocks of
    pixels into channels, which makes the first convolutions cheap without losing the finest detail. `normalise` takes
    from v_DR what all pictures share (batch norm without weights), which is most of it, and then gives each the same
    length (layer norm), so that it can't grow without bound. `spectrum` adds what the convolutions are slow to learn.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 64, 128, 128, 256, 256),
        strides: Sequence[int] = (1, 1, 2, 1, 2, 1),
        input_size: int | None = 256,
        unshuffle: int = 1,
        normalise: bool = False,
        spectrum: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.unshuffle = unshuffle
        self.dim = widths[-1]
        self.normalise = (
            nn.Sequential(nn.BatchNorm1d(self.dim, affine=False), nn.LayerNorm(self.dim, elementwise_affine=False))
            if normalise
            else nn.Identity()
        )
        layers: list[nn.Module] = []
        c_in = 3 * unshuffle**2
        for width, stride in zip(widths, strides, strict=True):
            layers += [nn.Conv2d(c_in, width, 3, stride, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
            c_in = width
        self.convs = nn.Sequential(*layers)
        self.spectrum: nn.Module | None = None
        if spectrum:
            frequencies = Spectrum()
            self.spectrum = nn.Sequential(
                frequencies,
                nn.BatchNorm1d(frequencies.size, affine=False),
                nn.Linear(frequencies.size, self.dim),
                nn.LeakyReLU(0.1),
                nn.Linear(self.dim, self.dim),
            )
        # Only the contrastive loss sees what comes out of it.
        self.projection = nn.Sequential(nn.Linear(self.dim, self.dim), nn.LeakyReLU(0.1), nn.Linear(self.dim, self.dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.input_size is not None:
            x = F.adaptive_avg_pool2d(x, self.input_size)
        v = self.convs(F.pixel_unshuffle(x, self.unshuffle)).mean((2, 3))
        if self.spectrum is not None:
            v = v + self.spectrum(x)
        return self.normalise(v)


class FixedDegradation(nn.Module):
    """One learned v_DR for every picture: the paper's SR network knows only one damage."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.dim = dim
        self.vector = nn.Parameter(torch.randn(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.vector.expand(x.shape[0], -1)
