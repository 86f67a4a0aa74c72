"""Unsupervised degradation representation learning (paper, UDRL): trains the degradation encoder without labels, by
contrastive learning (MoCo). Different faces with one degradation are positives, faces with other degradations are
negatives.

Not in the paper: two small networks are trained jointly, also without labels. From v_DR, `Deblur` predicts the gains of
a Wiener filter, and another network, which is only used here, predicts the reliable share of each frequency band.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.degradation import draw
from panini.errors import PaniniError
from panini.evaluation.probe import examine_encoder, table
from panini.evaluation.validation import load_truths
from panini.models.deblur import Deblur, radii, spectra
from panini.models.dre import DegradationEncoder
from panini.models.octaves import octaves
from panini.training.batches import Ahead, choose, damaged
from panini.training.config import UDRLConfig
from panini.training.data import FACE_SIZE, FaceBank, Faces, check_disjoint
from panini.training.loop import Training, Validation
from panini.training.optim import Descent, channels_last
from panini.weights.checkpoint import build

_BANDS = 6
"""Number of frequency bands whose reliable share is predicted, from the finest one on."""
_NOISE = 0.1
"""Deviation of the noise on the v_DR that `Deblur` is trained with, against overfitting to a few thousand faces."""


class Canvases:
    """Batches of faces that share a degradation: (given, truth), [N, canvases, 3, 512, 512] in [-1, 1].

    tiles: 1 gives two canvases with a whole face each (the paper's query and key). More gives one canvas, a mosaic of
    tiles x tiles crops of different faces: degradations are local, so degrading one picture gives more views. Strengths
    refer to the canvas, as for a whole face.
    """

    def __init__(self, faces: FaceBank, mixture: Mapping[str, float], seed: int, tiles: int = 1) -> None:
        self.faces = faces
        self.mixture = dict(mixture)
        self.seed = seed
        self.tiles = tiles
        self.canvases = 2 if tiles == 1 else 1
        self._chance = torch.Generator(faces.device)

    @torch.no_grad()
    def batch(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """The batch of a step, with `count` degradations; depends only on the seed and the step."""
        rng = np.random.default_rng((self.seed, step))
        views = count * self.canvases * self.tiles**2
        faces = self.faces.take(rng.choice(len(self.faces), views, replace=len(self.faces) < views).tolist())
        truth = self._tiled(faces, rng)
        damages = [draw(choose(self.mixture, rng), rng) for _ in range(count)]
        chance = self._chance.manual_seed(self.seed * 1_000_003 + step)
        given = damaged(truth, damages, self.canvases, rng, chance)
        return given.unflatten(0, (count, -1)), truth.unflatten(0, (count, -1))

    def _tiled(self, faces: Tensor, rng: np.random.Generator) -> Tensor:
        """Whole faces [n * tiles², 3, S, S] -> mosaics [n, 3, S, S] of a random crop of each, half of them mirrored."""
        side = FACE_SIZE // self.tiles
        crops = []
        for face in faces:
            row, column = (int(place) for place in rng.integers(0, FACE_SIZE - side + 1, 2))
            crop = face[:, row : row + side, column : column + side]
            crops.append(crop.flip(-1) if rng.random() < 0.5 else crop)
        tiles = torch.stack(crops).view(-1, self.tiles, self.tiles, 3, side, side)
        return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, FACE_SIZE, FACE_SIZE)


def trust(given: Tensor, truth: Tensor, count: int) -> Tensor:
    """[N, count] in [0, 1]: <x, t> / max(<x, x>, <t, t>) of each frequency band x of `given` and t of `truth`.

    1 for undamaged bands; near 0 if noise covers the band (x is much larger) or blur removed it (much smaller).
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3))

    values = [
        dot(x, t) / torch.maximum(dot(x, x), dot(t, t)).clamp(min=1e-8)
        for x, t in zip(octaves(given, count), octaves(truth, count), strict=True)
    ]
    return torch.stack(values, 1).clamp(0, 1)


