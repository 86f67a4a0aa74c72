"""Measures the calibration of a weights file (`panini.weights.calibration`) on faces with known originals.

Models are fitted on one set of faces, and their quality is measured on another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr, trim_mean
from skimage.metrics import peak_signal_noise_ratio
from sklearn.linear_model import Ridge, RidgeCV

from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.errors import PaniniError
from panini.evaluation.plotting import figure_file
from panini.evaluation.probe import Damaged, Pictures, damaged, damaged_faces, fit_linear, fit_probes
from panini.inference import Edit, Engine, RestoredCrop, restore_crop
from panini.photo.color import is_monochrome
from panini.photo.pixels import LUMA, Pixels, resize, to_signed
from panini.report.face_report import (
    detail_features,
    error_features,
    imagined_share,
    make_report,
    true_error,
)
from panini.weights.calibration import DIAL_REACH, Calibration, Linear

Array = NDArray[np.float32]

MIXED = ("paper", "paper", "wild", "paper", "sr16")
"""Distributions of the damage, in turns: mostly the paper's, sometimes longer chains, or 16x super-resolution."""
HEAVY = (
    Degradation((Blur(8.0),)),
    Degradation((Downsample(10.0), Enlarge())),
    Degradation((Blur(5.0), Downsample(8.0), Noise(15.0), Jpeg(25), Enlarge())),
)
"""Heavy degradations, which define the direction of the dial."""
STEPS = (0.15, 0.25, 0.35, DIAL_REACH)
"""Possible ranges of the dial on either side, relative to the length of v_DR."""
MOST_LOSS = 1.5
"""Largest typical loss of PSNR, in dB, at an end of the dial. A nearly clean face would dominate a plain mean."""
LEAST_TRADE = 0.02
"""Smallest change of PSNR, in dB, that justifies a wider range of the dial: less may be chance."""
SETTINGS = (-1.0, -0.5, 0.0, 0.5, 1.0)

Log = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """An original face and its damaged version, [512, 512, 3] each, and the v_DR [dim] of the latter."""

    truth: Pixels
    given: Pixels
    v: Array


