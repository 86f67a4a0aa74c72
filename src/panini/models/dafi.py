"""Degradation-aware feature interpolation (DAFI): per channel, the weights of the prior and of the picture, computed
from the degradation representation only (paper, equations 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.octaves import enlarge

LUMA_AND_COLOR = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [-0.5, -0.5, 1.0], [1.0, -1.0, 0.0]]))
"""Orthonormal [3, 3]: luma and two color differences of RGB."""
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

    Splits the difference between the input and the generated picture into the frequency bands of a Laplacian pyramid
    (sides S, S/2, …, and the rest). From v_DR, it decides up to which frequency the picture is better than the
    generated face: all bands of a nearly clean picture, only the coarse ones of a blurred or noisy picture. Bands below
    this cutoff come from the picture, the others from the generated face. This preserves the light and the undamaged
    detail of the input. Luma and color have a cutoff each, because noise and JPEG damage color at lower frequencies,
    and a gray picture has no color. The coarsest band always comes from the picture.

    The network gives a probability to each possible cutoff; the share of the picture in a band is the probability that
    the cutoff is beyond it. Generated detail beyond the input's resolution has the share that the generated face has of
    the finest band of luma.
    """

    colors: Tensor

    def __init__(self, dr_dim: int, bands: int = 7, hidden: int = 64) -> None:
        super().__init__()
        self.bands = bands
        last = nn.Linear(hidden, 2 * bands)
        self.mlp = nn.Sequential(nn.Linear(dr_dim, hidden), nn.LeakyReLU(0.1), last)
        nn.init.normal_(last.weight, std=0.05)  # before training, all cutoffs are about equally probable
        nn.init.zeros_(last.bias)
        self.register_buffer("colors", LUMA_AND_COLOR[:, :, None, None], persistent=False)

    def cutoffs(self, v: Tensor) -> Tensor:
        """v_DR [N, dr_dim] -> log of the probabilities of cutoffs, [N, 2, bands], of luma and of color. Cutoff k: the
        first k bands come from the generated face, the others from the picture."""
        return self.mlp(v).unflatten(1, (2, self.bands)).log_softmax(-1)

    def weights(self, v: Tensor) -> Tensor:
        """v_DR [N, dr_dim] -> a_image [N, 2, bands] of luma and of color, finest band first."""
        return self.cutoffs(v).exp().cumsum(-1).clamp(max=1)  # against rounding

    def forward(self, x: Tensor, generated: Tensor, weights: Tensor) -> Tensor:
        """x [N, 3, S, S] (the input, S a multiple of 2^(bands - 1)), generated [N, 3, kS, kS] with k = 1 or 2, both
        about [-1, 1] -> the size of `generated`, not clipped.

        weights: [N, 2, bands], finest first; for a picture that is smaller by 2^i, without the first i.
        """
        ratio = generated.shape[-1] // x.shape[-1]
        reduced = F.avg_pool2d(generated, ratio)
        pyramid = [F.conv2d(x - reduced, self.colors)]
        for _ in range(weights.shape[-1] - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        luma, color = weights[..., None, None].unbind(1)  # [N, bands, 1, 1]
        a_image = torch.stack((luma, color, color), 2).unbind(1)  # [N, 3, 1, 1] for each band
        correction = a_image[-1] * pyramid[-1]
        for finer, coarser, a in zip(pyramid[-2::-1], pyramid[:0:-1], a_image[-2::-1], strict=True):
            correction = enlarge(correction - a * coarser) + a * finer
        correction = F.conv2d(correction, self.colors.transpose(0, 1))  # the inverse of an orthonormal matrix
        if ratio == 1:
            return generated + correction
        finest = luma[:, :1]
        return (1 - finest) * generated + enlarge(correction + finest * reduced)
