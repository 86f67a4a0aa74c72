"""Unsupervised degradation representation learning (paper, UDRL): the degradation encoder learns to tell damages apart,
without labels, by contrast (MoCo): different faces under one damage belong together, those under others do not.

Beside it, and not in the paper, two small networks learn what v_DR says of the picture itself: `Deblur` the gains of
the linear filter that brings the damaged picture nearest to the whole one (a Wiener filter), and `PictureDAFI` how much
of each octave of the damaged picture is true. Neither needs a label either.
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
from panini.models.dafi import PictureDAFI
from panini.models.deblur import Deblur, radii, spectra
from panini.models.dre import DegradationEncoder
from panini.models.octaves import octaves
from panini.training.batches import choose, damaged
from panini.training.config import UDRLConfig
from panini.training.data import FACE_SIZE, FaceBank, Faces, check_disjoint
from panini.training.loop import Training, Validation
from panini.training.optim import Descent, channels_last
from panini.weights.checkpoint import build

_NOISE = 0.1
"""Of v_DR, while `Deblur` is fitted to it, so that a few thousand faces are not learned by heart."""


class Canvases:
    """Batches of faces under one damage each: (given, truth), [N, canvases, 3, 512, 512] in [-1, 1].

    tiles: 1 gives two canvases with a whole face each (the paper's query and key). More gives one canvas with
    tiles x tiles crops of that many faces: damage is local, so these are more views for the price of one picture's
    damage. Strengths are those of the canvas, that is, of a whole face.
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
        """That of a step, of `count` damages; the seed and the step decide everything."""
        rng = np.random.default_rng((self.seed, step))
        views = count * self.canvases * self.tiles**2
        faces = self.faces.take(rng.choice(len(self.faces), views, replace=len(self.faces) < views).tolist())
        truth = self._tiled(faces, rng)
        damages = [draw(choose(self.mixture, rng), rng) for _ in range(count)]
        chance = self._chance.manual_seed(self.seed * 1_000_003 + step)
        given = damaged(truth, damages, self.canvases, rng, chance)
        return given.unflatten(0, (count, -1)), truth.unflatten(0, (count, -1))

    def _tiled(self, faces: Tensor, rng: np.random.Generator) -> Tensor:
        """Whole faces [n * tiles², 3, S, S] -> canvases [n, 3, S, S] of a crop of each, half of these mirrored."""
        side = FACE_SIZE // self.tiles
        crops = []
        for face in faces:
            row, column = (int(place) for place in rng.integers(0, FACE_SIZE - side + 1, 2))
            crop = face[:, row : row + side, column : column + side]
            crops.append(crop.flip(-1) if rng.random() < 0.5 else crop)
        tiles = torch.stack(crops).view(-1, self.tiles, self.tiles, 3, side, side)
        return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, FACE_SIZE, FACE_SIZE)


def trust(given: Tensor, truth: Tensor, count: int) -> Tensor:
    """[N, count] in [0, 1]: <x, t> / max(<x, x>, <t, t>) of each octave x of `given` and t of `truth`.

    1 where nothing happened; near 0 where noise covers the octave (x is much larger) or blur took it (much smaller).
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3))

    values = [
        dot(x, t) / torch.maximum(dot(x, x), dot(t, t)).clamp(min=1e-8)
        for x, t in zip(octaves(given, count), octaves(truth, count), strict=True)
    ]
    return torch.stack(values, 1).clamp(0, 1)


def wiener_loss(deblur: Deblur, v: Tensor, sums: Tensor) -> Tensor:
    """What the filter of v_DR [N, dr_dim] leaves wrong of pictures with these `spectra` [N, 3, RINGS]: the mean share
    of a ring's power. Every ring counts alike, so that detail counts, which has little of the power."""
    xx, xt, tt = sums.unbind(1)
    gains = torch.exp(deblur.log_gains(v) @ deblur.at(radii().to(v.device)))
    wrong = gains.square() * xx - 2 * gains * xt + tt
    shares = wrong / (tt + 1e-5 * tt.mean(1, keepdim=True))
    return shares.clamp_max(4.0).mean()  # a ring of nothing but noise is not to decide


def _views(canvases: Tensor, tiles: int) -> Tensor:
    """[N, canvases, 3, S, S] -> [N, views, 3, S / tiles, S / tiles]."""
    side = canvases.shape[-1] // tiles
    views = canvases.unfold(3, side, side).unfold(4, side, side)  # [N, canvases, 3, tiles, tiles, side, side]
    return views.permute(0, 1, 3, 4, 2, 5, 6).flatten(1, 3)


