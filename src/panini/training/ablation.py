"""The paper's ablations: the effect of each component at equal compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from panini.evaluation.interpolation import plot_shares
from panini.evaluation.table import Restore, Scored, score
from panini.evaluation.validation import TASKS, Face, load_truths
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Pixels, from_signed, resize, to_signed
from panini.training.config import RestorerConfig, changed
from panini.training.restorer import RestorerTraining
from panini.training.validation import chosen
from panini.weights.checkpoint import load_training_state

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "without DAFI (features added)": {"rule": "add"},
    "without UDRL (DRE from scratch)": {"encoder": "", "train": ["ife", "lce", "dafi", "deblur", "dre"]},
    "fixed interpolation (half of each)": {"rule": "half"},
    "without the feature discriminator": {"losses": {"adversarial_features": 0.0}},
}


def ablate(config: RestorerConfig) -> str:
    """Trains each of `VARIANTS` of `config` from the same start for the same number of steps, into subfolders of
    `config.output`, and scores them on the odd-numbered validation faces. Writes `ablation.md` and, for the full
    variant, `interpolation.png`; returns the table. The generated faces are scored, before PictureDAFI. Does
    not retrain variants that are already trained. Raises PaniniError."""
    folder = Path(config.output)
    faces = chosen(config, TASKS, 1)
    lines = ["| | MFR ST-LPIPS | MFR PSNR | SR16 ST-LPIPS | SR16 PSNR |", "| --- | --- | --- | --- | --- |"]
    for name, changes in VARIANTS.items():
        output = folder / name.split(" (")[0].replace(" ", "-")
        variant = changed(config, {"output": str(output), "validate_every": 0.0, **changes})
        RestorerTraining(variant).run()
        network = load_training_state(output / "last.pt", config.preset)
        network.dafi.rule = variant.rule
        network.picture = None  # it is fitted to finished networks
        rows = score(_restore_with(network), faces)
        if not changes:
            lines.append(_row("the input", rows, lambda row: row.given))
        lines.append(_row(name, rows, lambda row: row.result))
        if not changes:
            truths = load_truths(Path(config.validation))
            plot_shares(network, truths[:: max(1, len(truths) // 10)], folder / "interpolation.png")
    text = "\n".join(lines)
    (folder / "ablation.md").write_text(text + "\n")
    return text


def _restore_with(network: PaniniNet) -> Restore:
    @torch.no_grad()
    def restore(face: Face) -> Pixels:
        given = torch.from_numpy(to_signed(resize(face.given, 512, cv2.INTER_CUBIC)))[None]
        if network.input_size < given.shape[-1]:
            given = F.interpolate(given, network.input_size, mode="bicubic", antialias=True)
        return from_signed(network(given)[0].numpy())

    return restore


def _row(name: str, rows: Sequence[Scored], side: Callable[[Scored], Mapping[str, float]]) -> str:
    cells = [name]
    for task in TASKS:
        for metric, form in (("stlpips", ".3f"), ("psnr", ".2f")):
            cells.append(f"{np.mean([side(row)[metric] for row in rows if row.case.task == task]):{form}}")
    return f"| {' | '.join(cells)} |"
