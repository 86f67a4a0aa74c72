"""`panini.degradation` for batches of tensors on any device: each picture its own damage, for training.

Same steps, same order, same pixels as the NumPy path but for rounding and the noise, whose numbers differ (their
statistics do not). JPEG is computed, not called: libjpeg's colour transform, chroma averaging, 8x8 DCT, tables,
rounding and smooth chroma enlargement. WebP has no such model here: on a CPU it goes through the codec, elsewhere JPEG
of the same quality stands in for it, since a codec would make a GPU wait.

Agreement for 512 px faces, of which tests/degradation/test_torch.py holds the lower bounds: linear steps within one
8-bit step (over 60 dB), antialiased downsampling over 50 dB (Pillow rounds in between), JPEG over 45 dB, and over 40 dB
on pictures of a few blocks or after other steps (a coefficient on the edge of two steps may fall either way). TF32
matrix products, if the caller allows them, cost some of that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from panini.degradation import (
    ANTIALIASED,
    KERNELS,
    SUBSAMPLING,
    Blur,
    Degradation,
    Downsample,
    Enlarge,
    Fade,
    Halftone,
    Jpeg,
    Motion,
    Noise,
    Sharpen,
    Size,
    Step,
    Tone,
    WebP,
)
from panini.degradation.steps import SOFTNESS

# The tables of ITU-T T.81, annex K.1 (luma, chroma), which libjpeg scales by quality.
_TABLES = """
16 11 10 16  24  40  51  61   12 12 14 19  26  58  60  55   14 13 16 24  40  57  69  56   14 17 22 29  51  87  80  62
18 22 37 56  68 109 103  77   24 35 55 64  81 104 113  92   49 64 78 87 103 121 120 101   72 92 95 98 112 100 103  99
17 18 24 47  99  99  99  99   18 21 26 66  99  99  99  99   24 26 56 99  99  99  99  99   47 66 99 99  99  99  99  99
99 99 99 99  99  99  99  99   99 99 99 99  99  99  99  99   99 99 99 99  99  99  99  99   99 99 99 99  99  99  99  99
"""
_JPEG_TABLES = np.array(_TABLES.split(), np.float32).reshape(2, 8, 8)
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)


@torch.no_grad()
def apply_batch(
    images: Tensor, degradations: Sequence[Degradation], generator: torch.Generator | None = None
) -> Tensor:
    """Damages `images`, float [N, 3, H, W] in [-1, 1], the i-th by `degradations[i]`; the result has their shape, type
    and device, and 8-bit values. `generator` (of any device) decides the noise. ValueError for other shapes or counts.

    Pictures whose next step is alike (same kind, same size) go through it together; kinds wait for each other in the
    paper's order, so a batch takes few launches. Nothing but WebP brings pixels back to the host."""
    if images.ndim != 4 or images.shape[1] != 3 or len(degradations) != len(images) or not images.is_floating_point():
        raise ValueError(f"{len(degradations)} degradations for a {images.dtype} batch of shape {list(images.shape)}")
    if not degradations:
        return images.clone()
    full: Size = (images.shape[2], images.shape[3])
    with torch.autocast(images.device.type, enabled=False):
        pictures = list((images.float() + 1).mul_(127.5).unbind())
        done = [0] * len(pictures)
        while pending := [i for i, d in enumerate(degradations) if done[i] < len(d.steps)]:
            groups: dict[Hashable, list[int]] = defaultdict(list)
            first = min(_ORDER[type(degradations[i].steps[done[i]])] for i in pending)
            for i in pending:
                step = degradations[i].steps[done[i]]
                if _ORDER[type(step)] == first:
                    size = (pictures[i].shape[1], pictures[i].shape[2])
                    groups[size, _shared(step, size, full)].append(i)
            for members in groups.values():
                steps = [degradations[i].steps[done[i]] for i in members]
                damaged = _RUN[type(steps[0])](torch.stack([pictures[i] for i in members]), steps, full, generator)
                for i, picture in zip(members, damaged.unbind(), strict=True):
                    pictures[i] = picture
                    done[i] += 1
        return _to_8bit(torch.stack(pictures)).div_(127.5).sub_(1).to(images.dtype)


