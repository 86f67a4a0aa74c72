"""DAFI's weights by kind and strength of the degradation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.degradation.steps import Step
from panini.evaluation.plotting import figure_file
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Pixels, to_signed

_SWEEPS: Mapping[str, tuple[str, Sequence[float]]] = {  # kind: unit, strengths
    "blur": ("σ, px", (0.3, 0.6, 1, 1.5, 2.2, 3.3, 5, 7.5)),
    "down": ("factor", (1.0, 1.5, 2, 3, 4, 6, 8, 12, 16)),
    "noise": ("σ, of 255", (0, 1, 2, 4, 8, 12, 18, 25, 32)),
    "jpeg": ("100 - quality", (2, 10, 20, 35, 50, 65, 80, 90)),
}


_STEPS: Mapping[str, Callable[[float], tuple[Step, ...]]] = {
    "blur": lambda strength: (Blur(strength),),
    "down": lambda strength: (Downsample(strength), Enlarge()),
    "noise": lambda strength: (Noise(strength),),
    "jpeg": lambda strength: (Jpeg(round(100 - strength)),),
}


@torch.no_grad()
def prior_shares(network: PaniniNet, faces: Sequence[Pixels]) -> dict[str, NDArray[np.float32]]:
    """For each kind of damage, the mean share of the prior (a_prior) over `faces` [512, 512, 3]: [strengths, levels].

    The levels of DAFI come first, coarse to fine, then the share of the generated face (PictureDAFI).
    """
    shares = {}
    for kind, (_, strengths) in _SWEEPS.items():
        rows = []
        for strength in strengths:
            damage = Degradation(_STEPS[kind](strength))
            given = np.stack([to_signed(damage.apply(face, i)) for i, face in enumerate(faces)])
            v = network.dre(torch.from_numpy(given))
            levels = [w[:, 0].mean() for w in network.dafi.weights(v).values()]
            if network.picture is not None:
                levels.append(1 - network.picture.share(v).mean())
            rows.append(torch.stack(levels).numpy())
        shares[kind] = np.stack(rows)
    return shares


def plot_shares(network: PaniniNet, faces: Sequence[Pixels], path: Path) -> None:
    """Plots DAFI's weights over the strength of each damage: a panel for each kind, a line for each resolution.

    Raises PaniniError if `path` cannot be written.
    """
    from matplotlib import colormaps

    resolutions = network.dafi.resolutions
    names = [f"features {r}" for r in resolutions]
    if network.picture is not None:
        names.append("picture")
    levels = len(resolutions)
    with figure_file(path, (12, 8), 110) as figure:
        panels = figure.subplots(2, 2, sharey=True).flat
        for axes, (kind, shares) in zip(panels, prior_shares(network, faces).items(), strict=True):
            unit, strengths = _SWEEPS[kind]
            for i, name in enumerate(names):
                of_picture = i >= levels
                color = (
                    colormaps["autumn"]((i - levels) / (len(names) - levels))
                    if of_picture
                    else colormaps["winter"](i / levels)
                )
                axes.plot(strengths, shares[:, i], "o--" if of_picture else "o-", color=color, markersize=3, label=name)
            axes.set(title=kind, xlabel=unit, ylim=(0, 1), ylabel="from the prior")
        axes.legend(fontsize=8)
