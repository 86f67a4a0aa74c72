"""The evaluation table: scores of restored faces and their inputs, by kind and strength of the degradation.

It scores an engine with default settings, or any folder of results. Random draws depend on a seed, and every mean has a
95% confidence interval (bootstrap over faces).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from torch.nn.functional import adaptive_avg_pool2d

from panini.degradation import draw
from panini.errors import PaniniError
from panini.evaluation.identity import Identity
from panini.evaluation.plotting import figure_file
from panini.evaluation.validation import Face, Scorer, enlarged, grid, load_faces, load_truths
from panini.faces.detect import CenterFace
from panini.files import write_file
from panini.photo.pixels import Pixels, read_rgb, resize

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
Restore = Callable[[Face], Pixels]
"""The result for a face."""

TASKS = ("mfr", "sr16", "heavy", "wild")
SIDE = 512
WINDOWS = 4
"""For the Fréchet distance, each face gives WINDOWS x WINDOWS features, which are means over windows."""
RESAMPLES = 1000
FRECHET_RESAMPLES = 50
THIRDS = ("light", "medium", "heavy")
"""Strength of damage: thirds of the faces by the ST-LPIPS of the input."""
SKINS = {"light": 41.0, "medium": 10.0, "dark": -91.0}
"""Minimum individual typology angle of each skin tone, in degrees (Chardon et al. 1991: light from 41 on; intermediate
and tan from 10 on; brown and dark below that)."""
_CHEEKS = ((0.30, 0.40), (0.60, 0.70)), (0.55, 0.66)
"""Cheeks in an aligned crop: columns of the left and of the right one, and rows of both."""


@dataclass(frozen=True)
class Metric:
    title: str
    format: str
    higher: bool
    """Whether higher is better."""


METRICS = {
    "psnr": Metric("PSNR, dB", ".2f", True),
    "ssim": Metric("SSIM", ".3f", True),
    "stlpips": Metric("ST-LPIPS", ".3f", False),
    "identity": Metric("identity distance", ".3f", False),
    "landmarks": Metric("landmark distance, % of the eyes'", ".2f", False),
    "frechet": Metric("Fréchet distance, VGG16 windows", ".4f", False),
}


@dataclass(frozen=True)
class Scored:
    """The scores of one face, by metric; NaN if one could not be measured. features: [windows, channels]."""

    case: Face
    given: Mapping[str, float]
    result: Mapping[str, float]
    features: tuple[Array, Array, Array]
    """Of the truth, the input and the result."""
    picture: Pixels


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """A group of faces: its size, and by metric the scores of the input and of the result."""

    name: str
    count: int
    scores: Mapping[str, tuple[Estimate, Estimate]]


def cases(folder: Path, task: str, seed: int = 0, limit: int | None = None, part: str = "all") -> list[Face]:
    """The faces of a task, at most `limit` of them, spread evenly over those of the folder with even or odd names.

    A validation folder (`manifest.json`) contains the inputs of mfr, sr16 and heavy; for `wild`, and for a plain folder
    of faces, degradations are drawn from the seed. Raises PaniniError.
    """
    if task not in TASKS:
        raise PaniniError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    if task != "wild" and (folder / "manifest.json").exists():
        found = load_faces(folder, (task,))
        return _spread([case for case in found if part == "all" or int(case.name) % 2 == (part == "odd")], limit)
    numbered = list(enumerate(load_truths(folder)))
    truths = _spread([(i, face) for i, face in numbered if part == "all" or i % 2 == (part == "odd")], limit)
    made = []
    for i, truth in truths:
        damage = draw({"mfr": "paper"}.get(task, task), np.random.default_rng((seed, i)))
        made.append(Face(f"{i:03d}", task, task, truth, damage.apply(truth, i)))
    return made


def _spread(items: list[Any], limit: int | None) -> list[Any]:
    if limit is None or limit >= len(items):
        return items
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, limit)]


def results_of(folder: Path) -> Restore:
    """Finds the result for a case in a folder of results: the picture with its name and any suffix.

    Raises PaniniError if it is missing or not a picture.
    """

    def result(case: Face) -> Pixels:
        paths = sorted(path for path in folder.glob(f"{case.name}.*") if path.is_file())
        if not paths:
            raise PaniniError(f"{folder} has no result called {case.name}")
        picture = read_rgb(paths[0])
        if picture.shape[0] != picture.shape[1]:
            raise PaniniError(f"{paths[0]}: a face crop must be square, not {picture.shape[1]}x{picture.shape[0]}")
        return picture

    return result


def score(restore: Restore, faces: Sequence[Face], progress: Progress = lambda done, count: None) -> list[Scored]:
    """Restores and scores each face at 512: results averaged down, inputs `enlarged`."""
    scorer, identity, detector = Scorer(), Identity.available(), CenterFace(min_face=100)
    rows = []
    for i, case in enumerate(faces):
        given = enlarged(case.given, SIDE)
        result = restore(case)
        result = resize(result, SIDE, cv2.INTER_AREA if result.shape[0] > SIDE else cv2.INTER_CUBIC)
        pictures = (case.truth, given, result)
        features = scorer.features(*pictures)
        pooled = [adaptive_avg_pool2d(own[2], WINDOWS)[0].flatten(1).T for own in features]
        people = identity.distances(*pictures) if identity else [np.nan, np.nan]
        places = [_landmarks(detector, picture) for picture in pictures]
        values = [
            vars(scores) | {"identity": person, "landmarks": landmark_distance(places[0], place)}
            for scores, person, place in zip(scorer(*pictures, features=features), people, places[1:], strict=True)
        ]
        truth, before, after = (part.double().numpy() for part in pooled)
        rows.append(Scored(case, values[0], values[1], (truth, before, after), result))
        progress(i + 1, len(faces))
    return rows


def _landmarks(detector: CenterFace, picture: Pixels) -> NDArray[np.float32] | None:
    found = detector(picture)
    return found[0].landmarks if found else None


def landmark_distance(truth: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> float:
    """Mean distance of the five landmarks in percent of the distance of the eyes; NaN if a face was not found."""
    if truth is None or other is None:
        return float("nan")
    return float(100 * np.linalg.norm(truth - other, axis=1).mean() / np.linalg.norm(truth[0] - truth[1]))


def frechet_distance(a: Array, b: Array) -> float:
    """Between normal distributions with the means and covariances of the rows of `a` and `b` [n, d]."""
    both, root = np.cov(b, rowvar=False), _root(np.cov(a, rowvar=False))
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ both @ root), 0, None)).sum()
    apart = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    return max(0.0, apart + float(np.trace(root @ root) + np.trace(both) - 2 * shared))


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def skin(face: Pixels) -> str | None:
    """The skin tone (`SKINS`) of an aligned face's cheeks; None for gray or sepia pictures, and if there is no skin.

    The individual typology angle is arctan((L* - 50) / b*): lightness relative to yellowness. Dermatologists measure it
    in even light; in a photograph, light and make-up affect it.
    """
    side = len(face)
    top, bottom = (round(side * y) for y in _CHEEKS[1])
    cheeks = np.concatenate([face[top:bottom, round(side * x) : round(side * end)] for x, end in _CHEEKS[0]], 1)
    lightness, redness, yellowness = np.median(rgb2lab(cheeks).reshape(-1, 3), 0)
    if not (redness > 3 and yellowness > 3):
        return None
    angle = math.degrees(math.atan2(lightness - 50, yellowness))
    return next(name for name, least in SKINS.items() if angle >= least)


def groups(rows: Sequence[Scored], seed: int = 0) -> list[Group]:
    """All faces, then by kind of damage, by its strength and by skin."""
    parts: dict[str, list[Scored]] = {"all": list(rows)}
    kinds = sorted({row.case.kind for row in rows})
    if len(kinds) > 1:
        parts |= {kind: [row for row in rows if row.case.kind == kind] for kind in kinds}
    if len(rows) >= 2 * len(THIRDS):
        ordered = sorted(rows, key=lambda row: row.given["stlpips"])
        for name, members in zip(THIRDS, np.array_split(np.arange(len(rows)), len(THIRDS)), strict=True):
            parts[f"{name} damage"] = [ordered[i] for i in members]
    skins = [skin(row.case.truth) for row in rows]
    for name in SKINS:
        if name in skins:
            parts[f"{name} skin"] = [row for row, own in zip(rows, skins, strict=True) if own == name]
    return [_group(name, members, seed, whole=name == "all") for name, members in parts.items()]


def _group(name: str, rows: Sequence[Scored], seed: int, whole: bool) -> Group:
    picks = _picks(len(rows), seed)
    scores = {}
    for metric in METRICS:
        if metric == "frechet":
            if whole and len(rows) >= 8:  # with fewer windows than channels, the covariance is unreliable
                scores[metric] = _frechet(rows, picks[:FRECHET_RESAMPLES])
            continue
        values = [np.array([getattr(row, side)[metric] for row in rows]) for side in ("given", "result")]
        if not all(np.isfinite(side).any() for side in values):
            continue
        scores[metric] = (_estimate(values[0], picks), _estimate(values[1], picks))
    return Group(name, len(rows), scores)


def estimate(values: Array, seed: int = 0) -> Estimate:
    """The mean of one value per face, [faces], without NaN, and its confidence interval (bootstrap over faces)."""
    return _estimate(values, _picks(len(values), seed))


def _picks(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _estimate(values: Array, picks: NDArray[np.int64]) -> Estimate:
    sums = np.nansum(values[picks], 1)
    counts = np.isfinite(values[picks]).sum(1)
    means = sums[counts > 0] / counts[counts > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(np.nanmean(values)), float(low), float(high))


def _frechet(rows: Sequence[Scored], picks: NDArray[np.int64]) -> tuple[Estimate, Estimate]:
    truth, given, result = (np.stack([row.features[side] for row in rows]) for side in range(3))

    def distance(side: Array, chosen: NDArray[np.int64]) -> float:
        return frechet_distance(truth.reshape(-1, truth.shape[-1]), np.concatenate(side[chosen]))

    def estimate(side: Array) -> Estimate:
        low, high = np.percentile([distance(side, chosen) for chosen in picks], (2.5, 97.5))
        return Estimate(distance(side, np.arange(len(rows))), float(low), float(high))

    return estimate(given), estimate(result)


Means = Mapping[str, Mapping[str, float]]
"""By group and metric."""


def markdown(found: Iterable[Group], earlier: Means | None = None) -> str:
    """A row for each group, with the means of input and result and, from three faces on, the latter's confidence
    interval.

    earlier: mean results of another run, shown between the two.
    """
    earlier = earlier or {}
    found = list(found)
    names = [name for name in METRICS if any(name in group.scores for group in found)]
    lines = [
        "| | faces | " + " | ".join(METRICS[name].title for name in names) + " |",
        "| --- " * (len(names) + 2) + "|",
    ]
    for group in found:
        cells = []
        for name in names:
            if name not in group.scores:
                cells.append("")
                continue
            form = METRICS[name].format
            given, result = group.scores[name]
            interval = f" ({result.low:{form}}–{result.high:{form}})" if group.count > 2 else ""
            then = earlier.get(group.name, {}).get(name)
            between = "" if then is None else f" → {then:{form}}"
            cells.append(f"{given.mean:{form}}{between} → {result.mean:{form}}{interval}")
        lines.append(f"| {group.name} | {group.count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(path: Path, found: Iterable[Group], settings: Mapping[str, Any]) -> None:
    """Writes the groups with all intervals, and the settings of the evaluation. Raises PaniniError."""
    made = [
        {
            "name": group.name,
            "faces": group.count,
            "scores": {
                name: {"input": vars(given), "result": vars(result)} for name, (given, result) in group.scores.items()
            },
        }
        for group in found
    ]
    text = json.dumps({"settings": dict(settings), "groups": made}, indent=1) + "\n"
    write_file(path, text.encode())


def read_json(path: Path) -> Means:
    """Reads the mean results from a file written by `write_json`. Raises PaniniError."""
    try:
        made = json.loads(path.read_text())["groups"]
        return {
            group["name"]: {name: float(sides["result"]["mean"]) for name, sides in group["scores"].items()}
            for group in made
        }
    except OSError as error:
        raise PaniniError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PaniniError(f"{path} is not what `panini evaluate --json` writes") from error


def write_csv(path: Path, rows: Iterable[Scored]) -> None:
    """Writes a line for each face: name, task, kind, and each metric of the input and the result. Raises
    PaniniError."""
    names = [name for name in METRICS if name != "frechet"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "task", "kind", *(f"input_{name}" for name in names), *names])
    for row in rows:
        values = [*(row.given[name] for name in names), *(row.result[name] for name in names)]
        cells = ["" if np.isnan(value) else f"{value:.5g}" for value in values]
        table.writerow([row.case.name, row.case.task, row.case.kind, *cells])
    write_file(path, text.getvalue().encode())


def plot(path: Path, found: Sequence[Group]) -> None:
    """Plots bars of every metric by group, for input and result, with their intervals. Raises PaniniError."""
    names = [name for name in METRICS if name != "frechet" and any(name in group.scores for group in found)]
    with figure_file(path, (4 * len(names), 0.35 * len(found) + 1.6), 90) as figure:
        for axes, name in zip(np.ravel(figure.subplots(1, len(names), sharey=True)), names, strict=True):
            shown = [group for group in found if name in group.scores]
            for side, (label, color) in enumerate((("input", "0.7"), ("result", "tab:blue"))):
                estimates = [group.scores[name][side] for group in shown]
                means = np.array([e.mean for e in estimates])
                spread = [means - [e.low for e in estimates], [e.high for e in estimates] - means]
                at = np.arange(len(shown)) + 0.4 * side
                axes.barh(at, means, 0.4, xerr=np.abs(spread), color=color, label=label, error_kw={"lw": 1})
            axes.set_yticks(np.arange(len(shown)) + 0.2, [group.name for group in shown])
            axes.set(title=f"{METRICS[name].title} ({'more' if METRICS[name].higher else 'less'} is better)")
            axes.invert_yaxis()
        figure.axes[0].legend()


def write_grid(rows: Sequence[Scored], path: Path, count: int = 10) -> None:
    """Writes inputs, results and originals of `count` evenly spread faces to `path`. Raises PaniniError."""
    picture = grid((row.case, row.picture) for row in _spread(list(rows), count))
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise PaniniError(f"cannot write {path}")
