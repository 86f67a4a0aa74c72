"""The degradation model: a degradation is a value that can be drawn, printed, stored and applied.

The paper's family (section "Degradation") is blur, downsampling, Gaussian noise, JPEG and enlargement to the input's
size. Noise and JPEG act on the small picture, so they look coarse. `recipes.py` draws random degradations, and
`torch.py` applies them to tensors.

    damage = draw("paper", np.random.default_rng(7))
    print(damage)                      # blur σ=3.1 px, down 4x (area), noise 12/255, JPEG q 35, up (bilinear)
    bad = damage.apply(face, seed=7)   # uint8 [H, W, 3] RGB, as `face`

Strengths refer to a picture whose shorter side is 512 pixels. In other pictures, blurs scale with the side, and
downsampling by r always results in 512 / r pixels (it never enlarges). Sharpening, noise and compression do not scale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panini.photo.pixels import LUMA

FloatPixels = NDArray[np.float32]  # [h, w, 3] RGB, 0..255, not rounded between steps
Size = tuple[int, int]  # height, width

REFERENCE = 512  # pixels: shorter side of the picture that strengths refer to
KERNELS = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
}
# Pillow's kernels widen as the picture shrinks, while OpenCV's skip pixels and alias.
ANTIALIASED = {"bilinear-aa": Image.Resampling.BILINEAR, "bicubic-aa": Image.Resampling.BICUBIC}
SUBSAMPLING = {"4:2:0": (2, 2), "4:2:2": (1, 2), "4:4:4": (1, 1)}  # luma samples per chroma sample: down, across
SOFTNESS = 12.0  # of the edge of a printed dot, in levels of the printed tone
SEPIA = (1.10, 0.98, 0.78)  # relative to gray
WEAVE = 4.0  # length of a thread of woven paper, in its thicknesses


def _number(lo: float, hi: float, default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"range": (lo, hi)})


def _choice(*options: Any, default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"options": options})


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of damage. Raises ValueError for fields out of range, and for fractions in ranges of integers.

    A new kind belongs in `STEPS`, in `degradation/torch.py` (for training on a GPU), and in a distribution of
    `recipes.py`, which draws it.
    """

    kind: ClassVar[str] = ""  # steps of one kind have comparable strengths; "": no damage
    measure: ClassVar[str] = ""  # the field that is the strength, if it is one

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if options := field.metadata.get("options"):
                if not any(value == option and type(value) is type(option) for option in options):
                    known = ", ".join(map(str, options))
                    raise ValueError(f"{self.name}.{field.name} is {value!r}, not one of {known}")
                continue
            lo, hi = field.metadata["range"]
            number = type(lo)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not lo <= value <= hi:
                raise ValueError(f"{self.name}.{field.name} is {value!r}, not a number in {lo}..{hi}")
            if number(value) != value:
                raise ValueError(f"{self.name}.{field.name} is {value!r}, not a whole number")
            object.__setattr__(self, field.name, number(value))  # so that equal values print alike

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def strength(self) -> float:
        """Larger is worse. Comparable within a `kind`."""
        return float(getattr(self, self.measure)) if self.measure else 0.0

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        """The damaged picture. full: the size of the degradation's input."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Blur(Step):
    """Gaussian blur of `sigma` pixels in the direction `angle` (degrees), and `ratio` times as many perpendicular to
    it."""

    kind: ClassVar[str] = "blur"
    sigma: float = _number(0.05, 40.0)
    ratio: float = _number(0.1, 1.0, 1.0)
    angle: float = _number(0.0, 180.0, 0.0)

    def __str__(self) -> str:
        if self.ratio == 1:
            return f"blur σ={self.sigma:.2g} px"
        return f"blur σ={self.sigma:.2g}×{self.sigma * self.ratio:.2g} px at {self.angle:.0f}°"

    @property
    def strength(self) -> float:
        return self.sigma * math.sqrt(self.ratio)

    def kernel(self, size: Size) -> FloatPixels:
        """[k, k], k odd, sum 1, for a picture of that size."""
        along = self.sigma * min(size) / REFERENCE
        return _gaussian(along, along * self.ratio, self.angle)

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        kernel = self.kernel(_size(image))
        if self.ratio < 1:
            return _convolve(image, kernel)
        line = kernel.sum(axis=0)  # a round Gaussian is separable, which is faster
        return _pixels(cv2.sepFilter2D(image, -1, line, line, borderType=cv2.BORDER_REFLECT_101))


@dataclasses.dataclass(frozen=True)
class Motion(Step):
    """Motion blur: a straight line of `length` pixels at `angle` degrees."""

    kind: ClassVar[str] = "motion"
    measure: ClassVar[str] = "length"
    length: float = _number(0.5, 100.0)
    angle: float = _number(0.0, 180.0, 0.0)

    def __str__(self) -> str:
        return f"motion {self.length:.2g} px at {self.angle:.0f}°"

    def kernel(self, size: Size) -> FloatPixels:
        """[k, k], k odd, sum 1, for a picture of that size."""
        half = self.length * min(size) / REFERENCE / 2
        y, x = _kernel_grid(half)
        kernel = np.zeros_like(x)
        for t in np.linspace(-half, half, 4 * x.shape[0]):  # a bilinear point every quarter pixel or finer
            dx, dy = t * math.cos(math.radians(self.angle)), -t * math.sin(math.radians(self.angle))
            kernel += np.maximum(0, 1 - abs(x - dx)) * np.maximum(0, 1 - abs(y - dy))
        return _pixels(kernel / kernel.sum())

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        return _convolve(image, self.kernel(_size(image)))


@dataclasses.dataclass(frozen=True)
class Sharpen(Step):
    """Unsharp mask: adds `amount` times the detail that a Gaussian of `sigma` pixels removes. Edges get halos."""

    kind: ClassVar[str] = "sharpen"
    measure: ClassVar[str] = "amount"
    amount: float = _number(0.0, 5.0)
    sigma: float = _number(0.3, 5.0, 1.0)

    def __str__(self) -> str:
        return f"sharpened by {100 * self.amount:.0f}% (σ={self.sigma:.2g} px)"

    def kernel(self, size: Size) -> FloatPixels:
        """[k, k], k odd, sum 1; the same for every size."""
        kernel = -self.amount * _gaussian(self.sigma, self.sigma)
        kernel[len(kernel) // 2, len(kernel) // 2] += 1 + self.amount
        return kernel

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        sharp = _convolve(image, self.kernel(_size(image)))
        return np.clip(sharp, 0, 255, out=sharp)


@dataclasses.dataclass(frozen=True)
class Downsample(Step):
    """Downsamples the face to 512 / `factor` pixels."""

    kind: ClassVar[str] = "down"
    factor: float = _number(1.0, 64.0)
    kernel: str = _choice(*KERNELS, *ANTIALIASED, default="area")

    def __str__(self) -> str:
        return f"down {self.factor:.3g}x ({self.kernel})"

    @property
    def strength(self) -> float:
        return math.log2(self.factor)

    def size(self, image: Size, full: Size) -> Size:
        """The new size of a picture of size `image`, in a degradation of a picture of size `full`."""
        per_pixel = REFERENCE / min(full) / self.factor
        height, width = (max(1, min(now, round(whole * per_pixel))) for now, whole in zip(image, full, strict=True))
        return height, width

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        return _resize(image, self.size(_size(image), full), self.kernel)


@dataclasses.dataclass(frozen=True)
class Enlarge(Step):
    """Enlarges to the size of the input; "nearest" looks pixelated."""

    kernel: str = _choice("bilinear", "bicubic", "nearest", default="bicubic")

    def __str__(self) -> str:
        return f"up ({self.kernel})"

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        return _resize(image, full, self.kernel)


@dataclasses.dataclass(frozen=True)
class Noise(Step):
    """Gaussian noise of standard deviation `sigma` (8-bit units). `gray`: the same in all channels, like film grain.
    `shot`: like Poisson noise, `sigma` at white and proportional to the root of the value."""

    kind: ClassVar[str] = "noise"
    measure: ClassVar[str] = "sigma"
    sigma: float = _number(0.0, 128.0)
    gray: bool = _choice(False, True, default=False)
    shot: bool = _choice(False, True, default=False)

    def __str__(self) -> str:
        return f"{'gray ' if self.gray else ''}{'shot ' if self.shot else ''}noise {self.sigma:.2g}/255"

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        height, width = _size(image)
        noise = rng.standard_normal((height, width, 1 if self.gray else 3), dtype=np.float32)
        noise *= np.float32(self.sigma)
        if self.shot:
            noise = noise * np.sqrt(np.clip(image, 0, 255) / np.float32(255))
        if self.gray and not self.shot:
            return image + noise
        noise += image
        return noise


@dataclasses.dataclass(frozen=True)
class Jpeg(Step):
    """JPEG at libjpeg's `quality`."""

    kind: ClassVar[str] = "jpeg"
    quality: int = _number(1, 100)
    subsampling: str = _choice(*SUBSAMPLING, default="4:2:0")

    def __str__(self) -> str:
        return f"JPEG q {self.quality}{'' if self.subsampling == '4:2:0' else f' ({self.subsampling})'}"

    @property
    def strength(self) -> float:
        return 100.0 - self.quality

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        sampling = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{self.subsampling.replace(':', '')}")
        settings = [cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        return _through_codec(image, ".jpg", settings)


@dataclasses.dataclass(frozen=True)
class WebP(Step):
    """Lossy WebP at `quality`."""

    kind: ClassVar[str] = "webp"
    quality: int = _number(1, 100)

    def __str__(self) -> str:
        return f"WebP q {self.quality}"

    @property
    def strength(self) -> float:
        return 100.0 - self.quality

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        return _through_codec(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, self.quality])


