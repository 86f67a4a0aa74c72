"""Training of the restorer in stages: each is a config (`configs/r.toml`, …) that starts from the one before."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from panini.errors import PaniniError, first_line
from panini.evaluation.calibrate import directions
from panini.evaluation.probe import encode_with
from panini.models.discriminator import Discriminator, PatchDiscriminator, PriorFeatureDiscriminator
from panini.models.panini_net import PaniniNet
from panini.models.prior import MobilePrior, Prior
from panini.training.adversary import Adversary
from panini.training.batches import Ahead, Batches, SampledFaces
from panini.training.config import RestorerConfig
from panini.training.data import FaceBank, Faces, aligned, check_disjoint
from panini.training.distances import ShallowSTLPIPS, VGGDistance, stlpips_of
from panini.training.identity import identity_of
from panini.training.loop import Training, Validation, parameters_of
from panini.training.objective import DISCRIMINATOR_RESOLUTIONS, DISCRIMINATOR_SIZE, Helpers, Objective, Seen
from panini.training.optim import Descent, MovingAverage, channels_last
from panini.training.validation import Validator
from panini.weights.checkpoint import build, load_network
from panini.weights.downloads import PRIOR, fetch
from panini.weights.prior_wheel import load_prior
from panini.weights.released import load_released

_STATISTICS_FACES = 48
_GATES = ("dafi.mlp.",)
_PARTS = ("prior.", "ife.", "lce.", "dre.", "dafi.", "picture.", "deblur.", "removal.")
"""Parts of a network; a file to start from may lack some."""


class RestorerTraining(Training[RestorerConfig]):
    """Trains a preset's `PaniniNet`; `best.pt` and `last.pt` are what `panini export` and the next stage read."""

    def set_up(self) -> None:
        config = self.config
        prior = prior_of(config.prior)
        self.network = starting_network(config, prior)
        channels_last(self.network, config.hardware.channels_last)
        self.network.to(self.device)
        prior.to(self.device).eval().requires_grad_(False)
        channels_last(prior)
        self.sampled = self._sampled(prior)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.network.train()
        self.network.dre.eval()  # batches are too small for batch statistics
        groups = _learning(self.network, config)
        self.descent = Descent(config.optimizer, groups)
        self.moving = MovingAverage(self.average, self.network, config.ema)
        self.adversaries = self._adversaries()
        real = self._real()
        latent_shape = (self.network.prior.latents, self.network.prior.latent_dim)
        self.batches = Batches(config, latent_shape, self.sampled, real, self.device)
        self.objective = Objective(config, self.network, self._helpers(real), self.device)
        self.validator = Validator(config, self.device) if config.validate_every else None
        self._ahead = Ahead(self.batches, self.device)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _sampled(self, prior: Prior) -> SampledFaces | None:
        config = self.config
        if config.real_share == 1:
            return None
        low, high = config.truncation
        last = max(self.network.dafi.resolutions)
        return SampledFaces(prior, last, (low, high), config.style_mixing, config.hardware.bf16)

    def _real(self) -> FaceBank | None:
        config = self.config
        if config.real_share == 0:
            return None
        folder = aligned(Path(config.real), config.size) if config.photos else Path(config.real)
        faces = Faces.open(folder, config.size, config.least)
        if config.validate_every:
            check_disjoint([faces], Path(config.validation))
        return FaceBank(faces, self.device, config.memory, config.face_weights)

    def _adversaries(self) -> list[Adversary]:
        config, found = self.config, []
        optimizer, every = config.discriminator_optimizer, config.discriminator_every
        if config.losses.adversarial:
            module, weight = self._face_discriminator(), config.losses.adversarial
            found.append(Adversary("faces", module, optimizer, weight, config.losses.r1, every))
        if config.losses.adversarial_features:
            for r in DISCRIMINATOR_RESOLUTIONS:
                module = PriorFeatureDiscriminator(*self.network.dafi.statistics(r)).to(self.device)
                channels_last(module)
                weight = config.losses.adversarial_features / len(DISCRIMINATOR_RESOLUTIONS)
                found.append(Adversary(f"features_{r}", module, optimizer, weight, every=every))
        if config.start:
            _continue_adversaries(Path(config.start), found, self.device)
        return found

    def _face_discriminator(self) -> nn.Module:
        config = self.config
        module: nn.Module = PatchDiscriminator()
        if config.perceptual == "vgg":  # the paper's
            module = Discriminator(config.size, 32768 if config.size > DISCRIMINATOR_SIZE else 8192)
            if config.discriminator_weights:
                load_released(config.discriminator_weights, module)
        channels_last(module)
        return module.to(self.device)

    def _helpers(self, real: FaceBank | None) -> Helpers:
        config, losses = self.config, self.config.losses
        perceptual = None
        if losses.perceptual:
            stlpips = stlpips_of(config)
            perceptual = VGGDistance(stlpips) if config.perceptual == "vgg" else ShallowSTLPIPS(stlpips, config.depth)
            channels_last(perceptual)
            perceptual.eval().to(self.device)
        if losses.adversarial and not losses.perceptual and config.perceptual != "vgg":
            raise PaniniError("losses.adversarial is relative to losses.perceptual, which is 0")
        if losses.identity and config.window:
            raise PaniniError("losses.identity needs whole faces: window=0")
        identity = identity_of(config)
        if identity is not None:
            identity.to(self.device)
        direction = None
        if config.dial_share:
            if real is None:
                raise PaniniError("dial_share needs real faces: set real_share above 0")
            encode = encode_with(self.network.dre)
            direction = torch.from_numpy(directions(encode, real.faces, 32)[0]).to(self.device)
        by_name = {adversary.name: adversary for adversary in self.adversaries}
        return Helpers(
            perceptual,
            identity,
            self.sampled.deviation.square() if self.sampled is not None else None,
            direction,
            by_name.get("faces"),
            {r: by_name[f"features_{r}"] for r in DISCRIMINATOR_RESOLUTIONS if f"features_{r}" in by_name},
        )

    # --- steps --------------------------------------------------------------------------------------------------------

    def update(self) -> Mapping[str, Tensor]:
        step, progress = self.step, self.progress
        batch = self._ahead(step)
        terms, seen = self.objective(batch, step)
        total = torch.stack([term for name, term in terms.items() if not name.startswith(".")]).sum()
        self.descent.step(total, step, progress)
        self.moving.follow(step)
        logged = {name: term.detach() for name, term in terms.items()} | {"total": total.detach()}
        return logged | self._update_discriminators(seen, step, progress)

    def _update_discriminators(self, seen: Seen, step: int, progress: float) -> dict[str, Tensor]:
        losses = {}
        for adversary in self.adversaries:
            pair = seen.faces if adversary.name == "faces" else seen.features.get(int(adversary.name.split("_")[1]))
            if pair is None:
                continue
            with self.objective.autocast():
                loss = adversary.learn(*pair, step, progress)
            loss = torch.zeros((), device=self.device) if loss is None else adversary.balance.every * loss
            losses[f".discriminator_{adversary.name}"] = loss  # the mean over all steps is that over its own
        return losses

    def read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for adversary in self.adversaries:
            accuracy = adversary.take_accuracy()
            value = float("nan") if accuracy is None else accuracy.item()
            if accuracy is not None:
                adversary.balance.read(value)
            found |= {f"accuracy_{adversary.name}": value, f"every_{adversary.name}": float(adversary.balance.every)}
        return found | {"gradient": self.descent.norm.item()}

    def skipped_steps(self) -> Tensor:
        return self.descent.skipped

    def resize(self, batch: int, layout: bool) -> None:
        """Changes the batch size and the memory layout, to measure speeds."""
        hardware = replace(self.config.hardware, channels_last=layout)
        self.config = replace(self.config, batch=batch, hardware=hardware)
        for part in (self.batches, self.objective):
            part.config = self.config
        self.batches = self.batches.resized(batch)
        self._ahead = Ahead(self.batches, self.device)
        helpers = self.objective.helpers
        modules = [self.network, *(adversary.module for adversary in self.adversaries)]
        modules += [self.sampled.prior] if self.sampled is not None else []
        modules += [helpers.perceptual] if helpers.perceptual is not None else []
        for module in modules:
            channels_last(module, layout)
        for descent in (self.descent, *(adversary.descent for adversary in self.adversaries)):
            descent.forget()

    # --- what is kept -------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        self.moving.finish()
        return {
            "modules": {"network": self.network.state_dict(), "average": self.average.state_dict()},
            "optimizer": self.descent.state_dict(),
            "adversaries": {adversary.name: adversary.state_dict() for adversary in self.adversaries},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["modules"]["network"])
        self.average.load_state_dict(state["modules"]["average"])
        self.descent.load_state_dict(state["optimizer"])
        for adversary in self.adversaries:
            adversary.load_state_dict(state["adversaries"][adversary.name])

    def result(self) -> dict[str, Tensor]:
        self.moving.finish()
        return self.average.state_dict()

    def validate(self) -> Validation | None:
        """Validates the moving average on the even-numbered validation faces; the odd ones are for reports."""
        self.moving.finish()
        return None if self.validator is None else self.validator(self.average)


