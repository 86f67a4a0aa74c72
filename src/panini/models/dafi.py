"""Degradation-aware feature interpolation (DAFI): per channel, the weights of the prior and of the picture, computed
from the degradation representation only (paper, equations 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.initialize import zeroed
from panini.models.octaves import enlarge

Rule = Literal["interpolate", "constant", "half", "add"]


class DAFI(nn.Module):
    """Interpolates prior and image features at several resolutions.

    prior_channels and image_channels give the channels by resolution; both name the same resolutions.
    rule: "interpolate" is the paper's; the others are ablations: "constant" learns weights that are the same for every
    picture, "half" averages both, "add" adds them.
    prior_share: the prior's share in every channel before training, in (0, 1); None: random, as in the paper.
    normalized: image features get the mean and the spread of the prior's in each channel (`set_statistics`), so that
    they start within the input distribution of the prior's last blocks.
    """

    def __init__(
        self,
        dr_dim: int,
        prior_channels: Mapping[int, int],
        image_channels: Mapping[int, int],
        hidden: int = 256,
        kernel_size: int | Mapping[int, int] = 3,
        rule: Rule = "interpolate",
        prior_share: float | None = None,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.prior_channels = dict(sorted(prior_channels.items()))
        self.mlp = nn.Sequential(
            nn.Linear(dr_dim, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, 2 * sum(self.prior_channels.values())),
        )
        self.convs = nn.ModuleDict()
        for resolution, channels in self.prior_channels.items():
            side = kernel_size if isinstance(kernel_size, int) else kernel_size.get(resolution, 1)
            self.convs[str(resolution)] = nn.Conv2d(image_channels[resolution], channels, side, padding=side // 2)

        if prior_share is not None:
            self._start_at(prior_share)
        self.normalized = normalized
        if normalized:
            for resolution, channels in self.prior_channels.items():
                self.register_buffer(f"mean{resolution}", torch.zeros(1, channels, 1, 1))
                self.register_buffer(f"spread{resolution}", torch.ones(1, channels, 1, 1))

    @torch.no_grad()
    def _start_at(self, prior_share: float) -> None:
        last: nn.Linear = self.mlp[2]  # type: ignore[assignment]
        last.weight.mul_(0.3)
        logit = math.log(prior_share / (1 - prior_share))
        for part in last.bias.split([2 * c for c in self.prior_channels.values()]):
            prior, image = part.chunk(2)
            prior.fill_(logit / 2)
            image.fill_(-logit / 2)

    @torch.no_grad()
    def set_statistics(self, features: Mapping[int, Tensor]) -> None:
        """Mean and spread of each channel, from the prior's own features [N, C, r, r] by resolution."""
        for resolution in self.resolutions:
            mean, spread = self.statistics(resolution)
            mean.copy_(features[resolution].mean((0, 2, 3), keepdim=True))
            spread.copy_(features[resolution].std((0, 2, 3), keepdim=True) + 1e-3)

    def statistics(self, resolution: int) -> tuple[Tensor, Tensor]:
        """Mean and spread of the prior's channels at a resolution, [1, C, 1, 1] each; only if `normalized`."""
        return getattr(self, f"mean{resolution}"), getattr(self, f"spread{resolution}")

    @property
    def resolutions(self) -> list[int]:
        """The resolutions at which features are interpolated, ascending."""
        return list(self.prior_channels)

    def weights(self, v: Tensor) -> dict[int, Tensor]:
        """v_DR [N, dr_dim] -> by resolution [N, 2, C]: (a_prior, a_image) in [0, 1]. They sum to 1 in each channel;
        with the rule "add", both are 1.

        v may be [N, levels, dr_dim] too: a v_DR for each resolution, ascending.
        """
        if self.rule == "constant":
            v = torch.zeros_like(v)
        elif self.rule != "interpolate":
            value = 0.5 if self.rule == "half" else 1.0
            return {r: v.new_full((len(v), 2, c), value) for r, c in self.prior_channels.items()}
        logits = self.mlp(v).split([2 * c for c in self.prior_channels.values()], -1)
        if v.ndim == 3:
            logits = [part[:, level] for level, part in enumerate(logits)]
        return {
            resolution: part.unflatten(1, (2, -1)).softmax(1)
            for resolution, part in zip(self.resolutions, logits, strict=True)
        }

    def forward(self, prior: Tensor, image: Tensor, weights: Tensor) -> Tensor:
        """F_DAFI [N, C, r, r] from the prior's features and the output of `image_features`, both [N, C, r, r], and the
        `weights` [N, 2, C] of this resolution."""
        a_prior, a_image = weights[..., None, None].to(prior.dtype).unbind(1)
        if self.rule in ("interpolate", "constant") and not torch.onnx.is_in_onnx_export():
            return torch.lerp(image.to(prior.dtype), prior, a_prior)  # same result, in one pass
        return a_prior * prior + a_image * image

    def image_features(self, resolution: int, image: Tensor) -> Tensor:
        """The picture's features for the interpolation: [N, image_channels, r, r] -> [N, C, r, r]."""
        conv: nn.Conv2d = self.convs[str(resolution)]  # type: ignore[assignment]
        if not self.normalized:
            return conv(image)
        # mean + spread * conv(image), without two more passes over the features
        mean, spread = self.statistics(resolution)
        assert conv.bias is not None
        weight, bias = conv.weight * spread.view(-1, 1, 1, 1), conv.bias * spread.flatten() + mean.flatten()
        return F.conv2d(image, weight, bias, padding=conv.padding)  # type: ignore[arg-type]


class PictureDAFI(nn.Module):
    """DAFI for the picture itself (not in the paper).

    From v_DR, it decides between the picture after degradation removal and the generated face. Only the lowest
    frequencies always come from the picture, so that color and light stay those of the photo. A combination of coarse
    contours of the one with fine ones of the other would have double contours and a leathery texture.

    levels: how often the size is halved to get the lowest frequencies. If the generated face is larger than the
    picture, its finer detail has the share that the generated face has.
    """

    def __init__(self, dr_dim: int, levels: int = 6, hidden: int = 64) -> None:
        super().__init__()
        self.levels = levels
        self.mlp = nn.Sequential(nn.Linear(dr_dim, hidden), nn.LeakyReLU(0.1), zeroed(nn.Linear(hidden, 1)))

    def share(self, v: Tensor) -> Tensor:
        """v_DR [N, dr_dim] -> a_image, the share of the picture, [N, 1] in [0, 1]. 0.5 before training."""
        share: Tensor = self.mlp(v).sigmoid()
        return share

    def forward(self, x: Tensor, generated: Tensor, share: Tensor) -> Tensor:
        """x [N, 3, S, S] (S a multiple of 2^levels), generated [N, 3, kS, kS] with k = 1 or 2, both about [-1, 1],
        share [N, 1] -> the size of `generated`, not clipped."""
        a = share[..., None, None]
        ratio = generated.shape[-1] // x.shape[-1]
        reduced = F.avg_pool2d(generated, ratio)
        difference = x - reduced
        lowest = F.avg_pool2d(difference, 2**self.levels)
        for _ in range(self.levels):
            lowest = enlarge(lowest)
        correction = lowest + a * (difference - lowest)
        if ratio == 1:
            return generated + correction
        return (1 - a) * generated + enlarge(correction + a * reduced)