@dataclasses.dataclass(frozen=True)
class Tone(Step):
    """Moves every color toward gray, or with `sepia` toward brown, by `amount` (1: completely)."""

    kind: ClassVar[str] = "tone"
    measure: ClassVar[str] = "amount"
    amount: float = _number(0.0, 1.0, 1.0)
    sepia: bool = _choice(False, True, default=False)

    def __str__(self) -> str:
        return ("sepia" if self.sepia else "gray") + (f" {100 * self.amount:.0f}%" if self.amount < 1 else "")

    def matrix(self) -> FloatPixels:
        """[3, 3]: output channel by input channel."""
        toned = np.outer(SEPIA if self.sepia else (1, 1, 1), LUMA)
        return _pixels((1 - self.amount) * np.eye(3) + self.amount * toned)

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        toned = _pixels(cv2.transform(image, self.matrix()))
        return np.minimum(toned, 255, out=toned)


@dataclasses.dataclass(frozen=True)
class Fade(Step):
    """Reduces the range of tones to `contrast`. base: 0 darkens white, 1 brightens black."""

    kind: ClassVar[str] = "fade"
    contrast: float = _number(0.05, 1.0)
    base: float = _number(0.0, 1.0, 0.5)

    def __str__(self) -> str:
        return f"faded to {100 * self.contrast:.0f}% contrast"

    @property
    def strength(self) -> float:
        return 1 - self.contrast

    @property
    def offset(self) -> float:
        """The value that black becomes."""
        return 255 * self.base * (1 - self.contrast)

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        return image * np.float32(self.contrast) + np.float32(self.offset)


