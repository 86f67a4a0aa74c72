"""The small prior: MobileStyleGAN (arXiv 2104.04767): wavelet coefficients and separable convolutions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.prior.base import Prior, PriorState


def inverse_haar(ll: Tensor, details: Tensor) -> Tensor:
    """One level of the inverse Haar wavelet transform.

    ll: [N, C, H, W]; details: [N, 3C, H, W], for each channel its (lh, hl, hh). Returns [N, C, 2H, 2W].
    """
    details = details.unflatten(1, (-1, 3))
    if torch.onnx.is_in_onnx_export():  # same result, ten times faster in ONNX Runtime
        patterns = ll.new_tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]])
        kernel = 0.5 * patterns[:, None].repeat(ll.shape[1], 1, 1, 1)
        coefficients = torch.cat((ll[:, :, None], details), 2).flatten(1, 2)
        return F.conv_transpose2d(coefficients, kernel, stride=2, groups=ll.shape[1])
    ll, (lh, hl, hh) = ll * 0.5, (details * 0.5).unbind(2)
    even, odd, sum_, difference = ll + lh, ll - lh, hl + hh, hl - hh
    rows = (
        torch.stack((left.permute(0, 2, 3, 1), right.permute(0, 2, 3, 1)), 3)
        for left, right in ((even + sum_, even - sum_), (odd + difference, odd - difference))
    )
    pixels = torch.stack(tuple(rows), 2)  # [N, H, 2, W, 2, C]: channels last, which is faster
    return pixels.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """Style [N, latent_dim] -> scales of the channels, [N, C, 1, 1]; `fan_in` weights are counted in (He)."""

    def __init__(self, channels: int, latent_dim: int, fan_in: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, channels)
        self.gain = 1 / math.sqrt(fan_in)

    def forward(self, style: Tensor) -> Tensor:
        return (self.linear(style) * self.gain)[:, :, None, None]


class StyledConv(nn.Module):
    """3x3 convolution (depth-wise then 1x1 if `separable`), fixed noise, bias, LeakyReLU.

    Its input is to be scaled by `modulation` of the style first. Demodulation is a constant in this prior, folded into
    the weights.
    """

    noise: Tensor

    def __init__(self, c_in: int, c_out: int, latent_dim: int, resolution: int, separable: bool = True) -> None:
        super().__init__()
        self.modulation = Modulation(c_in, latent_dim, fan_in=9 * c_in)
        if separable:
            self.depthwise: nn.Module = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False)
            self.conv = nn.Conv2d(c_in, c_out, 1)
        else:
            self.depthwise = nn.Identity()
            self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.register_buffer("noise", torch.zeros(1, 1, resolution, resolution))

    def forward(self, x: Tensor, origin: tuple[int, int]) -> Tensor:
        x = self.conv(self.depthwise(x))
        row, column = origin
        noise = self.noise[..., row : row + x.shape[2], column : column + x.shape[3]]
        return F.leaky_relu(x + noise.to(x.dtype), 0.2)


class MobileBlock(nn.Module):
    """Features [N, C, H, W] -> [N, c_out, 2H, 2W] at `resolution` = 2H: inverse wavelet transform, two convolutions."""

    def __init__(self, c_in: int, c_out: int, latent_dim: int, resolution: int) -> None:
        super().__init__()
        self.up = Modulation(c_in, latent_dim)
        self.conv1 = StyledConv(c_in // 4, c_out, latent_dim, resolution)
        self.conv2 = StyledConv(c_out, c_out, latent_dim, resolution)

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor, origin: tuple[int, int]) -> Tensor:
        # The first convolution's modulation commutes with the transform, and is cheaper before it.
        scale = self.conv1.modulation(w1)
        x = x * (self.up(w1) * torch.cat((scale, scale.repeat_interleave(3, 1)), 1))
        low = scale.shape[1]
        x = self.conv1(inverse_haar(x[:, :low], x[:, low:]), origin)
        return self.conv2(x * self.conv2.modulation(w2), origin)


class MobilePrior(Prior):
    """MobileStyleGAN: 23 latents of 512, blocks 4 … 512, and a head that turns 512 into 1024 by one more wavelet level.

    Every third latent from the fourth is that of an image head that only the distillation used; it has no effect.
    """

    size = 1024
    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}  # noqa: RUF012
    latents = 23
    latent_dim = 512
    mean_latent: Tensor

    def __init__(self) -> None:
        super().__init__()
        dim = self.latent_dim
        self.mapping = nn.ModuleList(nn.Linear(dim, dim) for _ in range(8))
        self.register_buffer("mean_latent", torch.zeros(dim))
        self.constant = nn.Parameter(torch.randn(1, self.channels[4], 4, 4))
        self.conv = StyledConv(self.channels[4], self.channels[4], dim, 4, separable=False)
        self.blocks = nn.ModuleDict(
            {
                str(resolution): MobileBlock(self.channels[resolution // 2], self.channels[resolution], dim, resolution)
                for resolution in self.resolutions[1:]
            }
        )
        last = self.channels[self.resolutions[-1]]
        self.head_modulation = Modulation(last, dim, fan_in=last)
        self.head = nn.Conv2d(last, 12, 1)

    def map(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for linear in self.mapping:
            x = F.leaky_relu(linear(x), 0.2) * math.sqrt(2)
        return x

    def sample(self, n: int, generator: torch.Generator, psi: float = 1.0) -> Tensor:
        """w+ [n, latents, latent_dim] of `n` random faces, truncated toward the mean face by `psi`. They are on the
        prior's device; `generator` may be of any."""
        z = torch.randn(n, self.latent_dim, generator=generator, device=generator.device)
        w = self.map(z.to(self.constant.device))
        return (self.mean_latent + psi * (w - self.mean_latent))[:, None].expand(-1, self.latents, -1)

    def start(self, w: Tensor) -> PriorState:
        constant = self.constant.expand(w.shape[0], -1, -1, -1)
        return PriorState(self.conv(constant * self.conv.modulation(w[:, 0]), (0, 0)))

    def block(self, resolution: int, state: PriorState, w: Tensor) -> PriorState:
        first = 3 * (int(math.log2(resolution)) - 3) + 1
        origin = (2 * state.origin[0], 2 * state.origin[1])
        features = self.blocks[str(resolution)](state.features, w[:, first], w[:, first + 1], origin)
        return PriorState(features, origin=origin)

    def finish(self, state: PriorState, w: Tensor) -> Tensor:
        coefficients = self.head(state.features * self.head_modulation(w[:, -1]))
        return inverse_haar(coefficients[:, :3], coefficients[:, 3:])


class ToyPrior(MobilePrior):
    """The same at a fiftieth of the size, 256 pixels, with random weights, for tests of training."""

    size = 256
    channels = {4: 32, 8: 32, 16: 32, 32: 32, 64: 32, 128: 16}  # noqa: RUF012
    latents = 17
    latent_dim = 32

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():  # w affects the picture
            for module in self.modules():
                if isinstance(module, Modulation):
                    module.linear.weight.mul_(2.0 / module.gain)
                    module.linear.bias.fill_(1.0 / module.gain)
                elif isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, 1.0)
                elif isinstance(module, StyledConv):
                    nn.init.normal_(module.noise, std=0.1)
