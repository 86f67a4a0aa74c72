"""The report of one restored face: its damage, the share of imagined detail and the expected errors.

Every number is a prediction, calibrated on faces with a known original (`panini calibrate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
"""Regions of the FFHQ crop: left, top, right and bottom, relative to its side. "Skin" is the rest of the oval of the
face. Everything else is "hair and surroundings"."""

_LIKELY = 0.5  # probability above which damage counts as found
NEARLY_ALL = 0.48
"""Share of imagined detail above which nearly all of a face counts as imagined. The share is lower than it looks,
because light and color, which the photo still has, count as well."""
TINY = 24.0
"""Width in pixels up to which nearly all of a face counts as imagined, too."""
_UNLIKE = "it may not look like the person"
_LITTLE = 0.075  # share of imagined detail that is indistinguishable from none
_UNSURE = 6.0  # of 255: mean of the map above which a face with little imagined detail may still be wrong
_CROP = 512.0  # pixels: side of the crop that the network sees
_ENLARGED = 0.9  # of that side: a smaller crop counts as low resolution
_FACE = 0.58  # width of a face, relative to the crop's side
_WORST = 0.9  # quantile of the map by which regions are compared
_SMOOTH = 1.5  # pixels of the map: sigma of the neighborhood in which energy is measured


@dataclass(frozen=True)
class Damage:
    """One type of damage, predicted from v_DR."""

    kind: str
    """`blur`, `down` (low resolution), `noise`, `jpeg` or `scratches`."""
    probability: float
    """Probability that it is present, with a prior probability of one half."""
    strength: float
    """Its strength if it is present. blur: σ in pixels of a 512-pixel crop; down: width of the face in pixels; noise:
    σ, of 255; jpeg: quality; scratches: share of the crop."""
    words: str
    """A description, such as "strong noise"."""


@dataclass(frozen=True)
class FaceReport:
    """The report of one restored face. Without a calibration, only the shares are known."""

    damages: list[Damage]
    """Every type of damage with a reliable probe, present or not."""
    prior_share: list[float]
    """The share of each level of the network, coarse (4x4) to fine, that came from the GAN prior; in [0, 1]."""
    image_share: float
    """The share of the photo in the result, without color and light, which are always the photo's; in [0, 1]. The rest
    is generated."""
    imagined: float | None
    """The share of detail in the result that is not in the true face, in [0, 1]."""
    regions: dict[str, float]
    """The 0.9 quantile of `map` in each region of the face, of 255."""
    map: Array | None
    """[S, S]: expected absolute error at each position in the crop, of 255."""
    dial: float = 0.0
    strength: float = 1.0
    like: bool = False
    """Whether the damage of another photo was assumed."""
    passes: int = 1
    """Number of passes that were averaged."""

    @property
    def found(self) -> list[Damage]:
        """The damage that is probably present, most likely first."""
        return sorted((d for d in self.damages if d.probability > _LIKELY), key=lambda d: -d.probability)

    @property
    def nearly_all_imagined(self) -> bool:
        """Whether so much is imagined that the face may not look like the person."""
        tiny = any(damage.kind == "down" and damage.strength <= TINY for damage in self.damages)
        return self.imagined is not None and (tiny or self.imagined >= NEARLY_ALL)


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
    """Makes the report of a face.

    v: its own v_DR [dim]. before, after: the crop and the restored crop, uint8 [S, S, 3], possibly of different sizes.
    native: side of the crop in pixels of the photo, if known.
    """
    shares = ([float(x) for x in prior_share], float(image_share[0]))
    if calibration is None:
        return FaceReport([], *shares, None, {}, None, dial, strength, like, passes)
    errors = np.maximum(np.expm1(calibration.error(error_features(before, after, image_share))), 0)
    imagined = float(_sigmoid(calibration.imagined(detail_features(before, after, image_share))))
    regions = {name: float(np.quantile(errors[mask], _WORST)) for name, mask in region_masks(errors.shape[0]).items()}
    return FaceReport(damages(calibration, v, native), *shares, imagined, regions, errors, dial, strength, like, passes)


def damages(calibration: Calibration, v: Array, native: float | None = None) -> list[Damage]:
    """Predicts the damage from v_DR [dim], for each type with a reliable probe.

    native: side of the crop in pixels of the photo, if known. It limits the resolution of the face.
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
    """Describes the report in a few sentences."""
    sentences = []
    if report.damages:
        found = [damage.words for damage in report.found]
        sentences.append(f"Found: {', '.join(found)}." if found else "No damage found.")
    if report.imagined is not None:
        ordered = sorted(report.regions, key=lambda name: -report.regions[name])
        share = share_in_words(report.imagined).capitalize()
        where = f"; least certain: {ordered[0]}" if report.imagined >= _LITTLE and ordered else ""
        if not where and report.map is not None and report.map.mean() > _UNSURE:
            where = "; where the map is bright, the photo itself may be wrong"
        sentences.append(f"{share} of the detail in this face is imagined{where}.")
        if report.nearly_all_imagined:
            sentences.append(f"That is nearly all of it: the face is plausible, but {_UNLIKE}.")
    else:
        sentences.append("The share of imagined detail is not known, because these weights have no calibration.")
    return " ".join(sentences)