@dataclasses.dataclass(frozen=True)
class Contrast(Step):
    """Multiplies the contrast by `factor` around the gray value `middle` (0 is black, 1 is white), as in photocopies
    and hard prints. Tones beyond black and white are lost."""

    kind: ClassVar[str] = "contrast"
    measure: ClassVar[str] = "factor"
    factor: float = _number(1.0, 10.0)
    middle: float = _number(0.0, 1.0, 0.5)

    def __str__(self) -> str:
        return f"contrast x{self.factor:g}"

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        middle = np.float32(255 * self.middle)
        return np.clip((image - middle) * np.float32(self.factor) + middle, 0, 255)


@dataclasses.dataclass(frozen=True)
class Halftone(Step):
    """Prints the picture in dots: a round-dot screen with cells of `pitch` pixels, rotated by `angle` degrees.

    amount: 0 is none, 1 is ink and paper only, with soft edges. It counts as noise, because it is a texture on the
    picture.
    """

    kind: ClassVar[str] = "noise"
    pitch: float = _number(1.5, 40.0)
    angle: float = _number(0.0, 180.0, 45.0)
    amount: float = _number(0.0, 1.0, 1.0)

    def __str__(self) -> str:
        return f"halftone {self.pitch:.2g} px, {100 * self.amount:.0f}%"

    @property
    def strength(self) -> float:
        return 64 * self.amount

    def screen(self, size: Size) -> FloatPixels:
        """[H, W, 1]: the threshold of each pixel, 0..255, for a picture of that size."""
        pitch, turn = self.pitch * min(size) / REFERENCE, math.radians(self.angle)
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) * np.float32(2 * math.pi / pitch)
        across, along = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        return _pixels(127.5 + 63.75 * (np.cos(across) + np.cos(along)))[..., None]

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        dots = 255 / (1 + np.exp((self.screen(_size(image)) - image) / np.float32(SOFTNESS)))
        return _pixels(image + self.amount * (dots - image))


