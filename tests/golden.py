"""The rule behind `tests/data/paper_golden.npz`: what released networks compute with tensors drawn by name."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


def stream(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that depend on the name alone."""
    seed = np.random.PCG64([0, zlib.crc32(name.encode())])
    return np.random.Generator(seed).standard_normal(shape)


def draw(name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    """The tensor that stands for a released one of this name."""
    last = name.rsplit(".", 1)[-1]
    if "int" in dtype:
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    if "kernel" in name:  # as constructed; all of them follow an upsampling
        taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1])
        return torch.tensor(4 * taps / taps.sum(), dtype=torch.float32)
    if last == "running_var":
        return torch.from_numpy((np.abs(stream(name, shape) * 0.2) + 0.9).astype(np.float32))
    if last == "running_mean":
        gain = 0.1
    elif name.startswith("generator."):
        gain = 0.1 if last == "bias" else 1.0
    else:
        gain = 0.7 / sqrt(prod(shape[1:])) if len(shape) >= 2 else 0.1
    return torch.from_numpy((stream(name, shape) * gain).astype(np.float32))


def shapes(network: str) -> Mapping[str, tuple[tuple[int, ...], str]]:
    """(shape, dtype) of every released tensor of "mfr" or "sr" by name."""
    with (DATA / "paper_state_dict.json").open() as file:
        return {name: (tuple(shape), dtype) for name, (shape, dtype) in json.load(file)[network].items()}


def released_state(network: str, only: str = "") -> dict[str, Tensor]:
    """Every tensor of "mfr" or "sr" whose name begins with `only`."""
    return {name: draw(name, *spec) for name, spec in shapes(network).items() if name.startswith(only)}


def picture(network: str, size: int) -> Tensor:
    """The input of "mfr" or "sr", [1, 3, size, size]."""
    noise = stream(f"input.{network}", (1, 3, size, size))
    return torch.from_numpy(noise.clip(-1, 1).astype(np.float32))


def expected(network: str) -> dict[str, np.ndarray]:
    """The stored arrays of "mfr" or "sr", by what they are."""
    with np.load(DATA / "paper_golden.npz") as arrays:
        return {name.removeprefix(f"{network}_"): arrays[name] for name in arrays if name.startswith(network)}


def relative_error(ours: Tensor, stored: np.ndarray) -> float:
    """L2 of the difference over L2 of what is stored."""
    return float(np.linalg.norm(ours.numpy() - stored) / np.linalg.norm(stored))
