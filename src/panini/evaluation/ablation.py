"""The paper's ablations: what each idea is worth at equal compute, and how DAFI's weights move with the damage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.evaluation.validation import Row, Scorer, Scores, load_faces, load_truths, validate
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Pixels, Signed, to_signed
from panini.training.restoration import RestorationConfig, RestorationTraining
from panini.weights.checkpoint import load_training_state

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "without DAFI (features added)": {"rule": "add"},
    "without UDRL (DRE from scratch)": {"dre": "", "trust_steps": 0, "train_dre": True},
    "fixed interpolation (half of each)": {"rule": "half"},
}

_SWEEPS: Mapping[str, tuple[str, Sequence[float]]] = {  # kind: unit, strengths
    "blur": ("σ, px", (0.3, 0.6, 1, 1.5, 2.2, 3.3, 5, 7.5)),
    "down": ("factor", (1.0, 1.5, 2, 3, 4, 6, 8, 12, 16)),
    "noise": ("σ, of 255", (0, 1, 2, 4, 8, 12, 18, 25, 32)),
    "jpeg": ("100 - quality", (2, 10, 20, 35, 50, 65, 80, 90)),
}


def _damage(kind: str, strength: float) -> Degradation:
    match kind:
        case "blur":
            return Degradation((Blur(strength),))
        case "down":
            return Degradation((Downsample(strength), Enlarge()))
        case "noise":
            return Degradation((Noise(strength),))
    return Degradation((Jpeg(round(100 - strength)),))


@torch.no_grad()
def prior_shares(network: PaniniNet, faces: Sequence[Pixels]) -> dict[str, NDArray[np.float32]]:
    """By kind of damage, [strengths, levels]: the mean share of the prior (a_prior) over `faces` [512, 512, 3], each
    damaged so; levels by resolution, coarse to fine, then 1 - a_image of the picture's bands, coarse to fine."""
    shares = {}
    for kind, (_, strengths) in _SWEEPS.items():
        rows = []
        for strength in strengths:
            given = np.stack([to_signed(_damage(kind, strength).apply(face, i)) for i, face in enumerate(faces)])
            v = network.dre(torch.from_numpy(given))
            levels = [w[:, 0].mean() for w in network.dafi.weights(v).values()]
            if network.picture is not None:
                levels += list(1 - network.picture.weights(v).mean(0).flip(0))
            rows.append(torch.stack(levels).numpy())
        shares[kind] = np.stack(rows)
    return shares


def plot_shares(network: PaniniNet, faces: Sequence[Pixels], path: Path) -> None:
    """How DAFI's weights move with the strength of each damage: a panel a kind, a line a resolution. Raises PaniniError
    if `path` cannot be written."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    from panini.evaluation.figure import save_figure

    resolutions = network.dafi.resolutions
    names = [f"features {r}" for r in resolutions]
    if network.picture is not None:
        names += [f"picture {network.input_size >> band}" for band in reversed(range(network.picture.bands))]
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True).flat
    for axes, (kind, shares) in zip(panels, prior_shares(network, faces).items(), strict=True):
        unit, strengths = _SWEEPS[kind]
        for i, name in enumerate(names):
            of_picture = i >= len(resolutions)
            part = (i - len(resolutions)) / (len(names) - len(resolutions)) if of_picture else i / len(resolutions)
            colour = colormaps["autumn" if of_picture else "winter"](part)
            axes.plot(strengths, shares[:, i], "o--" if of_picture else "o-", color=colour, markersize=3, label=name)
        axes.set(title=kind, xlabel=unit, ylim=(0, 1), ylabel="from the prior")
    axes.legend(fontsize=8)
    save_figure(figure, path, 110)


def ablate(config: RestorationConfig) -> str:
    """Trains each of `VARIANTS` of `config` from the same start for the same steps, into folders of `config.output`;
    scores them on the validation faces of odd number. Writes `ablation.md` and, of the full one, `interpolation.png`;
    returns the table. A variant that is trained already is not trained again. Raises PaniniError."""
    folder = Path(config.output)
    faces = [face for face in load_faces(Path(config.validation)) if int(face.name) % 2]
    faces = faces[:: max(1, len(faces) // config.validate_faces)][: config.validate_faces]
    known: dict[tuple[str, str], Scores] = {}
    lines = ["| | MFR ST-LPIPS | MFR PSNR | SR16 ST-LPIPS | SR16 PSNR |", "| --- | --- | --- | --- | --- |"]
    scorer = Scorer()
    for name, changes in VARIANTS.items():
        output = folder / name.split(" (")[0].replace(" ", "-")
        variant = dataclasses.replace(config, output=str(output), validate_every=0, **changes)
        training = RestorationTraining(variant)
        training.run()
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


def _restore_with(network: PaniniNet) -> Any:
    @torch.no_grad()
    def restore(faces: Signed) -> Signed:
        result: Signed = network(torch.from_numpy(faces)).numpy()
        return result

    return restore


def _cells(rows: Sequence[Row], given: bool = False) -> list[str]:
    cells = []
    for task in ("mfr", "sr16"):
        mean = Scores.mean((row.given if given else row.result) for row in rows if row.task == task)
        cells += [f"{mean.stlpips:.3f}", f"{mean.psnr:.2f}"]
    return cells