@dataclasses.dataclass(frozen=True)
class Paper(Step):
    """The texture of the paper: gray noise of standard deviation `sigma` (8-bit units) in grains `size` pixels wide.

    woven: threads across and down, each `WEAVE` times as long as thick, instead of round grains.
    """

    kind: ClassVar[str] = "noise"
    measure: ClassVar[str] = "sigma"
    sigma: float = _number(0.0, 128.0)
    size: float = _number(0.5, 20.0, 3.0)
    woven: bool = _choice(False, True, default=False)

    def __str__(self) -> str:
        return f"{'woven ' if self.woven else ''}paper of {self.size:.2g} px, {self.sigma:.2g}/255"

    def kernels(self, size: Size) -> list[FloatPixels]:
        """The kernels [k, k] that white noise is convolved with, for a picture of that size; all have equal shares of
        the variance."""
        thick = self.size / 3 * min(size) / REFERENCE  # standard deviation of a grain's profile
        long = thick * (WEAVE if self.woven else 1)
        found = [_gaussian(long, thick, angle) for angle in ((0.0, 90.0) if self.woven else (0.0,))]
        return [k / np.float32(np.sqrt(np.square(k).sum() * len(found))) for k in found]

    def run(self, image: FloatPixels, full: Size, rng: np.random.Generator) -> FloatPixels:
        size = _size(image)
        texture = np.zeros(size, np.float32)
        for kernel in self.kernels(size):
            texture += cv2.filter2D(rng.standard_normal(size, dtype=np.float32), -1, kernel)
        return _pixels(image + np.float32(self.sigma) * texture[..., None])


STEPS: dict[str, type[Step]] = {
    cls.__name__.lower(): cls
    for cls in (Blur, Motion, Sharpen, Downsample, Enlarge, Noise, Halftone, Paper, Jpeg, WebP, Tone, Fade, Contrast)
}
KINDS = tuple(dict.fromkeys(cls.kind for cls in STEPS.values() if cls.kind))
ADDING = frozenset({"noise", "jpeg", "webp"})
"""Kinds that add something to a picture; the others only remove detail."""


