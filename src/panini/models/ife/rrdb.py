"""The paper's feature extraction: residual-in-residual dense blocks, attention, then strided convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_RESIDUAL_SCALE = 0.2  # ESRGAN's, of every dense block and again of every three


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each with all features before it as input; [N, channels, H, W] -> the same shape."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + i * growth, growth if i < 4 else channels, 3, padding=1) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in self.convs[:-1]:
            seen = torch.cat((seen, F.leaky_relu(conv(seen), 0.2)), 1)
        return x + _RESIDUAL_SCALE * self.convs[-1](seen)


class RRDB(nn.Module):
    """Residual-in-residual dense block (ESRGAN, arXiv 1809.00219): three dense blocks with a skip connection."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return x + _RESIDUAL_SCALE * self.dense(x)


class CBAM(nn.Module):
    """Channel, then spatial attention (arXiv 1807.06521), the same 3x3 convolution before each; keeps the shape."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.channel_mlp = nn.Sequential(
            nn.Linear(channels, channels // reduction), nn.ReLU(), nn.Linear(channels // reduction, channels)
        )
        self.spatial_conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.spatial_norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        channel = self.channel_mlp(x.mean((2, 3))) + self.channel_mlp(x.amax((2, 3)))  # [N, C]
        x = self.conv(x * channel.sigmoid()[:, :, None, None])
        spatial = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)  # [N, 2, H, W]
        return x * self.spatial_norm(self.spatial_conv(spatial)).sigmoid()


def _conv(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.LeakyReLU(0.2))


class RRDBExtractor(nn.Module):
    """Picture [N, 3, S, S] in [-1, 1] -> {resolution: [N, width, resolution, resolution]}.

    channels, blocks, growth: of the dense blocks, which work at S. reduction: of the channel attention's MLP. head:
    (width, stride) of the convolutions from S to the first of `resolutions`, each half of the one before; the last
    width is that of all.
    """

    def __init__(
        self,
        *,
        channels: int,
        blocks: int,
        reduction: int,
        head: Sequence[tuple[int, int]],
        resolutions: Sequence[int] = (64, 32, 16, 8, 4),
        growth: int = 32,
    ) -> None:
        super().__init__()
        self.resolutions = tuple(resolutions)
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(RRDB(channels, growth) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.attention = CBAM(channels, reduction)
        widths = [channels, *(width for width, _ in head)]
        self.head = nn.Sequential(*(_conv(c_in, c_out, s) for c_in, (c_out, s) in zip(widths, head, strict=False)))
        self.down = nn.ModuleDict({str(r): _conv(widths[-1], widths[-1], 2) for r in self.resolutions[1:]})

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        x = self.stem(x)
        x = self.head(self.attention(x + self.body(x)))
        features = {self.resolutions[0]: x}
        for r in self.resolutions[1:]:
            features[r] = x = self.down[str(r)](x)
        return features
