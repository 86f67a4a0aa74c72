"""The last blocks of the small prior and its picture, for training: the same results as `MobilePrior.block` and
`MobilePrior.finish` in fewer passes over memory, which take most of the time of a step on a GPU. Other priors run their
own code."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from panini.models.prior import MobilePrior, Prior, PriorState
from panini.models.prior.mobile import MobileBlock, StyledConv, inverse_haar


def generate(prior: Prior, state: PriorState, w: Tensor, after: int, ratio: int, bf16: bool) -> Tensor:
    """The picture [N, 3, S, S] from the state after block `after`, averaged down by `ratio` (1 or even): the blocks in
    bfloat16 if wanted, the rest in float32."""
    with torch.autocast(w.device.type, torch.bfloat16, enabled=bf16):
        state = run_blocks(prior, state, w, after)
    return picture_of(prior, state, w, ratio)


def run_blocks(prior: Prior, state: PriorState, w: Tensor, after: int) -> PriorState:
    """The state after the last block, from that after block `after`."""
    for r in prior.resolutions:
        if r > after:
            state = _block(prior, r, state, w) if isinstance(prior, MobilePrior) else prior.block(r, state, w)
    return state


def picture_of(prior: Prior, state: PriorState, w: Tensor, ratio: int) -> Tensor:
    """The picture from the state after the last block, averaged down by `ratio` (1 or even); float32."""
    features = state.features.float()
    if not isinstance(prior, MobilePrior) or ratio == 1:
        return F.avg_pool2d(prior.finish(state.with_features(features), w), ratio)
    # The mean of each 2 x 2 pixels is half the low-pass coefficient: the head's first three channels.
    modulation = prior.head_modulation(w[:, -1]).flatten(2).transpose(1, 2)
    bias = prior.head.bias
    assert bias is not None
    weight = 0.5 * prior.head.weight[:3].flatten(1) * modulation  # [N, 3, C]
    low = weight @ features.flatten(2) + 0.5 * bias[:3, None]
    return F.avg_pool2d(low.unflatten(2, features.shape[2:]), ratio // 2)


def _block(prior: MobilePrior, resolution: int, state: PriorState, w: Tensor) -> PriorState:
    block: MobileBlock = prior.blocks[str(resolution)]  # type: ignore[assignment]
    first = 3 * (int(math.log2(resolution)) - 3) + 1
    w1, w2 = w[:, first], w[:, first + 1]
    origin = (2 * state.origin[0], 2 * state.origin[1])
    scale = block.conv1.modulation(w1)
    scale = block.up(w1) * torch.cat((scale, scale.repeat_interleave(3, 1)), 1)
    x = _convolved(block.conv1, _enlarged(state.features, scale), origin)
    return PriorState(_convolved(block.conv2, x * block.conv2.modulation(w2), origin), origin=origin)


def _enlarged(x: Tensor, scale: Tensor) -> Tensor:
    """`inverse_haar` of x * scale, [N, C, H, W] -> [N, C / 4, 2H, 2W], by one matrix product for each face."""
    n, channels, height, width = x.shape
    weight = scale.flatten(2) * _inverse_haar_matrix(channels, x.device)  # [N, C, C]
    pixels = (x.flatten(2).transpose(1, 2) @ weight.to(x.dtype)).view(n, height, width, 2, 2, -1)
    return pixels.transpose(2, 3).reshape(n, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _inverse_haar_matrix(channels: int, device: torch.device) -> Tensor:
    """[C, C]: each coefficient's share of each of the 2 x 2 pixels of the C / 4 channels."""
    unit = torch.eye(channels, device=device)[..., None, None]
    pixels = inverse_haar(unit[:, : channels // 4], unit[:, channels // 4 :])
    return pixels.permute(0, 2, 3, 1).flatten(1)


def _convolved(conv: StyledConv, x: Tensor, origin: tuple[int, int]) -> Tensor:
    """`StyledConv`, whose 1x1 convolution is a matrix product: on a GPU, it adds the bias in the same pass."""
    x = _Depthwise.apply(x, conv.depthwise.weight).permute(0, 2, 3, 1)
    product = F.linear(x.flatten(0, 2), conv.conv.weight.flatten(1), conv.conv.bias)  # type: ignore[operator,arg-type]
    x = product.view(*x.shape[:3], -1).permute(0, 3, 1, 2)
    row, column = origin
    noise = conv.noise[..., row : row + x.shape[2], column : column + x.shape[3]]
    return F.leaky_relu(x + noise.to(x.dtype), 0.2)


class _Depthwise(torch.autograd.Function):
    """3x3 depth-wise convolution of x [N, C, H, W] with weights [C, 1, 3, 3]. The gradient of x is a convolution with
    the mirrored weights, so that it is as fast as forward: cuDNN's own kernels for it may be much slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return F.conv2d(x, weight, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = F.conv2d(gradient, weight.flip(2, 3), padding=1, groups=len(weight))
        if x is not None:
            of_weight = conv2d_weight(x, weight.shape, gradient, padding=1, groups=len(weight)).float()
        return of_x, of_weight