def prior_of(path: str) -> Prior:
    """The prior of a file; "": the small prior, from its wheel."""
    return load_prior(Path(path) if path else fetch(PRIOR))[0]


def starting_network(config: RestorerConfig, prior: Prior) -> PaniniNet:
    """The preset's network with everything that the config starts from. Raises PaniniError."""
    network = build(config.preset)
    try:
        network.prior.load_state_dict(prior.state_dict())
    except RuntimeError as error:
        raise PaniniError(f"prior: not the one that preset {config.preset!r} has: {error}") from error
    if hasattr(network.lce, "mean") and isinstance(prior, MobilePrior):
        network.lce.mean.copy_(prior.mean_latent)  # type: ignore[operator]
    untrained = {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith(config.fresh)}
    if config.start:
        load_network(Path(config.start), network, _PARTS)
    network.load_state_dict(untrained, strict=False)
    if config.encoder:
        load_network(Path(config.encoder), network, ("dre.", "deblur."))
    if not config.start and network.dafi.normalized:
        network.dafi.set_statistics(_statistics(prior, max(network.dafi.resolutions)))
    network.dafi.rule = config.rule
    if config.losses.features and not network.dafi.normalized:
        raise PaniniError(f"losses.features: preset {config.preset!r} does not normalize its features")
    return network