def calibrate(engine: Engine, faces: Pictures, validation: Pictures, count: int = 64, log: Log = print) -> Calibration:
    """Measures the calibration of an engine's weights.

    faces: to fit the models on. validation: other faces, to measure the quality on.
    count: sets the number of samples: 2 * count restorations for the error map, count / 2 for the quality, about 9 *
        count in all.
    Raises PaniniError for too few faces.
    """
    if count < 16 or min(len(faces), len(validation)) < 8:
        raise PaniniError("calibrate needs at least 16 samples and 8 faces of each set")

    def side(pictures: Pictures, count: int, seed: int) -> Damaged:
        return damaged(lambda picture: _encode(engine, picture), damaged_faces(pictures, count, ("paper",), seed))

    probes = fit_probes(side(faces, 12 * count, 1), side(validation, 4 * count, 2))
    for kind, probe in probes.items():
        log(f"{kind}: presence {probe.accuracy:.1%} balanced accuracy, strength Spearman {probe.correlation:.2f}")

    nothing = Linear(np.zeros(0, np.float32), 0.0)
    tried = directions(lambda picture: _encode(engine, picture), faces, count // 2)
    draft = Calibration(engine.digest, tried[0], 1.0, 1.0, probes, nothing, nothing)
    draft = _dialed(engine, draft, tried, list(_samples(engine, faces, count // 2, seed=3)), log)
    error, imagined = _fit_truth(engine, draft, _samples(engine, faces, 2 * count, seed=4))
    draft = replace(draft, error=error, imagined=imagined)
    held_out = list(_samples(engine, validation, count // 2, seed=5))
    truth: dict[str, float] = {}
    curve = []
    for dial in SETTINGS:
        restored = [_restore(engine, draft, sample, dial) for sample in held_out]
        if not dial:
            truth = _examine_truth(draft, held_out, restored)
            log(
                "map: Spearman {map:.3f} (Laplacian of the input {laplacian:.3f}); "
                "imagined: Spearman {imagined:.2f}, off by {imagined_error:.3f}".format(**truth)
            )
        means = _measure(held_out, restored).mean(0)
        curve.append({"dial": dial} | dict(zip(MEASURES, map(float, means), strict=True)))
        log(
            "dial {dial:+.1f}: PSNR {psnr:.2f} dB, detail {detail:.3f}, share of the prior {prior:.3f} "
            "(features {features:.3f}, picture {picture:.3f})".format(**curve[-1])
        )
    measured = {"samples": 2 * count, "held_out": len(held_out), "truth": truth, "dial": curve}
    return replace(draft, measured=measured)


def _samples(engine: Engine, faces: Pictures, count: int, seed: int) -> Iterator[Sample]:
    for face in damaged_faces(faces, count, MIXED, seed):
        yield Sample(face.truth, face.given, _encode(engine, face.given))


def _encode(engine: Engine, picture: Pixels) -> Array:
    return engine.degradation(to_signed(picture)[None])[0]


def directions(encode: Callable[[Pixels], Array], faces: Pictures, count: int) -> list[Array]:
    """Unit vectors [dim] from the v_DR of undamaged faces to that of damaged ones: first their mean direction, which
    training uses for the dial, then one for each of `HEAVY`. encode: returns the v_DR [dim] of a picture [512, 512,
    3]."""
    moves = np.zeros((len(HEAVY), 1), np.float32)
    for i in range(count):
        whole = faces[i % len(faces)]
        moves = moves + np.stack([encode(d.apply(whole, i)) for d in HEAVY]) - encode(whole)
    units = moves / np.linalg.norm(moves, axis=1, keepdims=True)
    units = np.concatenate([units.mean(0, keepdims=True), units])
    return [np.asarray(unit / np.linalg.norm(unit), np.float32) for unit in units]


def _restore(engine: Engine, calibration: Calibration, sample: Sample, dial: float) -> RestoredCrop:
    """Restores a sample as `Restorer` does, with a calibration that is not complete yet."""
    return restore_crop(
        engine,
        sample.given,
        Edit(start=calibration.apply_dial(sample.v, dial) if dial else None),
        monochrome=is_monochrome(sample.given),
        own=sample.v,
    )


def log_detail(picture: Pixels) -> float:
    """The log of the standard deviation of what a Gaussian of 1.5 pixels removes: detail and noise."""
    luma = picture.astype(np.float32) @ LUMA
    return float(np.log(np.std(luma - cv2.GaussianBlur(luma, (0, 0), 1.5)) + 1e-3))


MEASURES = ("psnr", "detail", "prior", "features", "picture")
"""Measures of a restoration: PSNR, detail (`log_detail`), and the share of the prior in all interpolations of the
network, in those of features (DAFI) and in that of the picture (PictureDAFI)."""


def _measure(samples: Sequence[Sample], restorations: Sequence[RestoredCrop]) -> NDArray[np.float64]:
    """[faces, `MEASURES`]."""
    rows = []
    for sample, restored in zip(samples, restorations, strict=True):
        picture = resize(restored.image, sample.truth.shape[0], cv2.INTER_AREA)
        rows.append(
            (
                peak_signal_noise_ratio(sample.truth, picture),
                log_detail(picture),
                np.concatenate([restored.prior_share, 1 - restored.image_share]).mean(),
                restored.prior_share.mean(),
                1 - restored.image_share.mean(),
            )
        )
    return np.array(rows)


_typical = partial(trim_mean, proportiontocut=0.1, axis=0)
"""The mean over faces without a tenth at each end."""


def _dialed(
    engine: Engine, calibration: Calibration, directions: Sequence[Array], samples: Sequence[Sample], log: Log
) -> Calibration:
    """`calibration` with a dial: the first direction that trades fidelity for realism on both sides, and its range.

    With each of `STEPS` toward realism, detail must increase, and PSNR decrease; it may increase by less than
    `LEAST_TRADE`. A step extends the range if PSNR has changed by at least this since the step before in the range. (A
    few sharpened faces dominate the plain mean: for these, fidelity to halos reduces PSNR. The median, or a mean of
    fewer faces, ignores that some faces change from the generated face to the picture.) If no step does, the shortest
    is used, with a message.
    """

    def tried(direction: Array, reach: float) -> NDArray[np.float64]:
        dialed = replace(calibration, direction=direction, faithful=-reach, realistic=reach)
        return _measure(samples, [_restore(engine, dialed, sample, float(np.sign(reach))) for sample in samples])

    def trades(side: int, nearer: NDArray[np.float64], farther: NDArray[np.float64], least: float) -> bool:
        psnr, sharp = side * _typical(farther - nearer)[:2]
        return bool(psnr < -least and sharp > 0)

    middle = tried(directions[0], 0.0)

    def worth(direction: Array) -> int:
        """The number of sides (faithful, realistic) that trade fidelity for realism at a standard step."""
        return sum(trades(side, middle, tried(direction, side * STEPS[2]), LEAST_TRADE) for side in (-1, 1))

    best, most = 0, -1
    for i, direction in enumerate(directions):
        if (sides := worth(direction)) > most:
            best, most = i, sides
        if most == 2:
            break
    reach = {}
    for side, name in ((-1, "faithful"), (1, "realistic")):
        end = before = middle
        reach[side] = 0.0
        for step in STEPS:
            now = tried(directions[best], side * step)
            if not trades(side, before, now, -LEAST_TRADE) or _typical(middle - now)[0] > MOST_LOSS:
                break
            before = now
            if trades(side, end, now, LEAST_TRADE):
                end, reach[side] = now, step
        if not reach[side]:
            reach[side] = STEPS[0]
            log(f"the dial is not monotone on its {name} side")
    log(f"dial: direction {best}, {reach[-1]:g} to faithful, {reach[1]:g} to realistic")
    return replace(calibration, direction=directions[best], faithful=reach[-1], realistic=reach[1])


def _fit_truth(engine: Engine, calibration: Calibration, samples: Iterable[Sample]) -> tuple[Linear, Linear]:
    """Fits the error map and the imagined share to restorations at random settings of the dial."""
    rng = np.random.default_rng(6)
    places: list[Array] = []
    errors: list[Array] = []
    faces: list[Array] = []
    shares: list[float] = []
    for sample in samples:
        restored = _restore(engine, calibration, sample, float(rng.uniform(-1, 1)))
        features = error_features(sample.given, restored.image, restored.image_share)
        chosen = rng.choice(features[..., 0].size, 1024, replace=False)  # neighbors are redundant
        places.append(features.reshape(-1, features.shape[-1])[chosen])
        errors.append(np.log1p(true_error(restored.image, sample.truth)).ravel()[chosen])
        faces.append(detail_features(sample.given, restored.image, restored.image_share))
        small = resize(restored.image, sample.truth.shape[0], cv2.INTER_AREA)
        shares.append(imagined_share(small, sample.truth))
    odds = np.clip(shares, 0.005, 0.995)
    return (
        fit_linear(np.concatenate(places), np.concatenate(errors), Ridge(10.0)),
        fit_linear(np.stack(faces), np.log(odds / (1 - odds)), RidgeCV(np.logspace(-1, 3, 9))),
    )


def _examine_truth(
    calibration: Calibration, samples: Sequence[Sample], restorations: Sequence[RestoredCrop]
) -> dict[str, float]:
    """Quality of the error map and the imagined share on held-out faces; the map is compared with the Laplacian of
    the input."""
    rows, shares = [], []
    for sample, restored in zip(samples, restorations, strict=True):
        zero = np.zeros(len(calibration.direction), np.float32)
        report = make_report(
            calibration, zero, restored.prior_share, restored.image_share, sample.given, restored.image
        )
        assert report.map is not None
        assert report.imagined is not None
        error = true_error(restored.image, sample.truth).ravel()
        sharp = np.abs(cv2.Laplacian(sample.given.astype(np.float32) @ LUMA, cv2.CV_32F))
        sharp = cv2.resize(sharp, report.map.shape[::-1], interpolation=cv2.INTER_AREA).ravel()
        rows.append((spearmanr(report.map.ravel(), error).statistic, spearmanr(sharp, error).statistic))
        small = resize(restored.image, sample.truth.shape[0], cv2.INTER_AREA)
        shares.append((report.imagined, imagined_share(small, sample.truth)))
    told, true = np.array(shares).T
    ranks = np.mean(rows, 0)
    return {
        "map": float(ranks[0]),
        "laplacian": float(ranks[1]),
        "imagined": float(spearmanr(told, true).statistic),
        "imagined_error": float(np.abs(told - true).mean()),
    }


def plot_dial(calibration: Calibration, path: Path) -> None:
    """Plots the curve of the dial on the validation faces; the suffix of `path` is the format. Raises PaniniError."""
    rows = calibration.measured["dial"]
    panels = {
        "PSNR to the truth, dB": {"psnr": ""},
        "detail (log)": {"detail": ""},
        "share of the prior": {"prior": "all interpolations", "picture": "the picture", "features": "features"},
    }
    with figure_file(path, (12, 3.4), 100) as figure:
        for axes, (title, lines) in zip(figure.subplots(1, 3).flat, panels.items(), strict=True):
            for name, label in lines.items():
                axes.plot([row["dial"] for row in rows], [row[name] for row in rows], "o-", label=label)
            axes.set(title=title, xlabel="dial: faithful … realistic")
            if len(lines) > 1:
                axes.legend(fontsize=8)
