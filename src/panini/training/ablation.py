"""The paper's ablations: the effect of each component at equal compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from panini.evaluation.interpolation import plot_shares
from panini.evaluation.validation import Row, Scorer, Scores, load_faces, load_truths, validate
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Signed
from panini.training.config import RestorerConfig
from panini.training.restorer import RestorerTraining
from panini.weights.checkpoint import load_training_state

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "without DAFI (features added)": {"rule": "add"},
    "without UDRL (DRE from scratch)": {"encoder": "", "train": ("ife", "lce", "dafi", "picture", "deblur", "dre")},
    "fixed interpolation (half of each)": {"rule": "half"},
    "without the feature discriminator": {"losses.adversarial_features": 0.0},
}


def ablate(config: RestorerConfig) -> str:
    """Trains each of `VARIANTS` of `config` from the same start for the same number of steps, into subfolders of
    `config.output`, and scores them on the odd-numbered validation faces. Writes `ablation.md` and, for the full
    variant, `interpolation.png`; returns the table. Does not retrain variants that are already trained. Raises
    PaniniError."""
    folder = Path(config.output)
    faces = [face for face in load_faces(Path(config.validation)) if int(face.name) % 2]
    faces = faces[:: max(1, len(faces) // config.validate_faces)][: config.validate_faces]
    known: dict[tuple[str, str], Scores] = {}
    lines = ["| | MFR ST-LPIPS | MFR PSNR | SR16 ST-LPIPS | SR16 PSNR |", "| --- | --- | --- | --- | --- |"]
    scorer = Scorer()
    for name, changes in VARIANTS.items():
        output = folder / name.split(" (")[0].replace(" ", "-")
        variant = _changed(config, {"output": str(output), "validate_every": 0.0} | dict(changes))
        RestorerTraining(variant).run()
        network = load_training_state(output / "last.pt", config.preset)
        network.dafi.rule = variant.rule
        rows = validate(_restore_with(network), faces, scorer, known)
        lines.append(f"| {name} | {' | '.join(_cells(rows))} |")
        if not changes:
            given = [" | ".join(_cells(rows, given=True))]
            lines.insert(2, f"| the input | {given[0]} |")
            truths = load_truths(Path(config.validation))
            plot_shares(network, truths[:: max(1, len(truths) // 10)], folder / "interpolation.png")
    text = "\n".join(lines)
    (folder / "ablation.md").write_text(text + "\n")
    return text


def _changed(config: RestorerConfig, changes: Mapping[str, Any]) -> RestorerConfig:
    """changes: new values by field; "losses.field" for a field of `losses`."""
    losses = {name[len("losses.") :]: value for name, value in changes.items() if name.startswith("losses.")}
    own = {name: value for name, value in changes.items() if not name.startswith("losses.")}
    return dataclasses.replace(config, losses=dataclasses.replace(config.losses, **losses), **own)


def _restore_with(network: PaniniNet) -> Any:
    @torch.no_grad()
    def restore(faces: Signed) -> Signed:
        given = torch.from_numpy(faces)
        if network.input_size < given.shape[-1]:
            given = F.interpolate(given, network.input_size, mode="bicubic", antialias=True)
        result: Signed = network(given).numpy()
        return result

    return restore


def _cells(rows: Sequence[Row], given: bool = False) -> list[str]:
    cells = []
    for task in ("mfr", "sr16"):
        mean = Scores.mean((row.given if given else row.result) for row in rows if row.task == task)
        cells += [f"{mean.stlpips:.3f}", f"{mean.psnr:.2f}"]
    return cells
