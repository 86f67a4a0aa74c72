"""Figures of what a weights file does with damage: DAFI's weights over its strength, and v_DR's clusters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from panini.checkpoint import load_weights
from panini.evaluation import probe
from panini.evaluation.ablation import plot_shares
from panini.pixels import Pixels


def write_figures(weights: Path, faces: Sequence[Pixels], folder: Path, count: int = 400) -> list[Path]:
    """Writes `shares.png` and `clusters.png` (t-SNE of `count` damaged faces) into `folder`; returns their paths.

    faces: [512, 512, 3], not trained on. Raises PaniniError.
    """
    network = load_weights(weights)
    shares, clusters = folder / "shares.png", folder / "clusters.png"
    plot_shares(network, faces[:: max(1, len(faces) // 12)], shares)
    damaged = probe.damaged(probe.sight(network.dre), probe.damaged_faces(faces, count, ("paper",), seed=2))
    probe.plot(damaged, clusters)
    return [shares, clusters]