@dataclasses.dataclass(frozen=True)
class Degradation:
    """Steps of damage in order. After a `Downsample` there must be an `Enlarge`."""

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        small = False
        for step in self.steps:
            if not isinstance(step, Step):
                raise ValueError(f"{step!r} is not a step of a degradation")
            small = isinstance(step, Downsample) or (small and not isinstance(step, Enlarge))
        if small:
            raise ValueError("missing Enlarge after the last Downsample: the result must have the size of the input")

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps)) or "untouched"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its steps, in order of first appearance."""
        return tuple(dict.fromkeys(step.kind for step in self.steps if step.kind))

    @property
    def adds(self) -> bool:
        """Whether it adds something to the picture: one of `ADDING`, or the blocks of nearest-neighbor enlargement."""
        return any(step.kind in ADDING or step == Enlarge("nearest") for step in self.steps)

    def strength(self, kind: str) -> float:
        """The strength of its worst step of a kind; 0 without one. Raises ValueError for an unknown kind.

        Units: blur σ and motion length in pixels, amount of sharpen and tone, log2 of the factor of down, noise σ in
        8-bit units, 100 - quality for jpeg and webp, lost contrast for fade.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of damage {kind!r}")
        return max((step.strength for step in self.steps if step.kind == kind), default=0.0)

    def apply(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """A damaged copy of `image`, uint8 [H, W, 3] RGB. Raises ValueError for other shapes and types.

        The same seed gives the same pixels, with the same builds of OpenCV and Pillow.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"expected a uint8 picture [H, W, 3], got {image.dtype} {list(image.shape)}")
        rng = np.random.Generator(np.random.PCG64(seed))
        full = _size(image)
        pixels = image.astype(np.float32)
        for step in self.steps:
            pixels = step.run(pixels, full, rng)
        return _to_uint8(pixels)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: `{"steps": [{"step": "blur", "sigma": 3.1, "ratio": 1.0, "angle": 0.0}, ...]}`."""
        return {"steps": [{"step": step.name, **dataclasses.asdict(step)} for step in self.steps]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Degradation:
        """The inverse of `to_dict`. Raises ValueError for anything else."""
        if not isinstance(data, Mapping) or set(data) != {"steps"} or not isinstance(data["steps"], list | tuple):
            raise ValueError(f'a degradation is {{"steps": [...]}}, got {data!r}')
        return cls(tuple(_step_from_dict(step) for step in data["steps"]))


def _step_from_dict(data: Any) -> Step:
    if not isinstance(data, Mapping):
        raise ValueError(f"a step is an object, got {data!r}")
    fields = dict(data)
    name = fields.pop("step", None)
    if name not in STEPS:
        raise ValueError(f"unknown step {name!r}: choose from {', '.join(STEPS)}")
    try:
        return STEPS[name](**fields)
    except TypeError as error:  # an unknown or a missing field
        raise ValueError(f"step {name}: {error}") from None


def _size(image: FloatPixels | NDArray[np.uint8]) -> Size:
    return image.shape[0], image.shape[1]


def _pixels(array: Any) -> FloatPixels:
    return np.asarray(array, np.float32)


def _convolve(image: FloatPixels, kernel: FloatPixels) -> FloatPixels:
    return _pixels(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def _to_uint8(image: FloatPixels) -> NDArray[np.uint8]:
    rounded = np.rint(image)
    return np.clip(rounded, 0, 255, out=rounded).astype(np.uint8)


def _kernel_grid(reach: float) -> tuple[FloatPixels, FloatPixels]:
    """Row and column offsets [k, k] from the center of a kernel that reaches `reach` pixels in each direction."""
    radius = max(1, math.ceil(reach))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    return y, x


def _gaussian(along: float, across: float, angle: float = 0.0) -> FloatPixels:
    """[k, k], sum 1: standard deviation `along` in the direction `angle` (degrees), `across` perpendicular to it."""
    y, x = _kernel_grid(3 * along)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = c * x - s * y, s * x + c * y  # angles turn counter-clockwise, rows increase downward
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / max(across, 1e-3)) ** 2))
    return _pixels(kernel / kernel.sum())


def _resize(image: FloatPixels, size: Size, kernel: str) -> FloatPixels:
    if size == _size(image):
        return image
    if kernel in ANTIALIASED:
        resized = Image.fromarray(_to_uint8(image)).resize(size[::-1], ANTIALIASED[kernel])
        return np.asarray(resized).astype(np.float32)
    return _pixels(cv2.resize(image, size[::-1], interpolation=KERNELS[kernel]))


def _through_codec(image: FloatPixels, suffix: str, settings: list[int]) -> FloatPixels:
    _, data = cv2.imencode(suffix, cv2.cvtColor(_to_uint8(image), cv2.COLOR_RGB2BGR), settings)
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return _pixels(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))