def share_in_words(imagined: float) -> str:
    """Describes the share of imagined detail, as precisely as the prediction allows: "about 30%" or "little"."""
    return f"about {5 * round(20 * imagined)}%" if imagined >= _LITTLE else "little"


def imagined_warning(reports: Sequence[FaceReport]) -> str:
    """The warning about faces in a photo of which nearly all is imagined; empty if there are none."""
    numbers = [str(number) for number, report in enumerate(reports, 1) if report.nearly_all_imagined]
    which = "the face" if len(reports) == 1 else f"face {', '.join(numbers)}"
    return f"nearly all of {which} is imagined: {_UNLIKE}" if numbers else ""


def as_dict(report: FaceReport) -> dict[str, Any]:
    """The report as plain values for JSON, with `expected_error` per region instead of the map."""
    return {
        "summary": describe(report),
        "damage": [
            asdict(d) | {"probability": round(d.probability, 3), "strength": round(d.strength, 2)}
            for d in report.damages
        ],
        "prior_share": [round(x, 4) for x in report.prior_share],
        "image_share": round(report.image_share, 4),
        "imagined": None if report.imagined is None else round(report.imagined, 3),
        "nearly_all_imagined": report.nearly_all_imagined,
        "expected_error": {name: round(value, 2) for name, value in report.regions.items()},
        "dial": report.dial,
        "strength": report.strength,
        "like": report.like,
        "passes": report.passes,
    }


def error_features(before: Pixels, after: Pixels, image_share: Array) -> Array:
    """Features [S / 4, S / 4, n] for the error map, from a crop [S, S, 3] and its restoration (any size).

    They are the log of the local energy of each band of the result and of the input, and the image shares.
    """
    given, result = _details(before), _details(resize(after, before.shape[0], cv2.INTER_AREA))
    side = before.shape[0] // 4
    local = [_local_energy(band, side) for band in (*result, *given)]
    return np.stack([*local, *(np.full((side, side), share, np.float32) for share in image_share)], -1)


def detail_features(before: Pixels, after: Pixels, image_share: Array) -> Array:
    """Features [n] for the share of imagined detail, from a crop [S, S, 3] and its restoration (any size).

    For each band: the energy of the result, the energy of the input, and the share of the result that the input
    explains; then the image shares.
    """
    features = []
    for g, r in zip(_details(before), _details(resize(after, before.shape[0], cv2.INTER_AREA)), strict=True):
        features += [np.log(_rms(r) + 0.5), np.log(_rms(g) + 0.5), _explained(r, g)]
    return np.array([*features, *image_share], np.float32)


def imagined_share(after: Pixels, truth: Pixels) -> float:
    """The share of detail in `after` [S, S, 3] that is not in the original `truth` [S, S, 3], in [0, 1].

    This is the unexplained variance in each band of the Laplacian pyramid, averaged with the energies as weights.
    """
    bands = list(zip(_details(after), _details(truth), strict=True))
    weights = np.array([_rms(r) for r, _ in bands]) + 1e-6
    return float((weights * [1 - _explained(r, t) for r, t in bands]).sum() / weights.sum())


def true_error(after: Pixels, truth: Pixels) -> Array:
    """Mean absolute error [S / 4, S / 4] of `after` (any size) against `truth` [S, S, 3] in 4x4 blocks, of 255."""
    side = truth.shape[0]
    error = np.abs(resize(after, side, cv2.INTER_AREA).astype(np.float32) - truth).mean(2)
    return np.asarray(cv2.resize(error, (side // 4, side // 4), interpolation=cv2.INTER_AREA), np.float32)


def region_masks(side: int) -> dict[str, NDArray[np.bool_]]:
    """A mask [side, side] for each region. The masks cover the crop without overlap."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    masks = {
        name: (x >= left) & (x < right) & (y >= top) & (y < bottom)
        for name, (left, top, right, bottom) in REGIONS.items()
    }
    features = np.any(list(masks.values()), axis=0)
    oval = ((x - 0.5) / 0.27) ** 2 + ((y - 0.55) / 0.36) ** 2 < 1
    return masks | {"skin": oval & ~features, "hair and surroundings": ~oval & ~features}


def _in_words(kind: str, strength: float) -> tuple[float, str]:
    """Converts a strength from the scale of the probe (about 0..1) to its own unit, and to words."""
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
    """Rounded to tens below 200, to fifties above."""
    step = 10 if value < 200 else 50
    return max(step, step * round(value / step))


def _details(picture: Pixels) -> list[Array]:
    """The Laplacian pyramid of a picture's brightness [S, S, 3], finest first, without the last 16 pixels."""
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
    """Share of the variance of `a` that `b` explains: the squared correlation, 0 if it is negative."""
    return max(0.0, float(np.mean(a * b)) / max(_rms(a) * _rms(b), 1e-6)) ** 2


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
