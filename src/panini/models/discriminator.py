"""The opponents in adversarial training: StyleGAN2's discriminator (arXiv 1912.04958, residual), and one that judges
the features of a network that is trained already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.prior.stylegan2 import EqualLinear, activate, fir_kernel


class EqualConv(nn.Module):
    """Convolution with equalised learning rate, an activation and its bias if `activated`; halves the size if `down`
    (low-pass first)."""

    kernel: Tensor

    def __init__(self, c_in: int, c_out: int, size: int, down: bool = False, activated: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, size, size))
        self.bias = nn.Parameter(torch.zeros(c_out)) if activated else None
        self.gain = 1 / math.sqrt(c_in * size**2)
        self.down = down
        if down:
            self.register_buffer("kernel", fir_kernel() / 4, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        size = self.weight.shape[-1]
        if self.down:
            x = F.conv2d(x, self.kernel.expand(x.shape[1], 1, -1, -1), padding=size // 2 + 1, groups=x.shape[1])
            x = F.conv2d(x, self.weight * self.gain, stride=2)
        else:
            x = F.conv2d(x, self.weight * self.gain, padding=size // 2)
        return x if self.bias is None else activate(x + self.bias[:, None, None])


class DiscriminatorBlock(nn.Module):
    """[N, c_in, H, W] -> [N, c_out, H / 2, W / 2], with a skip connection."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(c_in, c_in, 3)
        self.conv2 = EqualConv(c_in, c_out, 3, down=True)
        self.skip = EqualConv(c_in, c_out, 1, down=True, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    """Picture [N, 3, size, size] in [-1, 1] -> [N]: how real it looks (a logit).

    size: a power of two from 8. Channels are `channel_base` / resolution, at most `channel_max`.
    """

    def __init__(self, size: int = 1024, channel_base: int = 32768, channel_max: int = 512) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"a discriminator's size is a power of two from 8, not {size}")
        resolutions = [size >> i for i in range(int(math.log2(size)) - 1)]  # size … 4
        channels = [min(channel_max, channel_base // r) for r in resolutions]
        self.from_rgb = EqualConv(3, channels[0], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(before, after) for before, after in pairwise(channels))
        self.conv = EqualConv(channels[-1] + 1, channels[-1], 3)
        self.linear1 = EqualLinear(channels[-1] * 16, channels[-1])
        self.linear2 = EqualLinear(channels[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.from_rgb(x)
        for block in self.blocks:
            x = block(x)
        x = self.conv(torch.cat((x, _spread(x)), 1))
        return self.linear2(activate(self.linear1(x.flatten(1))))[:, 0]


class FeatureDiscriminator(nn.Module):
    """Features [N, channels[i], H_i, W_i] of a picture, finest first -> [N, places]: how real each place looks to each
    of its heads (logits).

    What a network that is trained already sees of a picture is a better start than its pixels ("Projected GANs", arXiv
    2111.01007), and where a perceptual distance asks for it anyway, judging it costs little. Vectors have unit length.
    """

    def __init__(self, channels: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.gains = [math.sqrt(c) for c in channels]
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, hidden, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(hidden, 1, 1),
            )
            for c in channels
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        height, width = features[-1].shape[-2:]  # of the coarsest: every head has as many, and so as much to say
        logits = [head(gain * x) for head, gain, x in zip(self.heads, self.gains, features, strict=True)]
        return torch.cat([F.adaptive_avg_pool2d(x.float(), (height, width)).flatten(1) for x in logits], 1)


def _spread(x: Tensor) -> Tensor:
    """[N, 1, H, W]: how unlike the pictures of a group of four (or of an odd batch) are, the same everywhere."""
    group = 4 if len(x) % 4 == 0 else len(x)
    grouped = x.unflatten(0, (group, -1))
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
