"""The project's validation protocol: fixed damage, 512 truth, PSNR, SSIM and ST-LPIPS beside the input's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from panini.engine.base import Engine
from panini.errors import PaniniError
from panini.evaluation.stlpips import STLPIPS
from panini.pixels import Pixels, Signed, from_signed, read_rgb, resize, to_signed

TASKS = ("mfr", "sr16")

Restore = Callable[[Signed], Signed]
"""A restorer of faces: float32 [1, 3, 512, 512] -> [1, 3, S, S], both RGB in [-1, 1]."""


@dataclass(frozen=True)
class Scores:
    """PSNR in dB, SSIM, ST-LPIPS of one picture or the mean of several."""

    psnr: float
    ssim: float
    stlpips: float

    @staticmethod
    def mean(scores: Iterable[Scores]) -> Scores:
        rows = [(s.psnr, s.ssim, s.stlpips) for s in scores]
        return Scores(*(float(c) for c in np.mean(rows, axis=0)))


@dataclass(frozen=True)
class Face:
    """One validation face: 512 truth, damaged input (512 for mfr, 64 for sr16), the kind of its damage."""

    name: str
    task: str
    kind: str
    truth: Pixels
    given: Pixels


@dataclass(frozen=True)
class Row:
    """Scores of one face, the input's and the result's."""

    face: str
    task: str
    kind: str
    given: Scores
    result: Scores


def load_faces(folder: Path, tasks: Iterable[str] = TASKS) -> list[Face]:
    """The faces of a validation folder (`manifest.json`, `gt/`, `mfr/`, `sr16/`).

    Raises PaniniError if a file is missing or unreadable.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise PaniniError(f"no validation set in {folder}: {error}") from error
    return [
        Face(
            name=entry["name"],
            task=task,
            kind=entry["mfr"]["kind"] if task == "mfr" else "sr16",
            truth=read_rgb(folder / "gt" / f"{entry['name']}.webp"),
            given=read_rgb(folder / task / f"{entry['name']}.png"),
        )
        for task in tasks
        for entry in manifest
    ]


class Scorer:
    """Scores pictures at 512 by the protocol; holds the perceptual network."""

    def __init__(self, stlpips: STLPIPS | None = None) -> None:
        self.stlpips = STLPIPS().eval() if stlpips is None else stlpips

    @torch.inference_mode()
    def __call__(self, truth: Pixels, *pictures: Pixels) -> list[Scores]:
        """The scores of each of `pictures` against `truth`, all [H, W, 3] uint8 RGB of one size."""
        features = [self.stlpips.features(torch.from_numpy(to_signed(p))[None]) for p in (truth, *pictures)]
        return [
            Scores(
                psnr=float(peak_signal_noise_ratio(truth, picture)),
                ssim=float(structural_similarity(truth, picture, channel_axis=2)),
                stlpips=float(self.stlpips.distance(ours, features[0])),
            )
            for picture, ours in zip(pictures, features[1:], strict=True)
        ]


def validate(
    restore: Restore,
    faces: Iterable[Face],
    scorer: Scorer,
    known: dict[tuple[str, str], Scores] | None = None,
) -> list[Row]:
    """Restores and scores each face.

    known: cache of the inputs' own scores by (task, name), filled on first use.
    """
    known = {} if known is None else known
    rows = []
    for face in faces:
        given = resize(face.given, 512, cv2.INTER_CUBIC)
        to_score = [restored_at_512(restore, given)]
        if (face.task, face.name) not in known:
            to_score.append(given)
        result, *input_scores = scorer(face.truth, *to_score)
        if input_scores:
            known[face.task, face.name] = input_scores[0]
        rows.append(Row(face.name, face.task, face.kind, known[face.task, face.name], result))
    return rows


def restored_at_512(restore: Restore, given: Pixels) -> Pixels:
    """`given` [512, 512, 3] uint8, restored and averaged down to 512 as the protocol says."""
    return resize(from_signed(restore(to_signed(given)[None])[0]), 512, cv2.INTER_AREA)


def table(rows: Iterable[Row]) -> str:
    """Markdown: by task and kind of damage, input -> result, and the ratio of ST-LPIPS."""
    rows = list(rows)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    for row in rows:
        if row.kind != row.task:
            groups.setdefault(f"{row.task}: {row.kind}", []).append(row)
    lines = [
        "| | faces | PSNR | SSIM | ST-LPIPS | ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, members in groups.items():
        given, result = Scores.mean(r.given for r in members), Scores.mean(r.result for r in members)
        numbers = (
            f"{given.psnr:.2f} -> {result.psnr:.2f}",
            f"{given.ssim:.3f} -> {result.ssim:.3f}",
            f"{given.stlpips:.3f} -> {result.stlpips:.3f}",
            f"{result.stlpips / given.stlpips:.3f}",
        )
        lines.append(f"| {name} | {len(members)} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def grid(restore: Restore, faces: Iterable[Face]) -> Pixels:
    """A picture to look at: a column a face, given over restored over true, 512 each."""
    columns = []
    for face in faces:
        given = resize(face.given, 512, cv2.INTER_CUBIC)
        columns.append(np.concatenate((given, restored_at_512(restore, given), face.truth)))
    return np.concatenate(columns, 1)


def _through(engine: Engine) -> Restore:
    return lambda faces: engine.restore(faces, engine.degradation(faces)).images


def evaluate_engine(engine: Engine, faces: Iterable[Face]) -> str:
    """The table of an engine over `faces`."""
    return table(validate(_through(engine), faces, Scorer()))


def write_grid(engine: Engine, faces: list[Face], path: Path, count: int = 10) -> None:
    """`count` faces spread evenly over `faces`, before, after and true, written to `path`. Raises PaniniError."""
    chosen = faces[:: max(1, len(faces) // count)][:count]
    picture = cv2.cvtColor(grid(_through(engine), chosen), cv2.COLOR_RGB2BGR)
    try:
        written = cv2.imwrite(str(path), picture)
    except cv2.error:
        written = False
    if not written:
        raise PaniniError(f"cannot write {path}")
