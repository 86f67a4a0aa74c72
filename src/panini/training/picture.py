"""Fits PictureDAFI alone, on a finished network: how much of each band of the picture is kept is what decides, in the
end, between nearness to the truth and looks, and it can be decided anew in minutes. Ours, not the paper's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from panini.models.panini_net import Encoding, PaniniNet
from panini.training.deblur import fit

_BATCH = 6
_WINDOW = 128  # pixels of the picture: side of what is compared
_GRID = 32  # pixels that one of the coarsest band covers: windows begin at multiples of it, and split as a whole does


def train_picture(
    network: PaniniNet,
    looks: Iterable[Mapping[str, Tensor]],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    move: Callable[[Tensor, Tensor], Tensor],
    realism: Callable[[Mapping[str, Tensor]], Tensor],
    ensemble: bool = False,
) -> Iterator[float]:
    """Restores the samples once, then fits `network.picture` to windows of them in as many steps; nothing else
    changes. Yields after each face, and after each step its loss.

    looks: batches of one of `RestorationSamples`; move: v_DR [N, dr_dim] and settings of the dial [N] to the v_DR at
    that setting; realism: how many times looks count, [N], of a batch; loss: of results and truths [N, 3, S, S] and
    that; ensemble: where the damage adds to the picture, take the mean of two looks at it, as it will be used.
    """
    picture = network.picture
    assert picture is not None
    network.eval()
    picture.requires_grad_(True)
    seen = []

    def made(given: Tensor, v: Tensor, own: Tensor) -> tuple[Encoding, Tensor]:
        encoding = network.encode(given, v, own)
        generated = network.generate(network.fused(encoding), encoding.w).float()
        return encoding, F.avg_pool2d(generated, generated.shape[-1] // given.shape[-1])

    for sample in looks:
        given, truth, dial = (sample[name] for name in ("given", "truth", "dial"))
        with torch.no_grad():
            own = network.dre(given)
            encoding, generated = made(given, v := move(own, dial), own)
            if ensemble and sample["adds"].item():
                generated = (generated + made(given.flip(-1), v, own)[1].flip(-1)) / 2
        pictures = torch.cat((encoding.picture, generated, truth)).half().cpu()  # whole ones, hundreds of them
        seen.append((encoding.v[0].float(), realism(sample)[0], pictures))
        yield math.nan
    chance = torch.Generator().manual_seed(0)
    places = (truth.shape[-1] - _WINDOW) // _GRID + 1

    def windows_loss() -> Tensor:
        windows, rows = [], torch.randint(0, len(seen), (_BATCH,), generator=chance).tolist()
        for i in rows:
            row, column = (_GRID * torch.randint(0, places, (2,), generator=chance)).tolist()
            windows.append(seen[i][2][..., row : row + _WINDOW, column : column + _WINDOW])
        v, heed = (torch.stack([seen[i][part] for i in rows]) for part in (0, 1))
        given, generated, truth = torch.stack(windows).to(v.device).float().unbind(1)
        return loss(picture(given, generated, picture.weights(v).float()), truth, heed)

    for error in fit(picture, windows_loss, len(seen), weight_decay=1e-3):
        yield error.item()
    picture.requires_grad_(False)
