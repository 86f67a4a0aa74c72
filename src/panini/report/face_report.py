"""The truth about one restored face: what was wrong with it, how much of it is imagined, and where.

Every number is a prediction, calibrated on faces whose truth is known (`panini calibrate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.photo.pixels import LUMA, Pixels, resize
from panini.weights.calibration import Calibration

Array = NDArray[np.float32]

REGIONS: dict[str, tuple[float, float, float, float]] = {
    "eyes": (0.26, 0.41, 0.74, 0.54),
    "nose": (0.40, 0.54, 0.60, 0.66),
    "mouth": (0.34, 0.66, 0.66, 0.78),
}
"""Where they lie in the FFHQ crop: left, top, right, bottom, as shares of its side. The skin is what is left of the
face's oval, and the surroundings all else."""

_LIKELY = 0.5  # a damage is there
_LITTLE = 0.075  # imagined: less than what can be told from none
_UNSURE = 6.0  # of 255: the map's mean from which a face with little imagined is still said to be doubtful
_CROP = 512.0  # px: the side of a crop as the network sees it,
_ENLARGED = 0.9  # and the share of it under which a face is said to have been enlarged for that
_FACE = 0.58  # of the crop's side: how wide a face is in it
_WORST = 0.9  # the quantile by which regions are compared: what is bright in the map, not how much of it is
_SMOOTH = 1.5  # of the map's pixels: the neighbourhood in which energy is measured


@dataclass(frozen=True)
class Damage:
    """One kind of damage, as v_DR tells it."""

    kind: str
    """blur, down, noise or jpeg."""
    probability: float
    """That it is there, if every second picture has it."""
    strength: float
    """If it is there. Blur: σ in pixels of a 512 px face; down: the face's width in pixels; noise: σ of 255; jpeg: the
    quality."""
    words: str
    """For people: "strong noise"."""


@dataclass(frozen=True)
class FaceReport:
    """What is known of one restored face. Without a calibration only the shares are."""

    damages: list[Damage]
    """Every kind that v_DR tells reliably, likely or not."""
    prior_share: list[float]
    """How much of each level of the network, coarse (4x4) to fine, came from the GAN prior and not from the photo."""
    image_share: list[float]
    """How much of each octave of the photo's own detail was kept, finest first, the last one colour and light."""
    imagined: float | None
    """Share of the result's detail that the true face would not bear out, 0..1."""
    regions: dict[str, float]
    """What the worst tenth of the map begins at, by region of the face."""
    map: Array | None
    """[S, S]: by how many of 255 levels each place of the crop is expected to be off the truth."""
    dial: float = 0.0
    strength: float = 1.0
    like: bool = False
    """Whether the face was treated as if damaged like that of another photo."""
    passes: int = 1
    """How many passes of the network the result is the mean of."""

    @property
    def found(self) -> list[Damage]:
        """The damages that are likelier there than not, the likeliest first."""
        return sorted((d for d in self.damages if d.probability > _LIKELY), key=lambda d: -d.probability)


def make_report(
    calibration: Calibration | None,
    v: Array,
    prior_share: Array,
    image_share: Array,
    before: Pixels,
    after: Pixels,
    *,
    native: float | None = None,
    dial: float = 0.0,
    strength: float = 1.0,
    like: bool = False,
    passes: int = 1,
) -> FaceReport:
    """The report of a face: its own v_DR [dim], the shares of its restoration, its crop before and after.

    native: side of the crop in the photo's own pixels, if known.
    """
    shares = ([float(x) for x in prior_share], [float(x) for x in image_share])
    if calibration is None:
        return FaceReport([], *shares, None, {}, None, dial, strength, like, passes)
    errors = np.maximum(np.expm1(calibration.error(error_features(before, after, image_share))), 0)
    imagined = float(_sigmoid(calibration.imagined(detail_features(before, after, image_share))))
    regions = {name: float(np.quantile(errors[mask], _WORST)) for name, mask in region_masks(errors.shape[0]).items()}
    return FaceReport(damages(calibration, v, native), *shares, imagined, regions, errors, dial, strength, like, passes)


