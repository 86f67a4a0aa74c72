"""Figures of a network's response to degradations: DAFI's weights over their strength, clusters of v_DR, and the gains
of deblurring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.evaluation import probe
from panini.evaluation.interpolation import plot_shares
from panini.evaluation.plotting import figure_file
from panini.models.deblur import radii, spectra
from panini.models.panini_net import PaniniNet
from panini.photo.pixels import Pixels, to_signed
from panini.weights.checkpoint import load_weights

_DAMAGES = {
    "blur": [Degradation((Blur(sigma),)) for sigma in (1.5, 3.0, 6.0)],
    "made small": [Degradation((Downsample(by, "bicubic-aa"), Enlarge())) for by in (2.0, 4.0, 8.0)],
    "others": [
        Degradation(),
        Degradation((Noise(15.0),)),
        Degradation((Jpeg(30),)),
        Degradation((Blur(3.0), Jpeg(30))),
    ],
}


def write_figures(weights: Path, faces: Sequence[Pixels], folder: Path, count: int = 400) -> list[Path]:
    """Writes `shares.png`, `clusters.png` (t-SNE of `count` damaged faces) and, if the network deblurs, `gains.png`
    into `folder`; returns their paths.

    faces: [512, 512, 3], not trained on. Raises PaniniError.
    """
    network = load_weights(weights)
    shares, clusters = folder / "shares.png", folder / "clusters.png"
    plot_shares(network, faces[:: max(1, len(faces) // 12)], shares)
    damaged = probe.damaged(probe.encode_with(network.dre), probe.damaged_faces(faces, count, ("paper",), seed=2))
    probe.plot(damaged, clusters)
    if network.deblur is None:
        return [shares, clusters]
    gains = folder / "gains.png"
    plot_gains(network, faces[:: max(1, len(faces) // 8)], gains)
    return [shares, clusters, gains]


@torch.no_grad()
def plot_gains(network: PaniniNet, faces: Sequence[Pixels], path: Path) -> None:
    """Plots the gains of `Deblur` over frequency for some degradations, with the gains of the optimal Wiener filter,
    which needs the original; geometric means over faces [512, 512, 3]. Raises PaniniError."""
    assert network.deblur is not None
    radius = radii()
    label = "frequency (1: a wave of 2 pixels)"
    with figure_file(path, (12, 3.4), 100) as figure:
        for axes, (name, damages) in zip(figure.subplots(1, 3, sharey=True).flat, _DAMAGES.items(), strict=True):
            for color, damage in enumerate(damages):
                ours, best = [], []
                for seed, face in enumerate(faces):
                    given, truth = (torch.from_numpy(to_signed(p))[None] for p in (damage.apply(face, seed), face))
                    ours.append(network.deblur.log_gains(network.dre(given)) @ network.deblur.at(radius))
                    xx, xt, _ = spectra(given, truth)[0]
                    best.append((xt / xx).clamp(1.0, 30.0).log()[None])
                axes.plot(radius, torch.cat(ours).mean(0).exp(), "-", color=f"C{color}", label=str(damage))
                axes.plot(radius, torch.cat(best).mean(0).exp(), ":", color=f"C{color}")
            axes.set(title=name, xscale="log", yscale="log", xlim=(0.01, 1.4), xlabel=label)
            axes.legend(fontsize=8, loc="upper left")
        figure.axes[0].set_ylabel("gain (dotted: the best)")
