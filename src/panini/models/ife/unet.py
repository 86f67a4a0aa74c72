"""The small network's feature extraction: a U-Net of inverted residuals, so that fine features have a global receptive
field."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """x + 1x1 (depth-wise 3x3 (1x1 (norm x))), `expansion` times as wide inside."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        inner = channels * expansion
        self.norm = nn.GroupNorm(1, channels)
        self.expand = nn.Conv2d(channels, inner, 1)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.project = nn.Conv2d(inner, channels, 1)
        nn.init.normal_(self.project.weight, std=0.2 / inner**0.5)  # near the identity at first

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.expand(self.norm(x)), 0.2)
        return x + self.project(F.leaky_relu(self.depthwise(y), 0.2))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(InvertedResidual(channels) for _ in range(count)))


class UNetExtractor(nn.Module):
    """Picture [N, 3, S, S] in [-1, 1] -> {resolution: [N, widths[resolution], resolution, resolution]}.

    widths: channels by resolution, a doubling chain from 4 up to S / 2. encoder and decoder: blocks by resolution
    (none where absent). Returns the resolutions in `outputs`, on the way up where the decoder reaches them.
    """

    def __init__(
        self,
        widths: Mapping[int, int],
        encoder: Mapping[int, int],
        decoder: Mapping[int, int],
        outputs: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.resolutions = sorted(widths)
        self.outputs = outputs
        top = self.resolutions[-1]
        self.stem = nn.Conv2d(12, widths[top], 3, padding=1)
        self.encoder = nn.ModuleDict({str(r): _blocks(widths[r], encoder.get(r, 0)) for r in self.resolutions})
        self.down = nn.ModuleDict(
            {str(r): nn.Conv2d(widths[2 * r], widths[r], 2, stride=2) for r in self.resolutions[:-1]}
        )
        rising = [r for r in self.resolutions[1:] if r <= max(outputs)]
        self.up = nn.ModuleDict({str(r): nn.Conv2d(widths[r // 2], widths[r], 1) for r in rising})
        self.decoder = nn.ModuleDict({str(r): _blocks(widths[r], decoder.get(r, 0)) for r in rising})

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        x = self.stem(F.pixel_unshuffle(x, 2))
        features = {}
        for r in reversed(self.resolutions):
            if r != self.resolutions[-1]:
                x = self.down[str(r)](x)
            features[r] = x = self.encoder[str(r)](x)
        for r in map(int, self.up):
            x = features[r] + F.interpolate(self.up[str(r)](features[r // 2]), scale_factor=2.0)
            features[r] = self.decoder[str(r)](x)
        return {r: features[r] for r in self.outputs}