def damages(calibration: Calibration, v: Array, native: float | None = None) -> list[Damage]:
    """What v_DR [dim] says of each kind of damage that it tells reliably; nothing need be restored for that.

    native: side of the crop in the photo's own pixels: a face cannot be of a higher resolution than its file.
    """
    seen = []
    for kind, probe in calibration.probes.items():
        if probe.reliable:
            likely, strength = float(_sigmoid(probe.presence(v))), float(probe.strength(v))
            if kind == "down" and native is not None and native < _ENLARGED * _CROP:
                likely, strength = 1.0, max(strength, float(np.log2(_CROP / native)) / 4)
            seen.append(Damage(kind, likely, *_in_words(kind, strength)))
    return seen


def describe(report: FaceReport) -> str:
    """The report in a sentence or two."""
    sentences = []
    if report.damages:
        found = [damage.words for damage in report.found]
        sentences.append(f"Found: {', '.join(found)}." if found else "No damage found.")
    if report.imagined is not None:
        ordered = sorted(report.regions, key=lambda name: -report.regions[name])
        share = share_in_words(report.imagined).capitalize()
        where = f"; most doubtful: {ordered[0]}" if report.imagined >= _LITTLE and ordered else ""
        if not where and report.map is not None and report.map.mean() > _UNSURE:
            where = "; where the map is bright, the photo itself may be off"
        sentences.append(f"{share} of the detail in this face is imagined{where}.")
    else:
        sentences.append("How much of this face is imagined is not known: the network has no calibration.")
    return " ".join(sentences)


def share_in_words(imagined: float) -> str:
    """A share imagined, as exactly as it is known: "about 30 %", or "little"."""
    return f"about {5 * round(20 * imagined)} %" if imagined >= _LITTLE else "little"


def as_dict(report: FaceReport) -> dict[str, Any]:
    """The report for JSON: all but the map, of which there are the worst tenths by region."""
    return {
        "summary": describe(report),
        "damage": [
            {
                "kind": d.kind,
                "probability": round(d.probability, 3),
                "strength": round(d.strength, 2),
                "words": d.words,
            }
            for d in report.damages
        ],
        "prior_share": [round(x, 4) for x in report.prior_share],
        "image_share": [round(x, 4) for x in report.image_share],
        "imagined": None if report.imagined is None else round(report.imagined, 3),
        "expected_error": {name: round(value, 2) for name, value in report.regions.items()},
        "dial": report.dial,
        "strength": report.strength,
        "like": report.like,
        "passes": report.passes,
    }


def error_features(before: Pixels, after: Pixels, image_share: Array) -> Array:
    """[S / 4, S / 4, features] of a crop [S, S, 3] and its restoration (any size): what the error map is made of.

    The log of the local energy of each octave of the result and of the input, and the shares kept of the input.
    """
    given, result = _details(before), _details(resize(after, before.shape[0], cv2.INTER_AREA))
    side = before.shape[0] // 4
    local = [_local_energy(band, side) for band in (*result, *given)]
    return np.stack([*local, *(np.full((side, side), share, np.float32) for share in image_share)], -1)


def detail_features(before: Pixels, after: Pixels, image_share: Array) -> Array:
    """[features] of a crop [S, S, 3] and its restoration (any size): what the imagined share is told from.

    By octave: how strong the result's detail is, how strong the input's, and how much of the one the other explains;
    and the shares kept of the input.
    """
    features = []
    for g, r in zip(_details(before), _details(resize(after, before.shape[0], cv2.INTER_AREA)), strict=True):
        features += [np.log(_rms(r) + 0.5), np.log(_rms(g) + 0.5), _explained(r, g)]
    return np.array([*features, *image_share], np.float32)


