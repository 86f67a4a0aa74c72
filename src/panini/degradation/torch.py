"""`panini.degradation` for batches of tensors on any device, for training.

Results equal those of the NumPy path except for rounding and noise, which has the same statistics but other
values. JPEG is computed here: libjpeg's color transform, chroma averaging, 8x8 DCT, tables, rounding and
smooth chroma enlargement. WebP uses its codec on a CPU; other devices use JPEG of the same quality instead, because a
codec would synchronize with a GPU.

`tests/degradation/test_torch.py` tests how closely both paths agree. TF32 matrix products, if the caller allows them,
reduce the agreement.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from panini.degradation import steps
from panini.degradation.steps import ANTIALIASED, SOFTNESS, Degradation, Halftone, Jpeg, Noise, Paper, Size, Step, WebP

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
def apply_shared(images: Tensor, degradation: Degradation, generator: torch.Generator | None = None) -> Tensor:
    """Damages `images`, float [N, 3, H, W] in [-1, 1]; the result has their shape, type and device, and 8-bit values.

    `generator` (of any device) generates the noise. No step copies pixels from a GPU to the host. Raises ValueError
    for other shapes or types.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"not a batch of pictures: {images.dtype}, shape {list(images.shape)}")
    if not len(images):
        return images.clone()
    full: Size = (images.shape[2], images.shape[3])
    with torch.autocast(images.device.type, enabled=False):
        x = (images.float() + 1).mul_(127.5)
        for step in degradation.steps:
            x = _run(x, step, full, generator)
        return _to_8bit(x).div_(127.5).sub_(1).to(images.dtype)


def _run(x: Tensor, step: Step, full: Size, generator: torch.Generator | None) -> Tensor:  # noqa: PLR0911, PLR0912, C901
    """Pictures [N, 3, h, w] after one more step; `full` is the size of the whole degradation's input."""
    size: Size = (x.shape[2], x.shape[3])
    match step:
        case steps.Blur() | steps.Motion():
            return _convolve(x, step.kernel(size))
        case steps.Sharpen():
            return _convolve(x, step.kernel(size)).clamp_(0, 255)
        case steps.Tone():
            return _transform(x, step.matrix()).clamp_(max=255)
        case steps.Fade():
            return x * step.contrast + step.offset
        case steps.Contrast():
            middle = 255 * step.middle
            return ((x - middle) * step.factor + middle).clamp_(0, 255)
        case steps.Downsample(kernel=kernel) if kernel in ANTIALIASED:  # Pillow works on 8 bits
            return _to_8bit(_resize(_to_8bit(x), step.size(size, full), kernel))
        case steps.Downsample(kernel=kernel):
            return _resize(x, step.size(size, full), kernel)
        case steps.Enlarge(kernel=kernel):
            return _resize(x, full, kernel)
        case Noise():
            return _noise(x, step, generator)
        case Halftone():
            return _halftone(x, step)
        case Paper():
            return _paper(x, step, generator)
        case Jpeg():
            return _jpeg(x, step)
        case WebP(quality=quality):
            return _webp(x, step) if x.device.type == "cpu" else _jpeg(x, Jpeg(quality))
    raise TypeError(f"{step!r} has no version for tensors")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies from host memory without synchronizing with a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _put(array: np.ndarray, device: torch.device) -> Tensor:
    return to_device(torch.from_numpy(np.array(array)), device)  # a copy: the input may be read-only


def _to_8bit(x: Tensor) -> Tensor:
    return x.round().clamp_(0, 255)


