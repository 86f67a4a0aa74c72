"""Distances and penalties that the restorer is trained with, beside those of `evaluation`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.evaluation.stlpips import STLPIPS
from panini.models.octaves import octaves


class ShallowSTLPIPS(nn.Module):
    """ST-LPIPS over its first `depth` stages, [N, 3, H, W] in [-1, 1] twice -> [N]; no gradient for the second.

    The fewer stages, the smaller the pictures may be: all five want about 128 pixels.
    """

    def __init__(self, stlpips: STLPIPS, depth: int = 5) -> None:
        super().__init__()
        self.stlpips = stlpips
        self.depth = depth

    def forward(self, ours: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = self.stlpips.features(truth, self.depth)
        return self.stlpips.distance(self.stlpips.features(ours, self.depth), theirs).float()


class VGGDistance(nn.Module):
    """The paper's perceptual distance: mean square difference of VGG16's features[21] (the third convolution of its
    fourth stage, before its activation), [N, 3, H, W] in [-1, 1] twice -> [N].

    torchvision's weights and max pooling if torchvision is there; else those of ST-LPIPS, whose VGG16 differs from it
    in that its pooling is blurred.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, stlpips: STLPIPS) -> None:
        super().__init__()
        self.vgg = stlpips
        self.torchvision: nn.Module | None = None
        try:
            from torchvision.models import VGG16_Weights, vgg16  # the user's own; never ours to require

            self.torchvision = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features[:22]
        except (ImportError, OSError):  # not installed, or its weights cannot be had offline
            pass
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self._features(a) - self._features(b)).square().mean((1, 2, 3)).float()

    def _features(self, x: Tensor) -> Tensor:
        if self.torchvision is None:
            return self.vgg.before_activation(x, 3, 4)
        features: Tensor = self.torchvision(((x + 1) / 2 - self.mean) / self.deviation)
        return features


def relative_l1(ours: Mapping[int, Tensor], truth: Mapping[int, Tensor], spread: Mapping[int, Tensor]) -> Tensor:
    """L1 of features [N, C, r, r] in units of each channel's spread [1, C, 1, 1], the mean over resolutions; a scalar.

    Features may be in bfloat16: they are gone over as few times as can be.
    """
    distances = []
    for r, features in ours.items():
        difference = features - truth[r].to(features.dtype)
        of_channels = torch.linalg.vector_norm(difference, 1, (0, 2, 3)).float()
        distances.append((of_channels / spread[r].flatten()).sum() / features.numel())
    return torch.stack(distances).mean()


@torch.no_grad()
def band_errors(photo: Tensor, generated: Tensor, truth: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How far photo and generated face are from the truth in each of `count` octaves, [N, 3, S, S] each -> [N, count]
    twice, finest first.

    L1 plus the difference of the mean amplitudes: by L1 alone a blurred band is as good as a sharp one that lies a
    pixel beside, and looks worse. In units of the mean amplitude of the batch's truth.
    """
    true = octaves(truth, count)
    amplitude = torch.stack([band.abs().mean((1, 2, 3)) for band in true], 1)

    def error(picture: Tensor) -> Tensor:
        rows = []
        for i, (ours, theirs) in enumerate(zip(octaves(picture, count), true, strict=True)):
            distance = (ours - theirs).abs().mean((1, 2, 3))
            rows.append(distance + (ours.abs().mean((1, 2, 3)) - amplitude[:, i]).abs())
        return torch.stack(rows, 1) / amplitude.mean(0)

    return error(photo), error(generated)


def error_left(ours: Tensor, given: Tensor, truth: Tensor) -> Tensor:
    """L1 of ours in units of L1 of what was given, [N, 3, S, S] each; a scalar. Nearly clean pictures count as much as
    heavily damaged ones."""
    with torch.no_grad():
        before = (given - truth).abs().mean((1, 2, 3))
    return ((ours - truth).abs().mean((1, 2, 3)) / (before + 0.01)).mean()


@torch.no_grad()
def lost_detail(photo: Tensor, truth: Tensor) -> Tensor:
    """How much of the truth's finest octave a photo lacks, [N, 3, s, s] twice -> [N] in [0, 1]: 1 - R² of a fit."""
    ours, true = (octaves(picture, 2)[0].flatten(1) for picture in (photo, truth))
    common = (ours * true).sum(1).clamp_min(0).square()
    return 1 - common / (ours.square().sum(1) * true.square().sum(1) + 1e-6)


def seem_real(logits: Tensor) -> Tensor:
    """What the generator minimises, for each sample [N] of logits [N, places] or [N]: the non-saturating loss of
    StyleGAN2 and the paper."""
    return F.softplus(-logits.float()).reshape(len(logits), -1).mean(1)


def tell_apart(real: Tensor, fake: Tensor) -> Tensor:
    """What a discriminator minimises, from its logits of real and fake samples."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def r1(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406): the squared length of the discriminator's gradient at real samples."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()
