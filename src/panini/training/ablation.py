"""The paper's ablations: the effect of each component at equal compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from panini.errors import PaniniError
from panini.evaluation.interpolation import plot_shares
from panini.evaluation.table import METRICS, Restore, Scored, estimate, score
from panini.evaluation.validation import Face, load_truths
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Pixels, from_signed, resize, to_signed
from panini.training.config import RestorerConfig, changed
from panini.training.restorer import RestorerTraining
from panini.training.validation import chosen
from panini.weights.checkpoint import load_training_state

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "without DAFI (features added)": {"rule": "add"},
    "fixed interpolation (half of each)": {"rule": "half"},
    "without v_DR (the same interpolation for every picture)": {"rule": "constant"},
    "without the feature discriminator": {"losses": {"adversarial_features": 0.0}},
    "without UDRL (DRE from scratch)": {
        "encoder": "",
        "fresh": ["dafi.mlp.", "dre."],
        "train": ["ife", "lce", "dafi", "removal", "deblur", "dre"],
    },
}


TABLE = {"heavy": ("stlpips", "identity", "psnr"), "mfr": ("stlpips", "psnr")}
"""The scores of the table, by task."""


def ablate(config: RestorerConfig) -> str:
    """Trains each of `VARIANTS` of `config` from the same start for the same number of steps, into subfolders of
    `config.output`, and scores them on the odd-numbered validation faces. Writes `ablation.md` and, for the full
    variant, `interpolation.png`; returns the table. The generated faces are scored, before PictureDAFI. Does
    not retrain variants that are already trained. Raises PaniniError.

    A cell has the mean score and, for other variants than the full one, the 95% confidence interval of the mean
    difference from it, face by face.
    """
    folder = Path(config.output)
    faces = chosen(config, tuple(TABLE), 1)
    titles = [f"{task} {METRICS[metric].title}" for task, metrics in TABLE.items() for metric in metrics]
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    full: Sequence[Scored] | None = None
    for name, changes in VARIANTS.items():
        output = folder / name.split(" (")[0].replace(" ", "-")
        variant = changed(config, {"output": str(output), "validate_every": 0.0, **changes})
        training = RestorerTraining(variant)
        training.run()
        if training.progress < 1:
            raise PaniniError(f"{output} was stopped; the same command continues it")
        network = load_training_state(output / "last.pt", config.preset)
        network.dafi.rule = variant.rule
        network.picture = None  # it is fitted to finished networks
        rows = score(_restore_with(network), faces)
        if full is None:
            lines.append(_row("the input", [row.given for row in rows], rows))
        lines.append(_row(name, [row.result for row in rows], rows, full))
        if full is None:
            full = rows
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


def _row(
    name: str, values: Sequence[Mapping[str, float]], rows: Sequence[Scored], full: Sequence[Scored] | None = None
) -> str:
    """A row of the table; `values` are the scores of `rows`, which are compared with those of the full variant."""
    cells = [name]
    for task, metrics in TABLE.items():
        own = [i for i, row in enumerate(rows) if row.case.task == task]
        for metric in metrics:
            form = METRICS[metric].format
            found = np.array([values[i][metric] for i in own])
            if not np.isfinite(found).any():  # no dlib
                cells.append("")
                continue
            cell = f"{np.nanmean(found):{form}}"
            if full is not None:
                change = estimate(found - np.array([full[i].result[metric] for i in own]))
                cell += f" ({change.low:+{form}} to {change.high:+{form}})"
            cells.append(cell)
    return f"| {' | '.join(cells)} |"