def _convolve(x: Tensor, kernel: np.ndarray) -> Tensor:
    """By FFT: kernels are up to 55 px wide."""
    height, width = x.shape[2:]
    radius = kernel.shape[0] // 2
    padded = F.pad(x, (radius,) * 4, mode="reflect" if radius < min(height, width) else "replicate")
    size = [math.ceil(side / 32) * 32 for side in padded.shape[2:]]  # efficient lengths for FFTs
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(_put(kernel, x.device), s=size)
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)
    return blurred[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


@lru_cache(maxsize=2048)  # about 400 MB: every size that downsampling results in
def _resize_matrix(before: int, after: int, kernel: str, device: torch.device) -> Tensor:
    """[after, before]: the resampling of one axis, measured by resizing the identity matrix with OpenCV or Pillow."""
    identity = np.eye(before, dtype=np.float32)
    if kernel in ANTIALIASED:
        matrix = np.array(Image.fromarray(identity).resize((before, after), ANTIALIASED[kernel]))
    else:
        matrix = np.asarray(cv2.resize(identity, (before, after), interpolation=steps.KERNELS[kernel]))
    return _put(matrix, device)


def _resize(x: Tensor, size: Size, kernel: str) -> Tensor:
    if size == tuple(x.shape[2:]):
        return x
    rows = _resize_matrix(x.shape[2], size[0], kernel, x.device)
    columns = _resize_matrix(x.shape[3], size[1], kernel, x.device)
    return rows @ (x @ columns.T) if size[1] < x.shape[3] else (rows @ x) @ columns.T


def _normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """White noise of standard deviation 1, with the shape and the device of `x`."""
    device = generator.device if generator is not None else x.device
    return torch.randn(x.shape, generator=generator, device=device).to(x.device)


def _noise(x: Tensor, step: Noise, generator: torch.Generator | None) -> Tensor:
    noise = _normal(x, generator) * step.sigma
    noise = noise[:, :1] if step.gray else noise
    return x + (noise * (x.clamp(0, 255) / 255).sqrt() if step.shot else noise)


def _halftone(x: Tensor, step: Halftone) -> Tensor:
    screen = _put(step.screen((x.shape[2], x.shape[3]))[..., 0], x.device)
    return torch.lerp(x, 255 * ((x - screen) / SOFTNESS).sigmoid(), step.amount)


def _paper(x: Tensor, step: Paper, generator: torch.Generator | None) -> Tensor:
    texture = torch.zeros_like(x[:, :1])
    for kernel in step.kernels((x.shape[2], x.shape[3])):
        texture += _convolve(_normal(texture, generator), kernel)
    return x + step.sigma * texture


def _webp(x: Tensor, step: WebP) -> Tensor:
    pictures = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    coded = [step.run(picture, (0, 0), np.random.default_rng(0)) for picture in pictures]  # not random
    return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2)


# --- JPEG ------------------------------------------------------------------------------------------------------------


def _jpeg(x: Tensor, step: Jpeg) -> Tensor:
    height, width = x.shape[2:]
    down, across = steps.SUBSAMPLING[step.subsampling]
    luma_table, chroma_table = _put(_tables(step.quality), x.device)
    ycc = _transform(_to_8bit(x), _TO_YCC)
    ycc[:, 1:] += 128
    ycc = F.pad(_to_8bit(ycc), (0, -width % (8 * across), 0, -height % (8 * down)), mode="replicate")
    luma = _code(ycc[:, :1], luma_table)[:, :, :height, :width]
    chroma = _code(_average(ycc[:, 1:], down, across), chroma_table)
    chroma = chroma[:, :, : math.ceil(height / down), : math.ceil(width / across)]
    if down * across > 1:
        chroma = F.interpolate(chroma, scale_factor=(float(down), float(across)), mode="bilinear").round()
    return _to_8bit(_transform(torch.cat([luma, chroma[:, :, :height, :width] - 128], 1), _TO_RGB))


def _tables(quality: int) -> np.ndarray:
    """[2, 8, 8]: the quantization tables of luma and chroma, as libjpeg's `jpeg_set_quality` (baseline)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_JPEG_TABLES * scale + 50) // 100, 1, 255).astype(np.float32)


def _transform(x: Tensor, matrix: np.ndarray) -> Tensor:
    """Multiplies colors [N, 3, h, w] by a matrix [3, 3]."""
    return (_put(matrix, x.device) @ x.flatten(2)).view_as(x)


def _average(x: Tensor, down: int, across: int) -> Tensor:
    """Mean chroma of each cell, rounded like libjpeg: halves are rounded up in odd columns only."""
    if down * across == 1:
        return x
    mean = F.avg_pool2d(x, (down, across))
    odd = torch.arange(mean.shape[3], device=x.device) % 2
    return (mean + (odd + down - 1) / (down * across)).floor_()


@lru_cache(maxsize=8)
def _dct(device: torch.device) -> Tensor:
    """[64, 64]: the orthonormal DCT-II of 8x8 blocks as one matrix, frequencies by positions, both row by row."""
    k, n = np.mgrid[:8, :8]
    matrix = np.cos(np.pi * (2 * n + 1) * k / 16) / 2 * np.where(k == 0, math.sqrt(0.5), 1)
    return _put(np.kron(matrix, matrix).astype(np.float32), device)


def _code(x: Tensor, table: Tensor) -> Tensor:
    """Applies DCT, quantization by `table` [8, 8] and inverse DCT to [n, c, h, w] (whole blocks); the result has 8
    bits."""
    n, c, height, width = x.shape
    blocks = (x - 128).view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(n, -1, 64)
    dct, table = _dct(x.device), table.flatten()
    coefficients = (blocks @ dct.T).div_(table).round_().mul_(table)
    blocks = _to_8bit((coefficients @ dct).add_(128)).view(n, c, height // 8, width // 8, 8, 8)
    return blocks.transpose(3, 4).reshape(n, c, height, width)