def wiener_loss(deblur: Deblur, v: Tensor, sums: Tensor) -> Tensor:
    """Error of pictures after the filter that `deblur` predicts from v_DR [N, dr_dim], relative to the power of each
    ring; the mean over rings. sums: their `spectra` [N, 3, RINGS]. Equal weights of the rings emphasize detail, which
    has little power."""
    xx, xt, tt = sums.unbind(1)
    gains = torch.exp(deblur.log_gains(v) @ deblur.at(radii().to(v.device)))
    wrong = gains.square() * xx - 2 * gains * xt + tt
    shares = wrong / (tt + 1e-5 * tt.mean(1, keepdim=True))
    return shares.clamp_max(4.0).mean()  # limits the influence of rings of noise


def _views(canvases: Tensor, tiles: int) -> Tensor:
    """[N, canvases, 3, S, S] -> [N, views, 3, S / tiles, S / tiles]."""
    side = canvases.shape[-1] // tiles
    views = canvases.unfold(3, side, side).unfold(4, side, side)  # [N, canvases, 3, tiles, tiles, side, side]
    return views.permute(0, 1, 3, 4, 2, 5, 6).flatten(1, 3)


class UDRL(nn.Module):
    """The contrastive objective: query encoder, momentum encoder, queue of keys.

    With `config.batch_negatives`, keys of the same batch are negatives, too (the paper only uses those of the queue).
    Without them, batch normalization leaks the statistics of a small batch into all of its samples, which distinguishes
    query and key from the queue, and the encoder does not learn degradations. With `config.trust`, a small network is
    trained jointly to predict the reliable share of each frequency band from v_DR (`trust`). deblur: if given, its
    gains are trained (`wiener_loss`), without a gradient for v_DR.
    """

    queue: Tensor
    filled: Tensor

    def __init__(
        self,
        encoder: DegradationEncoder,
        config: UDRLConfig,
        deblur: Deblur | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.config = config
        self.reliable = nn.Sequential(nn.Linear(encoder.dim, 64), nn.LeakyReLU(0.1), nn.Linear(64, _BANDS))
        self.deblur = deblur
        self.register_buffer("queue", F.normalize(torch.randn(config.queue, encoder.dim), dim=1))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))  # number of keys added to the queue so far

    def forward(self, given: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """given, truth: [N, canvases, 3, S, S], one degradation per row; half of its views are queries, half are keys.

        Returns the terms contrast and, with `config.trust` and `deblur`, trust and deblur. Adds the keys to the queue
        in training mode.
        """
        given, truth = _views(given, self.config.tiles), _views(truth, self.config.tiles)
        queries, keys = given.chunk(2, 1)
        v = self.encoder(queries.flatten(0, 1))
        with torch.no_grad():
            self._follow()
            key = self.key_encoder(keys.flatten(0, 1))
        with torch.autocast(given.device.type, enabled=False):  # similarities need full precision
            return self._compare(v.float(), key.float(), queries, truth.chunk(2, 1)[0])

    def _compare(self, v: Tensor, key: Tensor, queries: Tensor, truth: Tensor) -> dict[str, Tensor]:
        asked = F.normalize(self.encoder.projection(v), dim=1)
        with torch.no_grad():
            answers = F.normalize(self.key_encoder.projection(key), dim=1)
        # row i of `same`: which keys have the degradation of query i
        which = torch.arange(len(queries), device=v.device).repeat_interleave(queries.shape[1])
        same = which[:, None] == which[None]
        ours = asked @ answers.T / self.config.temperature
        others = asked @ self.queue.clone().T / self.config.temperature  # the queue changes before backward
        empty = torch.arange(len(self.queue), device=v.device) >= self.filled
        others = others.masked_fill(empty, -torch.inf)
        if self.config.batch_negatives:
            total = torch.cat((ours, others), 1).logsumexp(1, keepdim=True)
        else:
            negatives = others.logsumexp(1, keepdim=True)
            total = torch.logaddexp(ours, negatives)  # each positive against the queue
        terms = {"contrast": (total - ours)[same].mean()}
        if self.config.trust:
            target = trust(queries.flatten(0, 1), truth.flatten(0, 1), _BANDS + 1)[:, :-1]  # not of the rest
            terms["trust"] = self.config.trust * F.binary_cross_entropy_with_logits(self.reliable(v), target)
        if self.deblur is not None:
            seen = v.detach() + _NOISE * torch.randn_like(v)
            sums = spectra(queries.flatten(0, 1), truth.flatten(0, 1))
            terms["deblur"] = self.config.deblur * wiener_loss(self.deblur, seen, sums)
        if self.training:
            self._enqueue(answers)
        return terms

    @torch.no_grad()
    def _follow(self) -> None:
        slow: list[Tensor] = list(self.key_encoder.parameters())
        fast: list[Tensor] = list(self.encoder.parameters())
        torch._foreach_lerp_(slow, fast, 1 - self.config.key_momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        places = (self.filled + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.filled += len(keys)


class UDRLTraining(Training[UDRLConfig]):
    """Trains the DRE of a preset; `best.pt` contains `dre` and, if it is trained, `deblur`.

    It is selected by a measure that is not trained on: nearest neighbors in v_DR should have similar degradations.
    """

    def set_up(self) -> None:
        config = self.config
        self.faces = Faces.open(Path(config.real))
        if config.validate_every:
            check_disjoint([self.faces], Path(config.validation))
        bank = FaceBank(self.faces, self.device, config.memory)
        self.canvases = Canvases(bank, config.mixture, config.seed, config.tiles)
        self._ahead = Ahead(lambda step: self.canvases.batch(step, config.batch), self.device)
        network = build(config.preset)
        if not isinstance(network.dre, DegradationEncoder):
            raise PaniniError(f"preset {config.preset!r} has no degradation encoder to train")
        self.udrl = UDRL(
            network.dre,
            config,
            network.deblur if config.deblur else None,
        ).to(self.device)
        channels_last(self.udrl)
        self.descent = Descent(config.optimizer, [(1.0, [p for p in self.udrl.parameters() if p.requires_grad])])

    def update(self) -> Mapping[str, Tensor]:
        self.udrl.train()
        given, truth = self._ahead(self.step)
        terms = self.udrl(given, truth)
        total = torch.stack(list(terms.values())).sum()
        self.descent.step(total, self.step, self.progress)
        return {name: term.detach() for name, term in terms.items()} | {"total": total.detach()}

    def skipped_steps(self) -> Tensor:
        return self.descent.skipped

    def state(self) -> dict[str, Any]:
        return {"modules": {"udrl": self.udrl.state_dict()}, "optimizer": self.descent.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.udrl.load_state_dict(state["modules"]["udrl"])
        self.descent.load_state_dict(state["optimizer"])

    def result(self) -> dict[str, Tensor]:
        parts = {"dre": self.udrl.encoder, "deblur": self.udrl.deblur}
        return {
            f"{part}.{name}": tensor
            for part, module in parts.items()
            if module is not None
            for name, tensor in module.state_dict().items()
        }

    def validate(self) -> Validation:
        """Probes of v_DR, fitted on training faces and scored on validation faces."""
        truths = load_truths(Path(self.config.validation))
        known, _ = examine_encoder(self.udrl.encoder, self.faces, truths, self.config.probes)
        scalars = {"neighbor": known.neighbor, "same face": known.same_face}
        for kind, probe in known.probes.items():
            scalars |= {f"{kind} there": probe.accuracy, f"{kind} strength": probe.correlation}
        return Validation(known.neighbor, table({f"step {self.step}": known}), scalars)