@torch.no_grad()
def _statistics(prior: Prior, last: int) -> dict[int, Tensor]:
    """The prior's features of sampled faces; their mean and spread normalize the image features."""
    sampled = SampledFaces(prior, last, (0.5, 1.0), 0.5)
    w = sampled.latents(_STATISTICS_FACES, torch.Generator().manual_seed(3))
    return {r: state.features for r, state in prior.features(w, last).items()}


def _learning(network: PaniniNet, config: RestorerConfig) -> list[tuple[float, list[nn.Parameter]]]:
    """Groups of trainable parameters, (learning-rate factor, parameters); all others are frozen."""
    network.requires_grad_(False)
    factors: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters_of(network, config.train):
        if name.startswith("dre.projection") or (name.startswith("dafi.mlp") and config.rule in ("half", "add")):
            continue
        parameter.requires_grad_()
        factors.setdefault(config.gates_lr if name.startswith(_GATES) else 1.0, []).append(parameter)
    if config.train_prior:
        for parameter in network.prior.parameters_from(config.train_prior):
            parameter.requires_grad_()
            factors.setdefault(config.prior_lr, []).append(parameter)
    return list(factors.items())


def _continue_adversaries(start: Path, adversaries: list[Adversary], device: torch.device) -> None:
    """Loads the discriminators of the previous run; others start untrained."""
    if start.suffix == ".safetensors" or not adversaries:
        return
    try:
        state = torch.load(start, weights_only=True, map_location=device)
        for adversary in adversaries:
            if adversary.name in state.get("adversaries", {}):
                adversary.load_state_dict(state["adversaries"][adversary.name], optimizer=False)
    except Exception as error:
        raise PaniniError(f"cannot start from {start}: {first_line(error)}") from error
