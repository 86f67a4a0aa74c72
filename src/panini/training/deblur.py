"""Teaches, before a run and without the rest of the network, what v_DR says of a picture's own detail: the gains of
`Deblur`, for each damage those of the linear filter that brings the damaged picture nearest to the whole one (a Wiener
filter); then how far each band of a picture so deblurred can be trusted (`PictureDAFI`, see `training.trust`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.deblur import Deblur, radii, spectra
from panini.models.panini_net import PaniniNet
from panini.training.trust import trust

_NOISE = 0.1
"""Of v_DR, while something is fitted, so that a few thousand faces are not learned by heart."""


def train_deblur(
    network: PaniniNet, looks: Callable[[], Iterable[Mapping[str, Tensor]]], steps: int = 6000
) -> Iterator[float]:
    """Looks at samples, fits `network.deblur` to them in `steps` short steps, looks at them again and fits
    `network.picture`. Yields after each look, and after each fit its error. The DRE stays as it is.

    looks: gives the same samples each time, one or some of `RestorationSamples` at once."""
    deblur, picture = network.deblur, network.picture
    assert deblur is not None
    assert picture is not None
    network.dre.eval()

    def look(measure: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for sample in looks():
            given, truth = sample["given"], sample["truth"]
            with torch.no_grad():
                v = network.dre(given)
                yield v, measure(given, truth, v)

    def rows() -> Tensor:
        return torch.randint(0, len(v), (256,), device=v.device)

    def noisy(v: Tensor) -> Tensor:
        return v + _NOISE * torch.randn_like(v)

    def wrong() -> Tensor:
        return left(deblur, noisy(v[i := rows()]), sums[i])

    def misjudged() -> Tensor:
        return F.binary_cross_entropy_with_logits(picture.mlp(noisy(v[i := rows()])), trusted[i])

    seen: list[tuple[Tensor, Tensor]] = []
    for measured in look(lambda given, truth, v: spectra(given, truth)):
        seen.append(measured)
        yield math.nan
    v, sums = (torch.cat(part) for part in zip(*seen, strict=True))
    *_, error = fit(deblur.mlp, wrong, steps, weight_decay=0.02)
    yield error.item()
    seen = []
    for measured in look(lambda given, truth, v: trust(deblur(given, v), truth, picture.bands)):
        seen.append(measured)
        yield math.nan
    _, trusted = (torch.cat(part) for part in zip(*seen, strict=True))
    *_, error = fit(picture.mlp, misjudged, steps, weight_decay=0.02)
    yield error.item()


def left(deblur: Deblur, v: Tensor, sums: Tensor) -> Tensor:
    """What the filter of v_DR [N, dr_dim] leaves wrong of pictures with these `spectra` [N, 3, RINGS]: the mean share
    of a ring's power. Every ring counts alike, so that detail counts, which has little of the power."""
    xx, xt, tt = sums.unbind(1)
    gains = torch.exp(deblur.log_gains(v) @ deblur.at(radii().to(v.device)))
    wrong = gains.square() * xx - 2 * gains * xt + tt
    shares = wrong / (tt + 1e-5 * tt.mean(1, keepdim=True))
    return shares.clamp_max(4.0).mean()  # a ring of nothing but noise is not to decide


def fit(network: nn.Module, loss: Callable[[], Tensor], steps: int, weight_decay: float) -> Iterator[Tensor]:
    """Trains a small network that decides by v_DR, by a cosine from 2e-3 to nothing; yields each step's loss, a scalar
    that stays on its device."""
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        error = loss()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        yield error.detach()
