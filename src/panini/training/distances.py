"""Distances and penalties for training the restorer, in addition to those of `panini.evaluation`. `objective.py`
assembles them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.evaluation.stlpips import STLPIPS
from panini.models.octaves import octaves
from panini.training.config import RestorerConfig

DETAIL_SIZE = 128
"""Size at which the lost detail of a picture is measured, in pixels."""


def stlpips_of(config: RestorerConfig) -> STLPIPS:
    """ST-LPIPS with the weights that the config names."""
    return STLPIPS(Path(config.perceptual_weights) if config.perceptual_weights else None)


class ShallowSTLPIPS(nn.Module):
    """ST-LPIPS over its first `depth` stages, [N, 3, H, W] in [-1, 1] twice -> [N]; no gradient for the second.

    Fewer stages allow smaller pictures: all five need about 128 pixels.
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
    """The paper's perceptual distance: mean squared difference of VGG16's features[21] (the third convolution of its
    fourth stage, before its activation), [N, 3, H, W] in [-1, 1] twice -> [N].

    Uses the VGG16 of ST-LPIPS, whose pooling is blurred. The paper used torchvision's.
    """

    def __init__(self, stlpips: STLPIPS) -> None:
        super().__init__()
        self.vgg = stlpips
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self._features(a) - self._features(b)).square().mean((1, 2, 3)).float()

    def _features(self, x: Tensor) -> Tensor:
        return self.vgg.before_activation(x, 3, 4)


def relative_l1(ours: Mapping[int, Tensor], truth: Mapping[int, Tensor], spread: Mapping[int, Tensor]) -> Tensor:
    """L1 of features [N, C, r, r] relative to each channel's spread [1, C, 1, 1], averaged over resolutions; a scalar.

    Features may be bfloat16. The number of passes over them is minimal.
    """
    distances = []
    for r, features in ours.items():
        difference = features - truth[r].to(features.dtype)
        of_channels = torch.linalg.vector_norm(difference, 1, (0, 2, 3)).float()
        distances.append((of_channels / spread[r].flatten()).sum() / features.numel())
    return torch.stack(distances).mean()


def error_left(ours: Tensor, given: Tensor, truth: Tensor) -> Tensor:
    """L1 of `ours` relative to L1 of `given`, [N, 3, S, S] each; a scalar. Nearly clean pictures count as much as
    heavily damaged ones."""
    with torch.no_grad():
        before = (given - truth).abs().mean((1, 2, 3))
    return ((ours - truth).abs().mean((1, 2, 3)) / (before + 0.01)).mean()


@torch.no_grad()
def lost_detail(photo: Tensor, truth: Tensor) -> Tensor:
    """Share of the original's finest frequency band that a photo lacks, [N, 3, s, s] twice -> [N] in [0, 1]: 1 - R² of
    a fit."""
    ours, true = (octaves(picture, 2)[0].flatten(1) for picture in (photo, truth))
    common = (ours * true).sum(1).clamp_min(0).square()
    return 1 - common / (ours.square().sum(1) * true.square().sum(1) + 1e-6)


def seem_real(logits: Tensor) -> Tensor:
    """The generator's loss for each sample, [N], from logits [N, places] or [N]: the non-saturating loss of StyleGAN2
    and the paper."""
    return F.softplus(-logits.float()).reshape(len(logits), -1).mean(1)


def tell_apart(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, from its logits of real and fake samples."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def r1(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406): the squared norm of the discriminator's gradient at real samples."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()
