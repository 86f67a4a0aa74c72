"""Degradation-aware feature interpolation (DAFI): per channel, how much to take from the prior and how much from the
picture, decided by the degradation representation alone (paper, equations 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.octaves import enlarge

Rule = Literal["interpolate", "half", "add"]


class DAFI(nn.Module):
    """Interpolates prior and image features at several resolutions.

    prior_channels and image_channels give the channels by resolution; both name the same resolutions.
    rule: "interpolate" is the paper's; the others are its ablations: "half" takes both by half, "add" their sum.
    """

    def __init__(
        self,
        dr_dim: int,
        prior_channels: Mapping[int, int],
        image_channels: Mapping[int, int],
        hidden: int = 256,
        kernel_size: int = 3,
        rule: Rule = "interpolate",
    ) -> None:
        super().__init__()
        self.rule = rule
        self.prior_channels = dict(sorted(prior_channels.items()))
        self.mlp = nn.Sequential(
            nn.Linear(dr_dim, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, 2 * sum(self.prior_channels.values())),
        )
        self.convs = nn.ModuleDict(
            {
                str(resolution): nn.Conv2d(image_channels[resolution], channels, kernel_size, padding=kernel_size // 2)
                for resolution, channels in self.prior_channels.items()
            }
        )

    @property
    def resolutions(self) -> list[int]:
        """Where features are interpolated, ascending."""
        return list(self.prior_channels)

    def weights(self, v: Tensor) -> dict[int, Tensor]:
        """v_DR [N, dr_dim] -> by resolution [N, 2, C]: (a_prior, a_image), which sum to 1 in each channel.

        v may be [N, levels, dr_dim] too: a v_DR for each resolution, ascending.
        """
        if self.rule != "interpolate":
            value = 0.5 if self.rule == "half" else 1.0
            return {r: v.new_full((len(v), 2, c), value) for r, c in self.prior_channels.items()}
        logits = self.mlp(v).split([2 * c for c in self.prior_channels.values()], -1)
        if v.ndim == 3:
            logits = [part[:, level] for level, part in enumerate(logits)]
        return {
            resolution: part.unflatten(1, (2, -1)).softmax(1)
            for resolution, part in zip(self.resolutions, logits, strict=True)
        }

    def forward(self, resolution: int, prior: Tensor, image: Tensor, weights: Tensor) -> Tensor:
        """F_DAFI [N, C, H, W] from the prior's [N, C, H, W] and the picture's features at `resolution`."""
        a_prior, a_image = weights[..., None, None].to(prior.dtype).unbind(1)
        return a_prior * prior + a_image * self.convs[str(resolution)](image)


class PictureDAFI(nn.Module):
    """DAFI's idea carried on to the picture itself (ours, not the paper's).

    The difference between what was given and what was generated is split into bands of detail (each an octave: sides
    S, S/2, …, and the rest), and v_DR decides for each band how much of it to make up for: everything in a nearly
    clean picture, only the coarse bands in a blurred or noisy one. So colour, light and whatever detail the damage
    left alone stay the person's own.
    """

    def __init__(self, dr_dim: int, bands: int = 6, hidden: int = 64) -> None:
        super().__init__()
        self.bands = bands
        last = nn.Linear(hidden, bands)
        self.mlp = nn.Sequential(nn.Linear(dr_dim, hidden), nn.LeakyReLU(0.1), last)
        # Before any training: coarse bands from the picture, fine ones from the prior.
        nn.init.normal_(last.weight, std=0.05)
        with torch.no_grad():
            last.bias.copy_(torch.linspace(-3.0, 3.0, bands))

    def weights(self, v: Tensor) -> Tensor:
        """v_DR [N, dr_dim] -> a_image [N, bands], finest band first."""
        return self.mlp(v).sigmoid()

    def forward(self, x: Tensor, generated: Tensor, weights: Tensor) -> Tensor:
        """x [N, 3, S, S] as given, generated [N, 3, kS, kS] with k = 1 or 2 -> the size of `generated`.

        weights: [N, bands] or, for a smaller version of the picture, those of the bands that it still has.
        """
        ratio = generated.shape[-1] // x.shape[-1]
        pyramid = [x - F.avg_pool2d(generated, ratio)]
        for _ in range(weights.shape[1] - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        a_image = weights[:, :, None, None, None].unbind(1)
        correction = a_image[-1] * pyramid[-1]
        for finer, coarser, a in zip(pyramid[-2::-1], pyramid[:0:-1], a_image[-2::-1], strict=True):
            correction = enlarge(correction - a * coarser) + a * finer
        return generated + (correction if ratio == 1 else enlarge(correction))
