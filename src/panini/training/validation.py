"""The validation table of a training run: held-out faces with fixed degradations, restored and scored in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from panini.evaluation.identity import Identity
from panini.evaluation.table import frechet_distance
from panini.evaluation.validation import Face, enlarged, grid, load_faces, psnr
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Pixels, from_signed, resize, to_signed
from panini.training.config import RestorerConfig
from panini.training.distances import stlpips_of
from panini.training.loop import Validation

Item = TypeVar("Item")

TASKS = ("mfr", "sr16", "heavy")
_BATCH = 8
_STAGE = 2
"""Stage of VGG16 (from 0) whose windows the Fréchet distance compares."""
_WINDOWS = 4
_SHOWN = 6


@dataclass(frozen=True)
class Scores:
    """Mean scores of the inputs or the results of a task against their originals."""

    psnr: float  # dB
    stlpips: float
    identity: float  # dlib's distance; NaN if dlib is not installed
    frechet: float  # between windows of the pictures and of the originals


class Validator:
    """Scores a network on the even-numbered faces of a validation folder; the odd ones are for reports.

    The score that selects `best.pt` is the mean over tasks of the Fréchet distance and, if dlib is installed, the
    identity distance, each relative to the input's. Neither is trained on.
    """

    def __init__(self, config: RestorerConfig, device: torch.device) -> None:
        self.device = device
        self.faces = {task: chosen(config, (task,), 0) for task in TASKS if (Path(config.validation) / task).is_dir()}
        self.stlpips = stlpips_of(config).eval().to(device)
        self.identity = Identity.available()
        self._truths: dict[str, list[list[Tensor]]] = {}
        self._inputs: dict[str, Scores] = {}

    @torch.no_grad()
    def __call__(self, network: PaniniNet) -> Validation:
        lines = [
            "| | faces | PSNR | ST-LPIPS | ratio | identity | Fréchet |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        scalars: dict[str, float] = {}
        ratios: list[float] = []
        shown: list[tuple[Face, Pixels]] = []
        for task, faces in self.faces.items():
            if task not in self._inputs:
                self._inputs[task] = self._scores(task, [enlarged(face.given) for face in faces])
            pictures = self._restored(network, faces)
            given, ours = self._inputs[task], self._scores(task, pictures)
            ratio = ours.stlpips / given.stlpips
            cells = [f"{getattr(given, name):.3f} -> {getattr(ours, name):.3f}" for name in vars(ours)]
            cells.insert(2, f"{ratio:.3f}")
            lines.append(f"| {task} | {len(faces)} | {' | '.join(cells)} |")
            scalars |= {f"{task} ratio": ratio, f"{task} PSNR": ours.psnr - given.psnr}
            ratios += [r for r in (ours.frechet / given.frechet, ours.identity / given.identity) if np.isfinite(r)]
            shown += list(zip(faces, pictures, strict=True))[: _SHOWN // 2]
        score = float(np.mean(ratios))
        return Validation(score, "\n".join(lines), scalars | {"score": score}, grid(shown))

    def _restored(self, network: PaniniNet, faces: Sequence[Face]) -> list[Pixels]:
        """The restored faces at 512 pixels."""
        found: list[Pixels] = []
        for part in _batches(faces):
            given = self._put([resize(face.given, 512, cv2.INTER_CUBIC) for face in part])
            if network.input_size < given.shape[-1]:
                given = F.interpolate(given, network.input_size, mode="bicubic", antialias=True)
            restored = network(given).float()
            side = max(1, restored.shape[-1] // 512)
            found += [from_signed(picture) for picture in F.avg_pool2d(restored, side).cpu().numpy()]
        return [resize(picture, 512, cv2.INTER_CUBIC) for picture in found]

    def _scores(self, task: str, pictures: Sequence[Pixels]) -> Scores:
        faces = self.faces[task]
        if task not in self._truths:
            self._truths[task] = [self._features([face.truth for face in part]) for part in _batches(faces)]
        distances, windows, true_windows = [], [], []
        for part, truths in zip(_batches(pictures), self._truths[task], strict=True):
            features = self._features(part)
            distances += self.stlpips.distance(features, truths).tolist()
            windows.append(_windows(features))
            true_windows.append(_windows(truths))
        people = [float("nan")]
        if self.identity is not None:
            people = [self.identity.distances(f.truth, p)[0] for f, p in zip(faces, pictures, strict=True)]
        return Scores(
            psnr=float(np.mean([psnr(f.truth, p) for f, p in zip(faces, pictures, strict=True)])),
            stlpips=float(np.mean(distances)),
            identity=float(np.mean(people)),
            frechet=frechet_distance(np.concatenate(true_windows), np.concatenate(windows)),
        )

    def _features(self, pictures: Sequence[Pixels]) -> list[Tensor]:
        return self.stlpips.features(self._put(pictures))

    def _put(self, pictures: Sequence[Pixels]) -> Tensor:
        return torch.from_numpy(np.stack([to_signed(picture) for picture in pictures])).to(self.device)


def chosen(config: RestorerConfig, tasks: Sequence[str], odd: int) -> list[Face]:
    """At most `validate_faces` of the validation faces with even names (odd = 0) or odd ones (1)."""
    faces = [face for face in load_faces(Path(config.validation), tasks) if int(face.name) % 2 == odd]
    return faces[:: max(1, len(faces) // config.validate_faces)][: config.validate_faces]


def _batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]


def _windows(features: list[Tensor]) -> NDArray[np.float64]:
    """[pictures * windows, channels]: means over windows of one stage's features."""
    pooled = F.adaptive_avg_pool2d(features[_STAGE], _WINDOWS)
    rows: NDArray[np.float64] = pooled.permute(0, 2, 3, 1).flatten(0, 2).double().cpu().numpy()
    return rows
