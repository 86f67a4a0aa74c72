"""The paper's prior: StyleGAN2 (arXiv 1912.04958), configuration F, one block per resolution, with its skip image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.prior.base import Prior, PriorState


def fir_kernel() -> Tensor:
    """The low-pass filter [4, 4] of upsampling; its sum is 4, because upsampling inserts zeros between the pixels."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = taps.outer(taps)
    return 4 * kernel / kernel.sum()


def activate(x: Tensor) -> Tensor:
    """LeakyReLU that approximately preserves the variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class EqualLinear(nn.Module):
    """Linear layer whose weights are stored at unit variance and scaled when used (equalized learning rate).

    lr_mul: learning-rate multiplier; scales weight and bias.
    """

    def __init__(self, c_in: int, c_out: int, bias: float = 0.0, lr_mul: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in) / lr_mul)
        self.bias = nn.Parameter(torch.full((c_out,), bias / lr_mul))
        self.gain = lr_mul / math.sqrt(c_in)
        self.lr_mul = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.lr_mul)


class ModulatedConv(nn.Module):
    """Convolution of [N, c_in, H, W] with input channels that are scaled by a style [N, latent_dim].

    demodulate: scale the outputs back to unit variance. up: double the size first (transposed convolution, low-pass).
    Scaling the input and the output is equivalent to scaling each sample's weights, without a grouped convolution.
    """

    kernel: Tensor

    def __init__(
        self, c_in: int, c_out: int, latent_dim: int, *, size: int = 3, demodulate: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, size, size))
        self.modulation = EqualLinear(latent_dim, c_in, bias=1.0)
        self.gain = 1 / math.sqrt(c_in * size**2)
        self.demodulate = demodulate
        self.up = up
        if up:
            self.register_buffer("kernel", fir_kernel(), persistent=False)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.modulation(style)  # [N, c_in]
        weight = self.weight * self.gain
        x = x * scale[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N, c_out, 2H + 1, 2W + 1]
            x = F.conv2d(x, self.kernel.expand(x.shape[1], 1, -1, -1), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            energy = scale.square() @ weight.square().sum((2, 3)).T  # [N, c_out]
            x = x * torch.rsqrt(energy + 1e-8)[:, :, None, None]
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, fixed noise [1, 1, resolution, resolution] of learned strength, bias, LeakyReLU."""

    noise: Tensor

    def __init__(self, c_in: int, c_out: int, latent_dim: int, resolution: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(c_in, c_out, latent_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))

    def forward(self, x: Tensor, style: Tensor, origin: tuple[int, int]) -> Tensor:
        x = self.conv(x, style)
        row, column = origin
        noise = self.noise[..., row : row + x.shape[2], column : column + x.shape[3]]
        return activate(x + self.noise_strength * noise + self.bias[:, None, None])


class ToRGB(nn.Module):
    """Features [N, C, H, W] -> their part of the picture [N, 3, H, W], added to the upsampled picture of the blocks
    before."""

    kernel: Tensor

    def __init__(self, c_in: int, latent_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(c_in, 3, latent_dim, size=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("kernel", fir_kernel(), persistent=False)

    def forward(self, x: Tensor, style: Tensor, image: Tensor | None) -> Tensor:
        rgb: Tensor = self.conv(x, style) + self.bias[:, None, None]
        if image is None:
            return rgb
        return rgb + F.conv_transpose2d(image, self.kernel.expand(3, 1, -1, -1), stride=2, padding=1, groups=3)


class StyleGAN2Block(nn.Module):
    """State of H x W -> state of 2H x 2W = `resolution`, picture included; three latents: w [N, 3, latent_dim]."""

    def __init__(self, c_in: int, c_out: int, latent_dim: int, resolution: int) -> None:
        super().__init__()
        self.conv1 = StyledConv(c_in, c_out, latent_dim, resolution, up=True)
        self.conv2 = StyledConv(c_out, c_out, latent_dim, resolution)
        self.to_rgb = ToRGB(c_out, latent_dim)

    def forward(self, state: PriorState, w: Tensor) -> PriorState:
        origin = (2 * state.origin[0], 2 * state.origin[1])
        features = self.conv1(state.features, w[:, 0], origin)
        features = self.conv2(features, w[:, 1], origin)
        return PriorState(features, self.to_rgb(features, w[:, 2], state.image), origin)


class StyleGAN2Prior(Prior):
    """StyleGAN2's generator (NVlabs, config-f): blocks 4 … size, two latents per block and one for the last picture.

    size: side of the picture, a power of two from 8 to 1024. Channels are `channel_base` / resolution, at most
    `channel_max`. The picture of a block is computed from its own features, before DAFI replaces them: fused features
    take effect from the next block on, as in the released network. Raises ValueError for any other size.
    """

    def __init__(
        self, size: int = 1024, channel_base: int = 32768, channel_max: int = 512, latent_dim: int = 512
    ) -> None:
        super().__init__()
        if size not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ValueError(f"a StyleGAN2 prior's size is a power of two from 8 to 1024, not {size}")
        resolutions = [4 << i for i in range(int(math.log2(size)) - 1)]
        self.size = size
        self.channels = {r: min(channel_max, channel_base // r) for r in resolutions}
        self.latents = 2 * len(resolutions)
        self.latent_dim = latent_dim
        self.mapping = nn.ModuleList(EqualLinear(latent_dim, latent_dim, lr_mul=0.01) for _ in range(8))
        self.constant = nn.Parameter(torch.randn(1, self.channels[4], 4, 4))
        self.conv = StyledConv(self.channels[4], self.channels[4], latent_dim, 4)
        self.to_rgb = ToRGB(self.channels[4], latent_dim)
        self.blocks = nn.ModuleDict(
            {str(r): StyleGAN2Block(self.channels[r // 2], self.channels[r], latent_dim, r) for r in resolutions[1:]}
        )

    def map(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for linear in self.mapping:
            x = activate(linear(x))
        return x

    def start(self, w: Tensor) -> PriorState:
        features = self.conv(self.constant.expand(w.shape[0], -1, -1, -1), w[:, 0], (0, 0))
        return PriorState(features, self.to_rgb(features, w[:, 1], None))

    def block(self, resolution: int, state: PriorState, w: Tensor) -> PriorState:
        first = 2 * int(math.log2(resolution)) - 5  # 8 -> 1: a block's last latent is the next one's first
        after: PriorState = self.blocks[str(resolution)](state, w[:, first : first + 3])
        return after

    def finish(self, state: PriorState, w: Tensor) -> Tensor:
        assert state.image is not None
        return state.image
