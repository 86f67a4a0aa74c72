"""Discriminators: StyleGAN2's (arXiv 1912.04958, residual), and two with a logit for each place, for the prior's
features and for whole faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from panini.models.octaves import enlarge, octaves
from panini.models.prior.stylegan2 import EqualLinear, activate, fir_kernel


class EqualConv(nn.Module):
    """Convolution with equalized learning rate, with bias and activation if `activated`; halves the size if `down`
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
    """Picture [N, 3, size, size] in [-1, 1] -> logits [N], larger for real pictures.

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


class PriorFeatureDiscriminator(nn.Module):
    """The prior's features at one resolution, [N, C, r, r] -> [N, places]: a logit for each place, fine and coarse.

    Real samples are the prior's features of a sampled w, fake ones are fused features. This keeps fused features within
    the input distribution of the prior's last blocks. mean, spread: of each channel, [1, C, 1, 1]. Spectral
    normalization (arXiv 1802.05957).
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor, hidden: int = 128, coarse: int = 192) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone(), persistent=False)
        self.register_buffer("spread", spread.detach().clone(), persistent=False)
        self.fine = nn.Sequential(
            _normalized(mean.shape[1], hidden, 1),
            nn.LeakyReLU(0.2),
            _normalized(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.coarse = nn.Sequential(
            _normalized(hidden, coarse, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            _normalized(coarse, coarse, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.fine_logits, self.coarse_logits = _normalized(hidden, 1, 1), _normalized(coarse, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        # (features - mean) / spread, in one pass
        fine = self.fine(F.batch_norm(features, self.mean.flatten(), self.spread.flatten().square(), eps=1e-12))
        logits = self.fine_logits(fine), self.coarse_logits(self.coarse(fine))
        return torch.cat([part.float().flatten(1) for part in logits], 1)


class PatchDiscriminator(nn.Module):
    """Pictures [N, 3, S, S] in [-1, 1], S a multiple of 64 -> [N, places]: logits for patches of 50 pixels and for
    larger ones (PatchGAN, arXiv 1611.07004). Spectral normalization.

    It sees the two finest frequency bands, amplified: in the picture itself, they are too faint, and the discriminator
    does not learn.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 192, 256, 256)) -> None:
        super().__init__()
        layers, c_in = [], 24  # two bands, blocks of 2 x 2 pixels
        for width in widths:
            down = _normalized(c_in, width, 4, stride=2, padding=1)
            layers.append(
                nn.Sequential(down, nn.LeakyReLU(0.2), _normalized(width, width, 3, padding=1), nn.LeakyReLU(0.2))
            )
            c_in = width
        self.layers = nn.ModuleList(layers)
        self.fine_logits, self.coarse_logits = _normalized(widths[-3], 1, 1), _normalized(widths[-1], 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        finest, finer, _ = octaves(pictures, 3)
        x, logits = F.pixel_unshuffle(torch.cat((8 * finest, 4 * enlarge(finer)), 1), 2), []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == len(self.layers) - 3:
                logits.append(self.fine_logits(x))
        logits.append(self.coarse_logits(x))
        return torch.cat([part.float().flatten(1) for part in logits], 1)


def _normalized(c_in: int, c_out: int, size: int, stride: int = 1, padding: int = 0) -> nn.Module:
    conv = nn.Conv2d(c_in, c_out, size, stride, padding)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type] # random biases would drown the faint input
    return spectral_norm(conv)


def _spread(x: Tensor) -> Tensor:
    """[N, 1, H, W]: minibatch standard deviation in groups of four (or in the whole batch), the same everywhere."""
    group = 4 if len(x) % 4 == 0 else len(x)
    grouped = x.unflatten(0, (group, -1))
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
