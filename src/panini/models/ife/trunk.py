"""The small network's feature extraction: most of its capacity at 32x32 and below, and one thin path at 64x64."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.initialize import zeroed

_SMALL = 128
"""Side of the reduced picture that the trunk reads, pixels."""


class Residual(nn.Module):
    """x + conv(conv(norm(x))), [N, C, H, W] -> the same shape. The last convolution starts at zero."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class TrunkExtractor(nn.Module):
    """Picture [N, 3, S, S] in [-1, 1], S a multiple of 128 -> {r: [N, channels[r], r, r]} for r in 4, 8, 16, 32, 64.

    An encoder reads the picture at 128x128 pixels, folded into 32x32, and goes down to 4x4; a decoder goes back up, so
    that fine features have a global receptive field. A thin path reads the picture at full size, folded into 64x64: the
    decoder uses it at 64, and the encoder receives it from 32 on. The 4x4 features are those of the encoder.

    encoder: channels by resolution, 4 to 64; decoder: channels by resolution, 8 to 64.
    """

    def __init__(
        self,
        encoder: Mapping[int, int] = {4: 384, 8: 256, 16: 128, 32: 64, 64: 64},
        decoder: Mapping[int, int] = {8: 256, 16: 192, 32: 192, 64: 96},
        input_size: int = 512,
    ) -> None:
        super().__init__()
        self.channels = {4: encoder[4], **decoder}
        self.fine = nn.Conv2d(3 * (input_size // 64) ** 2, encoder[64], 3, padding=1)
        self.fine_blocks = _blocks(encoder[64], 2)
        self.join = zeroed(nn.Conv2d(encoder[64], encoder[32], 2, stride=2))
        self.stem = nn.Conv2d(3 * (_SMALL // 32) ** 2, encoder[32], 3, padding=1)
        self.encoder = nn.ModuleDict({str(r): _blocks(encoder[r], 1 if r == 32 else 2) for r in (32, 16, 8, 4)})
        self.down = nn.ModuleDict({str(r): nn.Conv2d(encoder[2 * r], encoder[r], 2, stride=2) for r in (16, 8, 4)})
        self.up = nn.ModuleDict({str(r): nn.Conv2d(self.channels[r // 2], c, 1) for r, c in decoder.items()})
        self.skip = nn.ModuleDict({str(r): nn.Conv2d(encoder[r], c, 1) for r, c in decoder.items()})
        self.decoder = nn.ModuleDict({str(r): _blocks(c, 2) for r, c in decoder.items()})

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        side = x.shape[-1]
        fine = self.fine_blocks(self.fine(F.pixel_unshuffle(x, side // 64)))
        down = {64: fine}
        y = self.stem(F.pixel_unshuffle(F.avg_pool2d(x, side // _SMALL), _SMALL // 32)) + self.join(fine)
        for r in (32, 16, 8, 4):
            if r < 32:
                y = self.down[str(r)](y)
            down[r] = y = self.encoder[str(r)](y)
        features = {4: y}
        for r in map(int, self.decoder):
            y = F.interpolate(self.up[str(r)](y), scale_factor=2.0) + self.skip[str(r)](down[r])
            features[r] = y = self.decoder[str(r)](y)
        return features