class UDRL(nn.Module):
    """The contrastive objective: query encoder, momentum encoder, queue of keys.

    batch_negatives: keys of the same batch are negatives of each other, too (the paper's are those of the queue alone).
    Without it a small batch's own statistics, which batch normalization writes into all its members, tell query and key
    from the queue, and nothing is learned about damage. picture: if given, it learns beside it, from v_DR, how much of
    each octave is true (`trust`). deblur: if given, it learns its gains (`wiener_loss`), of which v_DR learns nothing.
    """

    queue: Tensor
    filled: Tensor

    def __init__(
        self,
        encoder: DegradationEncoder,
        picture: PictureDAFI | None = None,
        queue: int = 8192,
        momentum: float = 0.999,
        temperature: float = 0.07,
        batch_negatives: bool = True,
        tiles: int = 1,
        trust_weight: float = 1.0,
        deblur: Deblur | None = None,
        deblur_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.picture = picture
        self.momentum = momentum
        self.temperature = temperature
        self.batch_negatives = batch_negatives
        self.tiles = tiles
        self.trust_weight = trust_weight
        self.deblur = deblur
        self.deblur_weight = deblur_weight
        self.register_buffer("queue", F.normalize(torch.randn(queue, encoder.dim), dim=1))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))  # keys that were ever put into the queue

    def forward(self, given: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """given, truth: [N, canvases, 3, S, S], each row under one damage; half of its views ask, half answer.

        Returns contrast and, if `picture` and `deblur` learn, trust and deblur. Puts the keys into the queue.
        """
        given, truth = _views(given, self.tiles), _views(truth, self.tiles)
        queries, keys = given.chunk(2, 1)
        v = self.encoder(queries.flatten(0, 1))
        with torch.no_grad():
            self._follow()
            key = self.key_encoder(keys.flatten(0, 1))
        with torch.autocast(given.device.type, enabled=False):  # differences of likenesses want full precision
            return self._compare(v.float(), key.float(), queries, truth.chunk(2, 1)[0])

    def _compare(self, v: Tensor, key: Tensor, queries: Tensor, truth: Tensor) -> dict[str, Tensor]:
        asked = F.normalize(self.encoder.projection(v), dim=1)
        with torch.no_grad():
            answers = F.normalize(self.key_encoder.projection(key), dim=1)
        # row i of `same` says which answers carry the damage of question i
        which = torch.arange(len(queries), device=v.device).repeat_interleave(queries.shape[1])
        same = which[:, None] == which[None]
        ours = asked @ answers.T / self.temperature
        others = asked @ self.queue.clone().T / self.temperature  # it changes before backward
        empty = torch.arange(len(self.queue), device=v.device) >= self.filled
        others = others.masked_fill(empty, -torch.inf)
        if self.batch_negatives:
            total = torch.cat((ours, others), 1).logsumexp(1, keepdim=True)
        else:
            negatives = others.logsumexp(1, keepdim=True)
            total = torch.logaddexp(ours, negatives)  # each positive against the queue
        terms = {"contrast": (total - ours)[same].mean()}
        if self.picture is not None:
            target = trust(queries.flatten(0, 1), truth.flatten(0, 1), self.picture.bands)
            terms["trust"] = self.trust_weight * F.binary_cross_entropy(self.picture.weights(v), target)
        if self.deblur is not None:
            seen = v.detach() + _NOISE * torch.randn_like(v)
            sums = spectra(queries.flatten(0, 1), truth.flatten(0, 1))
            terms["deblur"] = self.deblur_weight * wiener_loss(self.deblur, seen, sums)
        if self.training:
            self._enqueue(answers)
        return terms

    @torch.no_grad()
    def _follow(self) -> None:
        slow: list[Tensor] = list(self.key_encoder.parameters())
        fast: list[Tensor] = list(self.encoder.parameters())
        torch._foreach_lerp_(slow, fast, 1 - self.momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        places = (self.filled + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.filled += len(keys)


class UDRLTraining(Training[UDRLConfig]):
    """Trains the DRE of a preset; `best.pt` holds `dre` and, if they learned, `picture` and `deblur`.

    The probe that chooses it is not what is trained on: neighbors of v_DR should have the same damage.
    """

    def set_up(self) -> None:
        config = self.config
        self.faces = Faces.open(Path(config.real))
        if config.validate_every:
            check_disjoint([self.faces], Path(config.validation))
        bank = FaceBank(self.faces, self.device, config.memory)
        self.canvases = Canvases(bank, config.mixture, config.seed, config.tiles)
        network = build(config.preset)
        if not isinstance(network.dre, DegradationEncoder):
            raise PaniniError(f"preset {config.preset!r} has no encoder of degradations to train")
        self.udrl = UDRL(
            network.dre,
            network.picture if config.trust else None,
            config.queue,
            config.key_momentum,
            config.temperature,
            config.batch_negatives,
            config.tiles,
            config.trust,
            network.deblur if config.deblur else None,
            config.deblur,
        ).to(self.device)
        channels_last(self.udrl)
        self.descent = Descent(config.optimizer, [(1.0, [p for p in self.udrl.parameters() if p.requires_grad])])

    def update(self) -> Mapping[str, Tensor]:
        self.udrl.train()
        given, truth = self.canvases.batch(self.step, self.config.batch)
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
        parts = {"dre": self.udrl.encoder, "picture": self.udrl.picture, "deblur": self.udrl.deblur}
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
        scalars = {f"{kind} there": value for kind, value in known.presence.items()}
        scalars |= {f"{kind} strength": value for kind, value in known.strength.items()}
        scalars |= {"neighbor": known.neighbor, "same face": known.same_face}
        return Validation(known.neighbor, table({f"step {self.step}": known}), scalars)
