"""Teaches the degradation encoder and PictureDAFI, before all else, how much of each band of a picture is true.

No label of a damage is used: what is true of a band is seen by comparing the damaged picture with the whole one. Ours,
not the paper's. It costs little, and image losses alone leave v_DR the same for every picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from panini.models.octaves import octaves
from panini.models.panini_net import PaniniNet


def trust(given: Tensor, truth: Tensor, count: int) -> Tensor:
    """[N, count] in [0, 1]: <x, t> / max(<x, x>, <t, t>) of each band x of `given` and t of `truth`.

    1 where nothing happened; near 0 where noise covers the band (x is much larger) or blur took it (much smaller).
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3))

    values = [
        dot(x, t) / torch.maximum(dot(x, x), dot(t, t)).clamp(min=1e-8)
        for x, t in zip(octaves(given, count), octaves(truth, count), strict=True)
    ]
    return torch.stack(values, 1).clamp(0, 1)


def train_trust(
    network: PaniniNet, looks: Iterable[Mapping[str, Tensor]], steps: int, lr: float = 1e-3
) -> Iterator[float]:
    """Trains `network.dre` and `network.picture` to tell the trust of each band; yields the mean absolute error.

    looks: `steps` batches of `RestorationSamples`. Every quarter of a picture is judged by itself: damage is local, and
    batch normalisation, without which v_DR drifts to one value for all pictures, wants batches of more than a few.
    Leaves the DRE in evaluation mode.
    """
    picture = network.picture
    assert picture is not None
    parameters = [*network.dre.parameters(), *picture.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.05)
    network.dre.train()
    for sample in looks:
        given, truth = (_quarters(sample[name]) for name in ("given", "truth"))
        target = trust(given, truth, picture.bands)
        predicted = picture.weights(network.dre(given))
        loss = F.binary_cross_entropy(predicted, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield (predicted - target).abs().mean().item()
    network.dre.eval()


def _quarters(x: Tensor) -> Tensor:
    """[N, 3, S, S] -> [4N, 3, S / 2, S / 2]."""
    half = x.shape[-1] // 2
    return torch.cat([part for rows in x.split(half, 2) for part in rows.split(half, 3)])
