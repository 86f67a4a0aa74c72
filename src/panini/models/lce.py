"""Latent code encoder (LCE): the prior's w+ from the coarsest image features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.initialize import zeroed


class LatentCodeEncoder(nn.Module):
    """The paper's: features [N, c_in, 4, 4] -> w+ [N, latents, latent_dim], by a convolution and a large linear
    layer."""

    def __init__(self, c_in: int = 512, hidden: int = 256, latents: int = 18, latent_dim: int = 512) -> None:
        super().__init__()
        self.c_in = c_in
        self.latents = latents
        self.conv = nn.Conv2d(c_in, hidden, 3, padding=1)
        self.activation = nn.LeakyReLU(0.2)
        self.linear = nn.Linear(hidden * 16, latents * latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.activation(self.conv(x)).flatten(1)).unflatten(1, (self.latents, -1))


class OffsetLatentCodeEncoder(nn.Module):
    """Features [N, c_in, 4, 4] -> w+ [N, latents, latent_dim]: the prior's mean w, one offset for all layers, and a
    low-rank difference for each layer that starts at zero."""

    def __init__(self, c_in: int, width: int = 1024, rank: int = 32, latents: int = 23, latent_dim: int = 512) -> None:
        super().__init__()
        self.c_in = c_in
        self.latents = latents
        self.norm = nn.GroupNorm(8, c_in)
        self.hidden = nn.Linear(c_in * 16, width)
        self.shared = nn.Linear(width, latent_dim)
        self.coefficients = zeroed(nn.Linear(width, latents * rank))
        self.basis = nn.Linear(rank, latent_dim, bias=False)
        self.register_buffer("mean", torch.zeros(latent_dim))

    def forward(self, x: Tensor) -> Tensor:
        code = F.silu(self.hidden(F.silu(self.norm(x)).flatten(1)))
        common = self.mean + self.shared(code)
        return common[:, None] + self.basis(self.coefficients(code).unflatten(1, (self.latents, -1)))
