"""Unsupervised degradation representation learning (paper, UDRL): the degradation encoder learns to tell damages apart,
without labels, by contrast (MoCo): different faces under one damage belong together, those under others do not."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.errors import PaniniError
from panini.evaluation.probe import examine_encoder, table
from panini.evaluation.validation import load_truths
from panini.models.dafi import PictureDAFI
from panini.models.dre import DegradationEncoder
from panini.photo.pixels import Pixels, to_signed
from panini.training.config import RunConfig
from panini.training.data import FACE_SIZE, DamagedSamples, Faces, check_disjoint
from panini.training.loop import Training, Validation, channels_last, gathered, make_optimizer
from panini.training.trust import trust
from panini.weights.checkpoint import build


class Canvases(DamagedSamples):
    """Item i: faces under one damage, {truth: [canvases, 3, 512, 512] in [-1, 1]; given: the same damaged, unless
    `damage` is off; index: i}.

    tiles: 1 gives two canvases with a whole face each (the paper's query and key). More gives one canvas with
    tiles x tiles crops of that many faces: damage is local, so these are more views for the price of one picture's
    damage. Strengths are those of the canvas, that is, of a whole face.
    """

    def __init__(
        self, faces: Faces, mixture: Mapping[str, float], seed: int, tiles: int = 1, damage: bool = True
    ) -> None:
        super().__init__(mixture, seed, damage)
        self.faces = faces
        self.tiles = tiles

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, i))
        side, views = FACE_SIZE // self.tiles, max(2, self.tiles**2)
        chosen = iter(rng.choice(len(self.faces), views, replace=len(self.faces) < views))
        canvases = np.empty((views // self.tiles**2, FACE_SIZE, FACE_SIZE, 3), np.uint8)
        for canvas in canvases:
            for tile in np.ndindex(self.tiles, self.tiles):
                face = self.faces[int(next(chosen))]
                row, column = rng.integers(0, FACE_SIZE - side + 1, 2)
                crop = face[row : row + side, column : column + side]
                rows, columns = (slice(side * t, side * (t + 1)) for t in tile)
                canvas[rows, columns] = crop[:, ::-1] if rng.random() < 0.5 else crop
        item = {"truth": _tensor(canvases), "index": torch.tensor(i)}
        if self.damage:
            degradation, seed = self.degradation(i)
            item["given"] = _tensor([degradation.apply(canvas, seed + n) for n, canvas in enumerate(canvases)])
        return item


def _tensor(pictures: Iterable[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack([to_signed(picture) for picture in pictures]))


def _views(canvases: Tensor, tiles: int) -> Tensor:
    """[N, canvases, 3, S, S] -> [N, views, 3, S / tiles, S / tiles]."""
    side = canvases.shape[-1] // tiles
    views = canvases.unfold(3, side, side).unfold(4, side, side)  # [N, canvases, 3, tiles, tiles, side, side]
    return views.permute(0, 1, 3, 4, 2, 5, 6).flatten(1, 3)


class UDRL(nn.Module):
    """The contrastive objective: query encoder, momentum encoder, queue of keys.

    batch_negatives: keys of the same batch are negatives of each other, too (the paper's are those of the queue alone).
    Without it a small batch's own statistics, which batch normalisation writes into all its members, tell query and key
    from the queue, and nothing is learned about damage. picture: if given, it learns beside it, from v_DR, how much of
    each octave is true (`trust`); no label either.
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
        self.register_buffer("queue", F.normalize(torch.randn(queue, encoder.dim), dim=1))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))  # keys that were ever put into the queue

    def forward(self, given: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """given, truth: [N, canvases, 3, S, S], each row under one damage; half of its views ask, half answer.

        Returns contrast and, if `picture` learns, trust. Puts the keys into the queue.
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
        others = asked @ self.queue[: int(self.filled)].clone().T / self.temperature  # it changes before backward
        if self.batch_negatives:
            total = torch.cat((ours, others), 1).logsumexp(1, keepdim=True)
        else:
            negatives = others.logsumexp(1, keepdim=True)
            total = torch.logaddexp(ours, negatives)  # each positive against the queue
        terms = {"contrast": (total - ours)[same].mean()}
        if self.picture is not None:
            target = trust(queries.flatten(0, 1), truth.flatten(0, 1), self.picture.bands)
            terms["trust"] = self.trust_weight * F.binary_cross_entropy(self.picture.weights(v), target)
        if self.training:
            self._enqueue(gathered(answers))
        return terms

    @torch.no_grad()
    def _follow(self) -> None:
        for slow, fast in zip(self.key_encoder.parameters(), self.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        places = (int(self.filled) + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.filled += len(keys)


@dataclass(frozen=True)
class UDRLConfig(RunConfig):
    """One training of a degradation encoder. Batches are counted in damages."""

    output: str = "runs/udrl"
    preset: str = "default"  # whose encoder
    real: str = "../shared/data/train"
    validation: str = "../shared/data/val"
    decoded: int = 0  # faces kept decoded in each worker
    mixture: Mapping[str, float] = field(default_factory=lambda: {"paper": 0.85, "wild": 0.15})
    tiles: int = 2
    queue: int = 4096
    key_momentum: float = 0.99
    temperature: float = 0.1
    batch_negatives: bool = True
    trust: float = 1.0  # weight of the trust of each octave, learned beside; 0: only contrast, as in the paper
    probes: int = 500  # damaged faces of each side of a validation


class UDRLTraining(Training[UDRLConfig]):
    """Trains the DRE of a preset; `best.pt` holds the state dicts of `dre` and, if it learned, `picture`."""

    samples: Canvases

    def set_up(self) -> None:
        config = self.config
        faces = Faces.open(Path(config.real), decoded=config.decoded)
        if config.validate_every:
            check_disjoint([faces], Path(config.validation))
        self.samples = Canvases(
            faces, config.mixture, config.seed, config.tiles, damage=self.fabric.device.type == "cpu"
        )
        network = build(config.preset)
        if not isinstance(network.dre, DegradationEncoder):
            raise PaniniError(f"preset {config.preset!r} has no encoder of degradations to train")
        self.udrl = channels_last(
            UDRL(
                network.dre,
                network.picture if config.trust else None,
                config.queue,
                config.key_momentum,
                config.temperature,
                config.batch_negatives,
                config.tiles,
                config.trust,
            )
        )

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        parameters = [p for p in self.udrl.parameters() if p.requires_grad]
        optimizer = make_optimizer(self.config.optimizer, [(1.0, parameters)])
        self.objective, wrapped = self.fabric.setup(self.udrl, optimizer)
        return [wrapped]

    def modules(self) -> dict[str, nn.Module]:
        return {"udrl": self.udrl}

    def update(self, batch: dict[str, Tensor]) -> dict[str, float]:
        self.objective.train()
        terms = self.objective(batch["given"], batch["truth"])
        return self.descend(terms, batch, self.optimizers[0], self.objective)

    def result(self) -> dict[str, Tensor]:
        parts = {"dre": self.udrl.encoder} | ({"picture": self.udrl.picture} if self.udrl.picture else {})
        return {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}

    def validate(self) -> Validation:
        """Probes of v_DR, fitted on training faces and scored on validation faces."""
        truths = load_truths(Path(self.config.validation))
        known, _ = examine_encoder(self.udrl.encoder, self.samples.faces, truths, self.config.probes)
        scalars = {f"{kind} there": value for kind, value in known.presence.items()}
        scalars |= {f"{kind} strength": value for kind, value in known.strength.items()}
        scalars |= {"neighbour": known.neighbour, "same face": known.same_face}
        return Validation(known.neighbour, table({f"step {self.step}": known}), scalars)
