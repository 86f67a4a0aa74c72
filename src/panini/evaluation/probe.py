"""Evaluates degradation encoders on held-out faces: linear probes of v_DR, nearest neighbors and t-SNE.

Probes are not part of training; they do not change the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.manifold import TSNE
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from panini.degradation import Degradation, draw
from panini.evaluation.plotting import figure_file
from panini.files import make_folder
from panini.photo.pixels import Pixels, to_signed
from panini.weights.calibration import Linear, Probe
from panini.weights.checkpoint import build, load_network

KINDS = ("blur", "down", "noise", "jpeg")
_SCALES = {"blur": 1 / np.log1p(9.0), "down": 1 / 4, "noise": 1 / 32, "jpeg": 1 / 100}  # each strength to about 0..1
_LEAST_SPREAD = 0.01

Array = NDArray[np.float32]


class Pictures(Protocol):
    """Faces by number, uint8 [512, 512, 3]: a list, or `panini.training.data.Faces`."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Pixels: ...


@dataclass(frozen=True)
class Damaged:
    """Encoded damaged faces: v_DR [n, dim], the number of each face, and its damage."""

    v: Array
    faces: NDArray[np.int64]
    damages: Sequence[Degradation]

    def strengths(self, kind: str) -> Array:
        """Strengths [n] of one kind of damage: 0 for none, scaled to about 0..1; blur by the log of its σ."""
        values = np.array([damage.strength(kind) for damage in self.damages], np.float32)
        return np.asarray((np.log1p(values) if kind == "blur" else values) * _SCALES[kind], np.float32)

    def places(self) -> Array:
        """Each degradation as a point [n, kinds], to measure distances between degradations."""
        return np.stack([self.strengths(kind) for kind in KINDS], 1)


@dataclass(frozen=True)
class DamagedFace:
    """An original face and its damaged version, [512, 512, 3] each."""

    number: int
    """The number of the face."""
    truth: Pixels
    given: Pixels
    damage: Degradation


def damaged_faces(faces: Pictures, count: int, distributions: Sequence[str], seed: int) -> Iterator[DamagedFace]:
    """`count` damaged faces: cycles through `faces` in random order, and through the distributions."""
    order = np.random.default_rng(seed).permutation(len(faces))
    for i in range(count):
        number = int(order[i % len(order)])
        truth = faces[number]
        damage = draw(distributions[i % len(distributions)], np.random.default_rng((seed, i)))
        yield DamagedFace(number, truth, damage.apply(truth, i), damage)


def damaged(encode: Callable[[Pixels], Array], faces: Iterable[DamagedFace]) -> Damaged:
    """Encodes damaged faces. encode: gives the v_DR [dim] of a picture."""
    rows = [(encode(face.given), face.number, face.damage) for face in faces]
    v, numbers, damages = zip(*rows, strict=True)
    return Damaged(np.stack(v), np.array(numbers), damages)


def encode_with(encoder: nn.Module) -> Callable[[Pixels], Array]:
    """A function from a picture [512, 512, 3] to its v_DR [dim]."""
    device = next(encoder.parameters()).device

    @torch.no_grad()
    def encode(picture: Pixels) -> Array:
        v: Array = encoder(torch.from_numpy(to_signed(picture))[None].to(device)).cpu().numpy()[0]
        return v

    return encode


def fit_linear(x: Array, y: NDArray[Any], model: Any) -> Linear:
    """Fits a linear model of scikit-learn to y [n] from standardized x [n, features]; the result takes unscaled x.

    A feature that hardly varies counts as if it varied by `_LEAST_SPREAD`: otherwise its weight could become huge.
    """
    mean, spread = x.mean(0), np.maximum(x.std(0), _LEAST_SPREAD)
    fitted = model.fit((x - mean) / spread, y)
    weights = np.ravel(fitted.coef_) / spread
    bias = float(np.ravel(fitted.intercept_)[0]) - float(weights @ mean)
    return Linear(weights.astype(np.float32), bias)


