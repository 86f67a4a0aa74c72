"""Degradation representation encoder (DRE): what kind of damage a picture has, and how much (paper, UDRL)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.nn.octaves import octaves


class DegradationEncoder(nn.Module):
    """Picture [N, 3, H, W] in [-1, 1] -> v_DR [N, widths[-1]]: convolutions, then the mean over the picture.

    Damage is a local statistic, so any size of picture may be given that the strides divide; `input_size` is what
    pictures are averaged down to first (the paper's 256), None keeps them as they are. `unshuffle` folds blocks of
    pixels into channels, which makes the first convolutions cheap without losing the finest detail. `normalise` takes
    from v_DR what all pictures share (batch norm without weights), which is most of it, and then gives each the same
    length (layer norm), so that it can't grow without bound. `octaves` adds what the convolutions are slow to learn: in
    each octave of detail the log of the mean square (blur empties the finest, noise fills them) and of the mean
    magnitude (detail is sparse, noise is not).
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 64, 128, 128, 256, 256),
        strides: Sequence[int] = (1, 1, 2, 1, 2, 1),
        input_size: int | None = 256,
        unshuffle: int = 1,
        normalise: bool = False,
        octaves: int = 0,
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
        self.octaves = octaves
        self.spectrum = (
            nn.Sequential(nn.BatchNorm1d(2 * octaves, affine=False), nn.Linear(2 * octaves, self.dim))
            if octaves
            else None
        )
        # Only the contrastive loss sees what comes out of it.
        self.projection = nn.Sequential(nn.Linear(self.dim, self.dim), nn.LeakyReLU(0.1), nn.Linear(self.dim, self.dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.input_size is not None:
            x = F.adaptive_avg_pool2d(x, self.input_size)
        v = self.convs(F.pixel_unshuffle(x, self.unshuffle)).mean((2, 3))
        if self.spectrum is not None:
            bands = octaves(x, self.octaves)
            sizes = [band.square().mean((1, 2, 3)) for band in bands] + [
                band.abs().mean((1, 2, 3)) ** 2 for band in bands
            ]
            v = v + self.spectrum(torch.stack(sizes, 1).clamp(min=1e-8).log())
        return self.normalise(v)


class FixedDegradation(nn.Module):
    """One learned v_DR for every picture: the paper's SR network knows only one damage."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.dim = dim
        self.vector = nn.Parameter(torch.randn(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.vector.expand(x.shape[0], -1)