@torch.no_grad()
def apply_shared(images: Tensor, degradation: Degradation, generator: torch.Generator | None = None) -> Tensor:
    """`apply_batch` with one degradation for all pictures: as few launches as it has steps."""
    full: Size = (images.shape[2], images.shape[3])
    with torch.autocast(images.device.type, enabled=False):
        pictures = (images.float() + 1).mul_(127.5)
        for step in degradation.steps:
            pictures = _RUN[type(step)](pictures, [step], full, generator)
        return _to_8bit(pictures).div_(127.5).sub_(1).to(images.dtype)


def _shared(step: Step, size: Size, full: Size) -> Hashable:
    """What pictures must have in common, besides their size, to take this step in one batch."""
    match step:
        case Downsample():
            return step.kernel, step.size(size, full)
        case Enlarge():
            return step.kernel
        case Jpeg():
            return step.subsampling
    return None


def _put(array: np.ndarray, device: torch.device) -> Tensor:
    """From the host's memory, without making a GPU wait."""
    tensor = torch.from_numpy(np.array(array))  # a copy: what comes in may be read-only
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _to_8bit(x: Tensor) -> Tensor:
    return x.round().clamp_(0, 255)


def _column(steps: Sequence[Any], name: str, like: Tensor) -> Tensor:
    """[n, 1, 1, 1]: one field of each step."""
    values = np.array([getattr(step, name) for step in steps], np.float32)
    return _put(values, like.device).view(-1, 1, 1, 1)