def fit_probes(train: Damaged, test: Damaged) -> dict[str, Probe]:
    """By kind of damage, linear probes of v_DR fitted on `train` and scored on `test`. The two share no face."""
    probes = {}
    for kind in KINDS:
        there, true = train.strengths(kind), test.strengths(kind)
        presence = fit_linear(train.v, there > 0, LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
        strength = fit_linear(train.v[there > 0], there[there > 0], RidgeCV(np.logspace(0, 4, 9)))
        probes[kind] = Probe(
            presence,
            strength,
            float(balanced_accuracy_score(true > 0, presence(test.v) > 0)),
            float(spearmanr(strength(test.v[true > 0]), true[true > 0]).statistic),
        )
    return probes


@dataclass(frozen=True)
class Knowledge:
    """Quality of linear probes of v_DR by kind of damage, and similarity of nearest neighbors."""

    probes: Mapping[str, Probe]
    neighbor: float
    """Degradation distance to the nearest neighbor in v_DR, relative to that of a random pair."""
    same_face: float
    """How often the nearest neighbor is the same face, relative to chance."""


def examine(train: Damaged, test: Damaged) -> Knowledge:
    """Linear probes fitted on `train`, their scores on `test`; neighbors among `test`. The two share no face."""
    v = test.v / np.linalg.norm(test.v, axis=1, keepdims=True)
    likeness = v @ v.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(1)
    places = test.places()
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    others = ~np.eye(len(places), dtype=bool)
    same = test.faces[:, None] == test.faces[None]
    rows = np.arange(len(places))
    return Knowledge(
        fit_probes(train, test),
        float(distances[rows, nearest].mean() / distances[others].mean()),
        float(same[rows, nearest].mean() / same[others].mean()),
    )


def examine_encoder(
    encoder: nn.Module, train: Pictures, validation: Pictures, count: int, distribution: str = "paper"
) -> tuple[Knowledge, Damaged]:
    """Evaluates `encoder`: probes fitted on `count` damaged pictures of `train`, scored on as many of `validation`.

    Also returns the damaged validation faces with their v_DR. The encoder is left in evaluation mode.
    """
    encode = encode_with(encoder.eval())
    sides = [
        damaged(encode, damaged_faces(faces, count, (distribution,), seed))
        for faces, seed in ((train, 1), (validation, 2))
    ]
    return examine(*sides), sides[1]


def table(rows: Mapping[str, Knowledge]) -> str:
    """A Markdown table with a row for each encoder."""
    heads = [*(f"{kind} presence" for kind in KINDS), *(f"{kind} strength" for kind in KINDS), "neighbor", "same face"]
    lines = ["| encoder | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    for name, known in rows.items():
        probes = [known.probes[kind] for kind in KINDS]
        cells = [*(f"{probe.accuracy:.1%}" for probe in probes), *(f"{probe.correlation:.2f}" for probe in probes)]
        lines.append(f"| {name} | {' | '.join(cells)} | {known.neighbor:.2f} | {known.same_face:.2f} |")
    return "\n".join(lines)


def plot(test: Damaged, path: Path) -> None:
    """t-SNE of v_DR, written to `path` (its suffix is the format): a panel for each kind of damage, colored by
    strength.

    Raises PaniniError if it cannot be written.
    """
    points = TSNE(2, perplexity=min(30.0, len(test.v) / 4), init="pca", random_state=0).fit_transform(test.v)
    with figure_file(path, (11, 10), 110) as figure:
        for axes, kind in zip(figure.subplots(2, 2).flat, KINDS, strict=True):
            strengths = test.strengths(kind)
            there = strengths > 0
            axes.scatter(*points[~there].T, s=6, color="0.85", label="none")
            dots = axes.scatter(*points[there].T, s=9, c=strengths[there], cmap="viridis")
            axes.set(title=kind, xticks=[], yticks=[])
            figure.colorbar(dots, ax=axes, label="strength (0: none, 1: the worst drawn)")


def report(encoders: Sequence[str], faces: Pictures, truths: Pictures, output: Path, count: int) -> str:
    """Evaluates each of `encoders` ("[preset:]file"), and an untrained encoder of each of their presets.

    faces: to fit the probes on. truths: other faces, to score them on. Writes `probe.md` and a plot of each encoder to
    `output`; returns the table. Raises PaniniError.
    """
    networks: dict[str, nn.Module] = {}
    for encoder in encoders:
        preset, _, file = encoder.rpartition(":")
        preset = preset or "default"
        torch.manual_seed(0)
        networks.setdefault(f"untrained ({preset})", build(preset).dre)
        network = build(preset)
        load_network(Path(file), network, ("dre.",))
        networks[f"{Path(file).parent.name}/{Path(file).name}"] = network.dre
    make_folder(output)
    rows = {}
    for name, dre in networks.items():
        rows[name], test = examine_encoder(dre, faces, truths, count)
        plot(test, output / f"{re.sub('[^a-z0-9]+', '-', name).strip('-')}.png")
    text = table(rows)
    (output / "probe.md").write_text(text + "\n")
    return text
