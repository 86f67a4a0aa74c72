"""The small network's feature extraction: most of its capacity at 32x32 and below, and one thin path at 64x64."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.initialize import zeroed

_FOLD = 4
"""The trunk reads the picture folded by so much: blocks of 4 x 4 pixels become channels."""


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
    """Picture [N, 3, input_size, input_size] in [-1, 1] -> {r: [N, channels[r], r, r]}, r from 4 to the finest.

    With the default sizes: an encoder reads the picture at 128x128 pixels, folded into 32x32, and goes down to 4x4; a
    decoder goes back up, so that fine features have a global receptive field. A thin path reads the picture at full
    size, folded into 64x64, the finest: the decoder uses it there, and the encoder receives it one level below. The 4x4
    features are those of the encoder.

    encoder: channels by resolution, from 4 to the finest; decoder: channels by resolution, from 8 to the finest.
    """

    def __init__(
        self,
        encoder: Mapping[int, int] = {4: 384, 8: 256, 16: 128, 32: 64, 64: 64},
        decoder: Mapping[int, int] = {8: 256, 16: 192, 32: 192, 64: 96},
        input_size: int = 512,
    ) -> None:
        super().__init__()
        self.channels = {4: encoder[4], **decoder}
        self.finest = finest = max(encoder)
        *rest, top = sorted(encoder)[:-1]
        self.fine = nn.Conv2d(3 * (input_size // finest) ** 2, encoder[finest], 3, padding=1)
        self.fine_blocks = _blocks(encoder[finest], 2)
        self.join = zeroed(nn.Conv2d(encoder[finest], encoder[top], 2, stride=2))
        self.stem = nn.Conv2d(3 * _FOLD**2, encoder[top], 3, padding=1)
        self.encoder = nn.ModuleDict({str(top): _blocks(encoder[top], 1)})
        self.down = nn.ModuleDict()
        for r in reversed(rest):
            self.encoder[str(r)] = _blocks(encoder[r], 2)
            self.down[str(r)] = nn.Conv2d(encoder[2 * r], encoder[r], 2, stride=2)
        self.up = nn.ModuleDict({str(r): nn.Conv2d(self.channels[r // 2], c, 1) for r, c in decoder.items()})
        self.skip = nn.ModuleDict({str(r): nn.Conv2d(encoder[r], c, 1) for r, c in decoder.items()})
        self.decoder = nn.ModuleDict({str(r): _blocks(c, 2) for r, c in decoder.items()})

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        side, small = x.shape[-1], _FOLD * self.finest // 2
        fine = self.fine_blocks(self.fine(F.pixel_unshuffle(x, side // self.finest)))
        down = {self.finest: fine}
        y = self.stem(F.pixel_unshuffle(F.avg_pool2d(x, side // small), _FOLD)) + self.join(fine)
        for r, blocks in self.encoder.items():
            if r in self.down:
                y = self.down[r](y)
            down[int(r)] = y = blocks(y)
        features = {4: y}
        for r, blocks in self.decoder.items():
            y = F.interpolate(self.up[r](y), scale_factor=2.0) + self.skip[r](down[int(r)])
            features[int(r)] = y = blocks(y)
        return features