def imagined_share(after: Pixels, truth: Pixels) -> float:
    """Share of the detail of `after` that `truth`, of the same face and size [S, S, 3], does not bear out, 0..1.

    In each octave of detail, how much of its variance the truth's leaves unexplained; the mean, by the octave's
    strength.
    """
    octaves = list(zip(_details(after), _details(truth), strict=True))
    weights = np.array([_rms(r) for r, _ in octaves]) + 1e-6
    return float((weights * [1 - _explained(r, t) for r, t in octaves]).sum() / weights.sum())


def true_error(after: Pixels, truth: Pixels) -> Array:
    """[S / 4, S / 4]: mean absolute error of `after` (any size) against `truth` [S, S, 3] in 4x4 blocks, of 255."""
    side = truth.shape[0]
    error = np.abs(resize(after, side, cv2.INTER_AREA).astype(np.float32) - truth).mean(2)
    return np.asarray(cv2.resize(error, (side // 4, side // 4), interpolation=cv2.INTER_AREA), np.float32)


def region_masks(side: int) -> dict[str, NDArray[np.bool_]]:
    """[side, side] each, without overlap."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    masks = {
        name: (x >= left) & (x < right) & (y >= top) & (y < bottom)
        for name, (left, top, right, bottom) in REGIONS.items()
    }
    features = np.any(list(masks.values()), axis=0)
    oval = ((x - 0.5) / 0.27) ** 2 + ((y - 0.55) / 0.36) ** 2 < 1
    return masks | {"skin": oval & ~features, "hair and surroundings": ~oval & ~features}


def _in_words(kind: str, strength: float) -> tuple[float, str]:
    """The strength of the probe's scale (about 0..1) in its own unit, and both in words."""
    strength = float(np.clip(strength, 0, 1))

    def degree(value: float, mild: float, strong: float) -> str:
        return "slight" if value < mild else "strong" if value > strong else "moderate"

    match kind:
        case "blur":
            sigma = float(np.expm1(strength * np.log1p(9.0)))
            return sigma, f"{degree(sigma, 1.5, 4)} blur"
        case "down":
            pixels = _FACE * _CROP / 2 ** (4 * strength)
            return pixels, f"low resolution (about {_round(pixels)} pixels across the face)"
        case "noise":
            sigma = 32 * strength
            return sigma, f"{degree(sigma, 6, 15)} noise"
        case "jpeg":
            quality = 100 * (1 - strength)
            return quality, f"{degree(-quality, -70, -40)} JPEG compression (quality about {_round(quality)})"
    return strength, f"{degree(strength, 0.3, 0.6)} {kind}"


def _round(value: float) -> int:
    """To a number that does not pretend to more than it knows."""
    step = 10 if value < 200 else 50
    return max(step, step * round(value / step))


def _details(picture: Pixels) -> list[Array]:
    """The octaves of the brightness of a picture [S, S, 3], finest first, without the rest of 16 pixels."""
    rest: Array = picture.astype(np.float32) @ LUMA
    bands = []
    while rest.shape[0] > 16:
        half = np.asarray(cv2.resize(rest, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
        bands.append(rest - np.asarray(cv2.resize(half, rest.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32))
        rest = half
    return bands


def _local_energy(band: Array, side: int) -> Array:
    interpolation = cv2.INTER_AREA if band.shape[0] > side else cv2.INTER_LINEAR
    energy = cv2.GaussianBlur(cv2.resize(band**2, (side, side), interpolation=interpolation), (0, 0), _SMOOTH)
    return np.asarray(np.log(np.sqrt(np.maximum(energy, 0)) + 0.5), np.float32)


def _rms(band: Array) -> float:
    return float(np.sqrt(np.mean(band**2)))


def _explained(a: Array, b: Array) -> float:
    """Share of the variance of `a` that `b` explains: their correlation squared, nothing if they are opposed."""
    return max(0.0, float(np.mean(a * b)) / max(_rms(a) * _rms(b), 1e-6)) ** 2


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
