"""Degradation representation encoder (DRE): the kind and the strength of a picture's degradation (paper, UDRL)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spectrum(nn.Module):
    """Picture [N, 3, H, W] in [-1, 1] -> [N, size]: statistics of the spectrum that depend on the degradation (not in
    the paper).

    The power of luma and chroma at 32 frequencies, in rows and columns of 64 pixels: log of the mean (blur and
    downsampling reduce high frequencies, noise increases them, JPEG removes those of chroma) and mean of the log
    (detail is sparse, noise is not). Also the mean gradient of luma at each of the eight positions in a JPEG block, in
    rows and columns. H and W are multiples of 64.
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

    Degradations are local, so pictures may have any size that the strides divide. `input_size`: size to which pictures
    are averaged down first (the paper's 256); None: unchanged. `unshuffle` folds blocks of pixels into channels, which
    makes the first convolutions cheap and preserves the finest detail. `normalize` removes the common part of all v_DR,
    which is most of it (batch norm without weights), and then gives each v_DR the same length (layer norm), which
    bounds it. `spectrum` adds features that convolutions learn slowly.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 64, 128, 128, 256, 256),
        strides: Sequence[int] = (1, 1, 2, 1, 2, 1),
        input_size: int | None = 256,
        unshuffle: int = 1,
        normalize: bool = False,
        spectrum: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.unshuffle = unshuffle
        self.dim = widths[-1]
        self.normalise = (  # spelled as in weights files
            nn.Sequential(nn.BatchNorm1d(self.dim, affine=False), nn.LayerNorm(self.dim, elementwise_affine=False))
            if normalize
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
        # Used only by the contrastive loss.
        self.projection = nn.Sequential(nn.Linear(self.dim, self.dim), nn.LeakyReLU(0.1), nn.Linear(self.dim, self.dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.input_size is not None:
            x = F.adaptive_avg_pool2d(x, self.input_size)
        v = self.convs(F.pixel_unshuffle(x, self.unshuffle)).mean((2, 3))
        if self.spectrum is not None:
            v = v + self.spectrum(x)
        return self.normalise(v)


class FixedDegradation(nn.Module):
    """One learned v_DR for every picture: the paper's SR network has a single degradation."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.dim = dim
        self.vector = nn.Parameter(torch.randn(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.vector.expand(x.shape[0], -1)
