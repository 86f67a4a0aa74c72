"""Deblurring by v_DR: what a blur made small is made large again before any feature is extracted (ours, not the
paper's)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RINGS = 96
"""Of the spectrum, evenly spaced in the logarithm of their radius."""
_RING = 1 / 256  # where the first one ends


def cosines(size: int, device: torch.device | None = None) -> Tensor:
    """The orthonormal cosine transform (DCT-II) as a matrix [size, size]: `C @ x @ C.T` of a square picture x.

    It takes the picture for mirrored at its borders, so that filtering it rings there no more than elsewhere.
    """
    k = torch.arange(size, dtype=torch.float32, device=device)
    waves = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    return waves * torch.where(k == 0, math.sqrt(0.5), 1.0)[:, None]


def _frequencies(size: int, device: torch.device) -> Tensor:
    """[size, size]: the radial frequency of each of a picture's cosines, 1 at the highest along an axis."""
    k = torch.arange(size, dtype=torch.float32, device=device) / size
    return (k[:, None].square() + k.square()).sqrt()


def radii() -> Tensor:
    """[RINGS]: the middle of each ring, in units of the highest frequency along an axis."""
    edges = torch.exp(torch.linspace(math.log(_RING), math.log(math.sqrt(2)), RINGS))
    return (edges + torch.cat((torch.zeros(1), edges[:-1]))) / 2


def spectra(given: Tensor, truth: Tensor) -> Tensor:
    """[N, 3, S, S] twice -> [N, 3, RINGS]: sums over each ring of |x|², x·t and |t|², of the cosine transforms x of
    `given` and t of `truth`."""
    size = given.shape[-1]
    waves = cosines(size, given.device)
    radius = _frequencies(size, given.device)
    place = (radius / _RING).clamp_min(1e-6).log() / math.log(math.sqrt(2) / _RING) * (RINGS - 1)
    ring = (place.floor() + 1).clamp(0, RINGS - 1).long().flatten()
    x, t = (waves @ picture @ waves.T for picture in (given, truth))
    products = torch.stack((x * x, x * t, t * t), 1).sum(2).flatten(2)  # over the colors
    return products.new_zeros(len(given), 3, RINGS).index_add_(2, ring, products)


class Deblur(nn.Module):
    """Picture [N, 3, S, S] and v_DR -> the picture with its frequencies amplified as v_DR says that they were weakened.

    A Wiener filter whose gains a small network gives: a blur, or the kernel that a picture was made small with, leaves
    most frequencies there, only smaller, and a linear filter gets them back. Convolutions would have to learn that for
    every blur anew, and in half precision could not. No gain is under 1: noise is the rest of the network's to judge.

    Gains are those of `nodes` radial frequencies, evenly spaced in their logarithm from `LOWEST` to the corner of the
    spectrum, and between two of them their geometric interpolation; what is coarser stays.
    """

    LOWEST = 1 / 96
    """In units of the highest frequency along an axis: a wave of 192 pixels."""

    def __init__(self, dr_dim: int, nodes: int = 20, hidden: int = 128) -> None:
        super().__init__()
        self.nodes = nodes
        last = nn.Linear(hidden, nodes)
        self.mlp = nn.Sequential(nn.Linear(dr_dim, hidden), nn.LeakyReLU(0.1), last)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, -2.0)  # hardly any gain before any training

    def log_gains(self, v: Tensor) -> Tensor:
        """v_DR [N, dr_dim] -> natural logarithms of the gains at the nodes, [N, nodes]."""
        return F.softplus(self.mlp(v.float()) - 3.0)

    def at(self, radius: Tensor) -> Tensor:
        """What each node has of the logarithm of the gain at radial frequencies [...]: [nodes, ...]."""
        place = torch.log(radius.clamp_min(1e-6) / self.LOWEST) / math.log(math.sqrt(2.0) / self.LOWEST) * self.nodes
        number = torch.arange(1, self.nodes + 1, dtype=torch.float32, device=radius.device)  # 0: no gain there
        return (1 - (place - number.view(-1, *[1] * radius.ndim)).abs()).clamp_min(0)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        size = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):  # what is to be amplified is too small for bfloat16
            basis = self.at(_frequencies(size, x.device))
            gains = torch.exp(self.log_gains(v) @ basis.flatten(1)).unflatten(1, (1, size, size))
            waves = cosines(size, x.device)
            return waves.T @ (gains * (waves @ x.float() @ waves.T)) @ waves
