"""Distributions of degradations, as data, and random draws from them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from panini.degradation.steps import (
    ANTIALIASED,
    KERNELS,
    Blur,
    Contrast,
    Degradation,
    Downsample,
    Enlarge,
    Fade,
    Halftone,
    Jpeg,
    Motion,
    Noise,
    Paper,
    Sharpen,
    Step,
    Tone,
    WebP,
)


class Log(NamedTuple):
    """A number whose logarithm is uniform."""

    lo: float
    hi: float


class Factor(NamedTuple):
    """A downsampling factor: half of them log-uniform, half of them powers of two. After these, all pixels of an
    enlarged picture have the same size, which looks different to the degradation encoder."""

    lo: float
    hi: float


class Maybe(NamedTuple):
    """A step with probability `p`. Its arguments are drawn: (lo, hi) uniformly, `Log` log-uniformly, `Factor` as it
    says, ranges and lists by choosing an item; other values are fixed."""

    p: float
    step: type[Step]
    arguments: dict[str, Any]


class Recipe(NamedTuple):
    """A sequence of steps that makes up about `share` of a distribution."""

    share: float
    name: str
    steps: tuple[Maybe, ...]


def maybe(p: float, step: type[Step], **arguments: Any) -> Maybe:
    return Maybe(p, step, arguments)


def always(step: type[Step], **arguments: Any) -> Maybe:
    return Maybe(1.0, step, arguments)


_ANY = [*KERNELS, *ANTIALIASED]
_UP = ["bilinear", "bicubic", "nearest"]
_SMOOTH = ["bilinear", "bicubic"]
_AA = list(ANTIALIASED)
_EITHER = [False, True]
_CHROMA = ["4:2:0", "4:2:0", "4:2:0", "4:4:4"]
_ANGLE = (0.0, 180.0)
_UNSHARP = {"amount": Log(0.3, 3.0), "sigma": (0.5, 2.0)}

# fmt: off
PAPER = (
    Recipe(0.06, "blur", (
        always(Blur, sigma=Log(0.8, 9.0)),)),
    Recipe(0.02, "blur, not round", (
        always(Blur, sigma=Log(0.8, 9.0), ratio=(0.3, 1.0), angle=_ANGLE),)),
    Recipe(0.02, "motion", (
        always(Motion, length=Log(4.0, 30.0), angle=_ANGLE),)),
    Recipe(0.09, "noise", (
        always(Noise, sigma=(2.0, 32.0), gray=[False, False, False, True], shot=[False, False, False, True]),)),
    Recipe(0.10, "pixelated", (
        always(Downsample, factor=Factor(2.0, 32.0), kernel="area"),
        maybe(0.3, Jpeg, quality=range(15, 91)),
        always(Enlarge, kernel="nearest"))),
    Recipe(0.125, "near-clean", (
        maybe(0.2, Blur, sigma=(0.2, 0.8)),
        maybe(0.2, Noise, sigma=(0.5, 3.0)),
        maybe(0.8, Jpeg, quality=range(70, 99), subsampling=_CHROMA))),
    Recipe(0.125, "all-heavy", (
        always(Blur, sigma=Log(1.8, 7.0)),
        always(Downsample, factor=Factor(6.0, 16.0), kernel=_ANY),
        always(Noise, sigma=(8.0, 28.0)),
        always(Jpeg, quality=range(15, 56)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.46, "any", (
        maybe(0.60, Blur, sigma=Log(0.6, 9.0)),
        maybe(0.10, Motion, length=Log(4.0, 30.0), angle=_ANGLE),
        maybe(0.60, Downsample, factor=Factor(1.5, 16.0), kernel=_ANY),
        maybe(0.55, Noise, sigma=(1.0, 28.0), gray=[False, False, False, True], shot=[False, False, False, True]),
        maybe(0.65, Jpeg, quality=range(12, 96), subsampling=_CHROMA),
        always(Enlarge, kernel=_UP))),
)
WILD = (
    *(recipe._replace(share=0.08 * recipe.share) for recipe in PAPER),
    Recipe(0.08, "messenger", (  # resized, compressed, forwarded, compressed again
        maybe(0.3, Noise, sigma=(1.0, 8.0), shot=True),
        maybe(0.7, Jpeg, quality=range(50, 95)),
        always(Downsample, factor=Log(1.2, 10.0), kernel=_AA),
        maybe(0.4, Sharpen, **_UNSHARP),
        always(Jpeg, quality=range(30, 80)),
        maybe(0.4, Jpeg, quality=range(30, 80)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.05, "screenshot", (  # shown at another size, then saved
        always(Downsample, factor=Factor(1.5, 8.0), kernel=_ANY),
        maybe(0.5, Jpeg, quality=range(30, 90)),
        always(Enlarge, kernel=_UP),
        always(Downsample, factor=Log(1.0, 3.0), kernel=[*_SMOOTH, *_AA]),
        maybe(0.6, Jpeg, quality=range(40, 95), subsampling=_CHROMA),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.03, "web", (
        always(Downsample, factor=Log(1.0, 10.0), kernel=["area", *_AA]),
        maybe(0.4, Sharpen, **_UNSHARP),
        always(WebP, quality=range(15, 90)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.11, "thumbnail", (  # reduced for a web page, gray or in color, and sharpened until edges have halos
        maybe(0.3, Tone, amount=1.0),
        maybe(0.5, Blur, sigma=Log(0.6, 6.0)),
        maybe(0.3, Noise, sigma=(1.0, 12.0), gray=_EITHER),
        always(Downsample, factor=Log(2.0, 8.0), kernel=["area", *_AA]),
        always(Sharpen, **_UNSHARP),
        always(Jpeg, quality=range(40, 96), subsampling=_CHROMA),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.05, "camera", (  # camera shake, low light
        maybe(0.6, Motion, length=Log(3.0, 40.0), angle=_ANGLE),
        maybe(0.5, Blur, sigma=Log(0.6, 5.0), ratio=(0.4, 1.0), angle=_ANGLE),
        always(Downsample, factor=Log(1.0, 8.0), kernel="area"),
        always(Noise, sigma=(3.0, 30.0), shot=True),
        maybe(0.3, Blur, sigma=(0.5, 2.5)),  # the camera's own denoising
        always(Jpeg, quality=range(50, 96)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.08, "old photo", (  # lens, film, paper, fading, scanner
        maybe(0.7, Blur, sigma=Log(0.8, 6.0)),
        maybe(0.85, Tone, amount=[1.0, 1.0, 1.0, 0.5], sepia=_EITHER),
        maybe(0.2, Contrast, factor=Log(1.2, 3.0), middle=(0.3, 0.7)),
        maybe(0.7, Noise, sigma=(1.0, 22.0), gray=[True, True, False]),
        maybe(0.5, Paper, sigma=Log(2.0, 20.0), size=Log(1.0, 12.0), woven=[False, False, True]),
        maybe(0.6, Fade, contrast=(0.4, 0.95), base=(0.2, 1.0)),
        maybe(0.6, Downsample, factor=Log(1.2, 10.0), kernel=["area", *_AA]),
        maybe(0.4, Noise, sigma=(1.0, 8.0)),
        maybe(0.4, Sharpen, **_UNSHARP),
        maybe(0.8, Jpeg, quality=range(25, 96)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.08, "paper print", (  # a photograph on matt, silk or worn paper, scanned in full
        maybe(0.3, Blur, sigma=Log(0.5, 2.0)),
        maybe(0.9, Tone, amount=1.0, sepia=_EITHER),
        always(Paper, sigma=Log(3.0, 25.0), size=Log(1.0, 14.0), woven=[False, False, True]),
        maybe(0.3, Paper, sigma=Log(2.0, 12.0), size=Log(4.0, 20.0)),
        maybe(0.4, Fade, contrast=(0.5, 1.0), base=(0.0, 1.0)),
        maybe(0.4, Sharpen, **_UNSHARP),
        maybe(0.7, Jpeg, quality=range(40, 96)))),
    Recipe(0.15, "print", (  # a book or a newspaper, scanned
        maybe(0.3, Blur, sigma=Log(0.5, 3.0)),
        maybe(0.9, Tone, amount=1.0, sepia=[False, False, True]),
        maybe(0.4, Contrast, factor=Log(1.2, 3.0), middle=(0.3, 0.7)),
        always(Halftone, pitch=Log(2.0, 11.0), angle=_ANGLE, amount=(0.3, 1.0)),
        maybe(0.4, Paper, sigma=Log(2.0, 15.0), size=Log(1.0, 10.0)),
        always(Blur, sigma=Log(0.5, 2.5)),
        maybe(0.4, Fade, contrast=(0.6, 1.0), base=(0.0, 1.0)),
        maybe(0.4, Downsample, factor=Log(1.1, 3.0), kernel=["area", *_AA]),
        maybe(0.4, Noise, sigma=(1.0, 8.0), gray=_EITHER),
        maybe(0.3, Sharpen, **_UNSHARP),
        maybe(0.8, Jpeg, quality=range(35, 96)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.23, "fine print", (  # dots of a few pixels of the scan, so that they beat with the pixels
        maybe(0.3, Blur, sigma=Log(0.5, 3.0)),
        maybe(0.9, Tone, amount=1.0, sepia=[False, False, True]),
        maybe(0.4, Contrast, factor=Log(1.2, 3.0), middle=(0.3, 0.7)),
        always(Downsample, factor=Log(1.0, 2.2), kernel=["area", *_AA]),
        always(Halftone, pitch=Log(2.3, 6.0), angle=_ANGLE, amount=(0.1, 1.0)),
        maybe(0.4, Paper, sigma=Log(2.0, 15.0), size=Log(1.0, 10.0)),
        maybe(0.7, Blur, sigma=(0.3, 1.0)),
        maybe(0.4, Fade, contrast=(0.6, 1.0), base=(0.0, 1.0)),
        maybe(0.4, Noise, sigma=(1.0, 8.0), gray=_EITHER),
        maybe(0.4, Sharpen, **_UNSHARP),
        maybe(0.9, Jpeg, quality=range(35, 96)),
        always(Enlarge, kernel=_SMOOTH))),
    Recipe(0.06, "near-clean", (
        maybe(0.2, Tone, amount=1.0, sepia=_EITHER),
        maybe(0.2, Fade, contrast=(0.8, 1.0), base=(0.0, 1.0)),
        maybe(0.3, Noise, sigma=(0.5, 3.0)),
        maybe(0.8, Jpeg, quality=range(70, 99), subsampling=_CHROMA))),
)
SR16 = (Recipe(1.0, "sr16", (  # the paper's SR: bicubic, to 64 px; nothing is random
    always(Downsample, factor=8.0, kernel="bicubic-aa"),
    always(Enlarge, kernel="bicubic"))),)
HEAVY = (Recipe(1.0, "heavy", (  # the heaviest of the paper's family: down to 18 to 72 px
    maybe(0.9, Blur, sigma=(0.8, 6.0)),
    always(Downsample, factor=Log(512 / 72, 512 / 18), kernel=["area", "bilinear", "bicubic", "bicubic-aa"]),
    maybe(0.6, Noise, sigma=(1.0, 14.0)),
    maybe(0.75, Jpeg, quality=range(25, 75)),
    always(Enlarge, kernel=_UP))),)
# fmt: on
DISTRIBUTIONS: dict[str, tuple[Recipe, ...]] = {"paper": PAPER, "wild": WILD, "sr16": SR16, "heavy": HEAVY}


def draw(distribution: str, rng: np.random.Generator) -> Degradation:
    """A degradation of one of `DISTRIBUTIONS`. Raises ValueError for an unknown name."""
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"unknown distribution {distribution!r}: choose from {', '.join(DISTRIBUTIONS)}")
    recipes = DISTRIBUTIONS[distribution]
    shares = np.array([recipe.share for recipe in recipes])
    recipe = recipes[rng.choice(len(recipes), p=shares / shares.sum())]
    steps: list[Step] = []
    small = False
    for p, step, arguments in recipe.steps:
        if step is Enlarge and not small:  # there was no downsampling
            continue
        if rng.random() < p:
            steps.append(step(**{name: _draw(spec, rng) for name, spec in arguments.items()}))
            small = step is Downsample or (small and step is not Enlarge)
    return Degradation(tuple(steps))


def _draw(spec: Any, rng: np.random.Generator) -> Any:
    match spec:
        case range() | list():
            return spec[rng.integers(len(spec))]
        case Log(lo, hi):
            return round(math.exp(rng.uniform(math.log(lo), math.log(hi))), 3)
        case Factor(lo, hi):
            powers = [float(2**i) for i in range(math.ceil(math.log2(lo)), math.floor(math.log2(hi)) + 1)]
            return _draw(Log(lo, hi) if rng.random() < 0.5 else powers, rng)
        case (lo, hi):
            return round(rng.uniform(lo, hi), 3)
    return spec
