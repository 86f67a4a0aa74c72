"""Figures of what the network does with damage: DAFI's weights over its strength, and v_DR's clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from panini.checkpoint import load_weights
from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.errors import PaniniError
from panini.evaluation import probe
from panini.pixels import Pixels, to_signed

SWEEPS: Mapping[str, tuple[str, Sequence[float], Callable[[float], Degradation]]] = {
    "blur": ("σ, px of a 512 px face", (0.5, 1, 2, 3, 5, 8), lambda x: Degradation((Blur(x),))),
    "down": ("times smaller", (1.5, 2, 4, 6, 10, 16), lambda x: Degradation((Downsample(x), Enlarge()))),
    "noise": ("σ of 255", (1, 4, 8, 15, 22, 30), lambda x: Degradation((Noise(x),))),
    "jpeg": ("100 - quality", (5, 20, 40, 60, 75, 90), lambda x: Degradation((Jpeg(int(100 - x)),))),
}


@torch.no_grad()
def plot_shares(weights: Path, faces: Sequence[Pixels], path: Path) -> None:
    """How much comes from the prior at each resolution, and of the picture itself in each octave, by kind and strength.

    Means over `faces` [512, 512, 3], written to `path` (its suffix is the format). Raises PaniniError.
    """
    from matplotlib.figure import Figure

    network = load_weights(weights)
    figure = Figure(figsize=(15, 6.5), layout="constrained")
    panels = figure.subplots(2, len(SWEEPS), sharex="col", sharey="row")
    for column, (kind, (unit, strengths, damage)) in enumerate(SWEEPS.items()):
        prior, kept = [], []
        for strength in strengths:
            pictures = [damage(strength).apply(face, i) for i, face in enumerate(faces)]
            v = torch.cat([network.dre(torch.from_numpy(to_signed(picture))[None]) for picture in pictures])
            prior.append([float(part[:, 0].mean()) for part in network.dafi.weights(v).values()])
            own = network.picture_weights(v)
            kept.append(np.zeros(0) if own is None else own.mean(0).numpy())
        for resolution, share in zip(network.dafi.resolutions, np.transpose(prior), strict=True):
            panels[0, column].plot(strengths, share, "o-", ms=3, label=f"{resolution}x{resolution}")
        for octave, share in enumerate(np.transpose(kept)):
            panels[1, column].plot(strengths, share, "o-", ms=3, label=f"{network.input_size >> octave} px")
        panels[0, column].set(title=kind)
        panels[1, column].set(xlabel=unit)
    panels[0, 0].set(ylabel="from the prior (DAFI)")
    panels[1, 0].set(ylabel="kept of the photo's own detail", ylim=(0, 1))
    for row in panels:
        row[-1].legend(fontsize=8)
    _save(figure, path)


def plot_clusters(weights: Path, faces: Sequence[Pixels], path: Path, count: int = 400) -> None:
    """t-SNE of the v_DR of `count` damaged faces, by kind and strength. Raises PaniniError."""
    pictures, damaged = probe.damaged(faces, count, "paper", seed=2)
    network = load_weights(weights)
    probe.plot(probe.Damaged(probe.encode(network.dre, pictures), damaged.faces, damaged.damages), path)


def _save(figure: object, path: Path) -> None:
    try:
        figure.savefig(path, dpi=80)  # type: ignore[attr-defined]
    except (OSError, ValueError) as error:
        raise PaniniError(f"cannot write {path}: {error}") from error