def _convolve(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    """By FFT: kernels are up to 55 px wide and differ from picture to picture."""
    height, width = x.shape[2:]
    kernels = [step.kernel((height, width)) for step in steps]
    radius = max(kernel.shape[0] for kernel in kernels) // 2
    stacked = np.zeros((len(kernels), 1, 2 * radius + 1, 2 * radius + 1), np.float32)
    for square, kernel in zip(stacked, kernels, strict=True):
        inset = radius - kernel.shape[0] // 2
        square[0, inset : inset + kernel.shape[0], inset : inset + kernel.shape[0]] = kernel
    padded = F.pad(x, (radius,) * 4, mode="reflect" if radius < min(height, width) else "replicate")
    size = [math.ceil(side / 32) * 32 for side in padded.shape[2:]]  # lengths that FFTs like
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(_put(stacked, x.device), s=size)
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)
    return blurred[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


def _sharpen(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    return _convolve(x, steps, full, generator).clamp_(0, 255)


@lru_cache(maxsize=2048)  # some 400 MB: every size that a downsampling leaves
def _resize_matrix(before: int, after: int, kernel: str, device: torch.device) -> Tensor:
    """[after, before]: the resampling of one axis, read off OpenCV or Pillow by resizing the identity."""
    identity = np.eye(before, dtype=np.float32)
    if kernel in ANTIALIASED:
        matrix = np.array(Image.fromarray(identity).resize((before, after), ANTIALIASED[kernel]))
    else:
        matrix = np.asarray(cv2.resize(identity, (before, after), interpolation=KERNELS[kernel]))
    return _put(matrix, device)


def _resize(x: Tensor, size: Size, kernel: str) -> Tensor:
    rows = _resize_matrix(x.shape[2], size[0], kernel, x.device)
    columns = _resize_matrix(x.shape[3], size[1], kernel, x.device)
    return rows @ (x @ columns.T) if size[1] < x.shape[3] else (rows @ x) @ columns.T


def _downsample(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    size, kernel = steps[0].size((x.shape[2], x.shape[3]), full), steps[0].kernel
    if size == tuple(x.shape[2:]):
        return x
    return _to_8bit(_resize(_to_8bit(x), size, kernel)) if kernel in ANTIALIASED else _resize(x, size, kernel)


def _enlarge(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    return x if full == tuple(x.shape[2:]) else _resize(x, full, steps[0].kernel)


def _noise(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else x.device
    noise = torch.randn(x.shape, generator=generator, device=device).to(x.device)
    noise = torch.where(_column(steps, "grey", x) > 0, noise[:, :1], noise) * _column(steps, "sigma", x)
    return x + torch.where(_column(steps, "shot", x) > 0, noise * (x.clamp(0, 255) / 255).sqrt(), noise)


def _tone(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    matrices = _put(np.stack([step.matrix() for step in steps]), x.device)
    return (matrices @ x.flatten(2)).view_as(x).clamp_(max=255)


def _fade(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    return x * _column(steps, "contrast", x) + _column(steps, "offset", x)


def _halftone(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    size = (x.shape[2], x.shape[3])
    screens = _put(np.stack([step.screen(size)[..., 0] for step in steps])[:, None], x.device)
    return torch.lerp(x, 255 * ((x - screens) / SOFTNESS).sigmoid(), _column(steps, "amount", x))


def _webp(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    if x.device.type != "cpu":
        return _jpeg(x, [Jpeg(step.quality) for step in steps], full, generator)
    unused = np.random.default_rng(0)
    steps = list(steps) * (len(x) // len(steps))
    pictures = np.ascontiguousarray(x.permute(0, 2, 3, 1).cpu().numpy())
    coded = [step.run(picture, full, unused) for step, picture in zip(steps, pictures, strict=True)]
    return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).to(x.device)


# --- JPEG ------------------------------------------------------------------------------------------------------------


def _jpeg(x: Tensor, steps: Sequence[Any], full: Size, generator: torch.Generator | None) -> Tensor:
    height, width = x.shape[2:]
    down, across = SUBSAMPLING[steps[0].subsampling]
    tables = _put(np.stack([_tables(step.quality) for step in steps]), x.device)  # [n or 1, 2, 8, 8]
    ycc = _colours(_to_8bit(x), _TO_YCC)
    ycc[:, 1:] += 128
    ycc = F.pad(_to_8bit(ycc), (0, -width % (8 * across), 0, -height % (8 * down)), mode="replicate")
    luma = _code(ycc[:, :1], tables[:, :1])[:, :, :height, :width]
    chroma = _code(_average(ycc[:, 1:], down, across), tables[:, 1:])
    chroma = chroma[:, :, : math.ceil(height / down), : math.ceil(width / across)]
    if down * across > 1:
        chroma = F.interpolate(chroma, scale_factor=(float(down), float(across)), mode="bilinear").round()
    return _to_8bit(_colours(torch.cat([luma, chroma[:, :, :height, :width] - 128], 1), _TO_RGB))


def _tables(quality: int) -> np.ndarray:
    """[2, 8, 8]: the steps of luma and chroma, as libjpeg's `jpeg_set_quality` (baseline)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_JPEG_TABLES * scale + 50) // 100, 1, 255).astype(np.float32)


def _colours(x: Tensor, matrix: np.ndarray) -> Tensor:
    return (_matrix(matrix.tobytes(), x.device) @ x.flatten(2)).view_as(x)


@lru_cache(maxsize=8)
def _matrix(data: bytes, device: torch.device) -> Tensor:
    return _put(np.frombuffer(data, np.float32).reshape(3, 3), device)


def _average(x: Tensor, down: int, across: int) -> Tensor:
    """Chroma of a cell, rounded as libjpeg rounds: halves go up in odd columns only."""
    if down * across == 1:
        return x
    mean = F.avg_pool2d(x, (down, across))
    odd = torch.arange(mean.shape[3], device=x.device) % 2
    return (mean + (odd + down - 1) / (down * across)).floor_()


@lru_cache(maxsize=8)
def _dct(device: torch.device) -> Tensor:
    """[64, 64]: the orthonormal DCT-II of 8x8 blocks as one matrix, frequencies by places, both row by row."""
    k, n = np.mgrid[:8, :8]
    matrix = np.cos(np.pi * (2 * n + 1) * k / 16) / 2 * np.where(k == 0, math.sqrt(0.5), 1)
    return _put(np.kron(matrix, matrix).astype(np.float32), device)


def _code(x: Tensor, tables: Tensor) -> Tensor:
    """[n, c, h, w] (whole blocks) through DCT and quantisation by `tables` [n or 1, 1, 8, 8], and back to 8 bit."""
    n, c, height, width = x.shape
    blocks = (x - 128).view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(n, -1, 64)
    dct, steps = _dct(x.device), tables.reshape(-1, 1, 64)
    coefficients = (blocks @ dct.T).div_(steps).round_().mul_(steps)
    blocks = _to_8bit((coefficients @ dct).add_(128)).view(n, c, height // 8, width // 8, 8, 8)
    return blocks.transpose(3, 4).reshape(n, c, height, width)


_RUN: dict[type[Step], Callable[[Tensor, Sequence[Any], Size, torch.Generator | None], Tensor]] = {
    Blur: _convolve,
    Motion: _convolve,
    Tone: _tone,
    Fade: _fade,
    Downsample: _downsample,
    Noise: _noise,
    Halftone: _halftone,
    Sharpen: _sharpen,
    Jpeg: _jpeg,
    WebP: _webp,
    Enlarge: _enlarge,
}
_ORDER = {step: rank for rank, step in enumerate(_RUN)}
