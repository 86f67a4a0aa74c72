"""Deblurring by v_DR: amplifies the frequencies that blur attenuated, before features are extracted (not in the
paper)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RINGS = 96
"""Rings of the spectrum, evenly spaced in the logarithm of their radius."""
_RING = 1 / 256  # outer radius of the first one


def cosines(size: int, device: torch.device | None = None) -> Tensor:
    """The orthonormal cosine transform (DCT-II) as a matrix [size, size]: `C @ x @ C.T` of a square picture x.

    It assumes a picture that is mirrored at its borders, so that filtering causes no additional ringing there.
    """
    k = torch.arange(size, dtype=torch.float32, device=device)
    waves = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    return waves * torch.where(k == 0, math.sqrt(0.5), 1.0)[:, None]


def _frequencies(size: int, device: torch.device) -> Tensor:
    """[size, size]: the radial frequency of each of a picture's cosines, 1 at the highest along an axis."""
    k = torch.arange(size, dtype=torch.float32, device=device) / size
    return (k[:, None].square() + k.square()).sqrt()


def radii() -> Tensor:
    """[RINGS]: the middle of each ring, relative to the highest frequency along an axis."""
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
    """Picture [N, 3, S, S] and v_DR -> the picture with its frequencies amplified by gains predicted from v_DR.

    A small network predicts the gains of a Wiener filter: blur and downsampling attenuate most frequencies without
    removing them, so a linear filter can restore them. Convolutions would have to learn this separately for each blur,
    and half precision would not suffice. Gains are at least 1: the rest of the network handles noise.

    Gains are predicted at `nodes` radial frequencies, evenly spaced in their logarithm from `LOWEST` to the corner of
    the spectrum, and interpolated geometrically between these. Lower frequencies are unchanged.
    """

    LOWEST = 1 / 96
    """Relative to the highest frequency along an axis: a wavelength of 192 pixels."""

    def __init__(self, dr_dim: int, nodes: int = 20, hidden: int = 128) -> None:
        super().__init__()
        self.nodes = nodes
        last = nn.Linear(hidden, nodes)
        self.mlp = nn.Sequential(nn.Linear(dr_dim, hidden), nn.LeakyReLU(0.1), last)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, -2.0)  # almost no gain before training

    def log_gains(self, v: Tensor) -> Tensor:
        """v_DR [N, dr_dim] -> natural logarithms of the gains at the nodes, [N, nodes]."""
        return F.softplus(self.mlp(v.float()) - 3.0)

    def at(self, radius: Tensor) -> Tensor:
        """Interpolation weights of the nodes at radial frequencies [...]: [nodes, ...]."""
        place = torch.log(radius.clamp_min(1e-6) / self.LOWEST) / math.log(math.sqrt(2.0) / self.LOWEST) * self.nodes
        number = torch.arange(1, self.nodes + 1, dtype=torch.float32, device=radius.device)  # 0: no gain there
        return (1 - (place - number.view(-1, *[1] * radius.ndim)).abs()).clamp_min(0)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        size = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):  # small values to be amplified need float32
            basis = self.at(_frequencies(size, x.device))
            gains = torch.exp(self.log_gains(v) @ basis.flatten(1)).unflatten(1, (1, size, size))
            waves = cosines(size, x.device)
            return waves.T @ (gains * (waves @ x.float() @ waves.T)) @ waves
