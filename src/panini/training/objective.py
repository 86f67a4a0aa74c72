"""The training objective of the restorer: the loss terms of a batch, weighted by the config of the stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.models.dre import FixedDegradation
from panini.models.panini_net import PaniniNet
from panini.models.prior import PriorState
from panini.training.adversary import Adversary
from panini.training.batches import Batch
from panini.training.config import RestorerConfig
from panini.training.distances import DETAIL_SIZE, error_left, lost_detail, relative_l1
from panini.training.generate import generate
from panini.weights.calibration import DIAL_REACH, shift_v

DIAL_WEIGHT = 4.0
"""The perceptual and adversarial terms of a sample are weighted by this number to the power of the dial."""
_CALM = 0.3
"""With `calm`, weight of perceptual and adversarial terms if a photo has lost no detail: they reward texture, which
looks like wrinkles and cracks there."""
_PLACES = 8
"""Windows begin at multiples of 1/8 of the picture."""
PARTS = ((3, 2), (3, 4), (5, 3))
"""Row and column, in eighths of an aligned face, of windows of a quarter of the side that show an eye or the mouth."""
DISCRIMINATOR_RESOLUTIONS = (32, 64)
"""Resolutions of the fused features that have a discriminator."""
DISCRIMINATOR_SIZE = 256
"""Size of whole faces for the discriminator, in pixels."""


@dataclass(frozen=True)
class Helpers:
    """Networks and statistics that `Objective` uses but does not train; None if no term needs them."""

    perceptual: nn.Module | None = None
    identity: nn.Module | None = None
    variance: Tensor | None = None  # of each element of w, [latent_dim]
    direction: Tensor | None = None  # the dial's, [dr_dim]
    faces: Adversary | None = None  # of whole faces
    features: Mapping[int, Adversary] | None = None  # of fused features, by resolution


@dataclass(frozen=True)
class Seen:
    """Samples for the discriminators, without gradients: (real, fake)."""

    faces: tuple[Tensor, Tensor] | None
    features: Mapping[int, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Shown:
    """Pictures of one step at one size: whole faces, or a window of them."""

    truth: Tensor  # [N, 3, s, s]
    generated: Tensor  # [N, 3, s, s]
    whole: float  # side of the whole picture, in its pixels


class Objective:
    """Computes the loss terms of a batch. See `Losses` for the terms and `RestorerConfig` for the other settings."""

    def __init__(self, config: RestorerConfig, network: PaniniNet, helpers: Helpers, device: torch.device) -> None:
        self.config = config
        self.network = network
        self.helpers = helpers
        self.device = device

    def autocast(self) -> torch.autocast:
        """bfloat16 for most of the network; see `Hardware.bf16`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.hardware.bf16)

    def __call__(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], Seen]:
        """Returns the weighted terms (scalars, whose sum is minimized) and the samples for the discriminators. Terms
        whose names begin with "." are measurements without a gradient."""
        config, network, weigh = self.config, self.network, self.config.losses
        v, given, picture, truth = self._look(batch, step)
        of_removal: dict[str, Tensor] = {}
        if weigh.removal or config.view == "picture":
            of_removal["removal"] = weigh.removal * error_left(picture, given, truth)
        if config.view == "picture":
            if weigh.perceptual:  # where detail is lost, it would reward invented texture
                half = truth.shape[-1] // 2
                kept = (1 - lost_detail(_at(picture, half), _at(truth, half))).square()
                kept, most = kept.topk((len(kept) + 1) // 2)  # most of the others weigh nothing
                of_removal["perceptual"] = weigh.perceptual * self._distance(picture[most], truth[most], kept) / 2
            return of_removal, Seen(None, {})
        edited = v
        if self.helpers.direction is not None:
            edited = shift_v(v, self.helpers.direction, DIAL_REACH * batch.dial[:, None])
        with self.autocast():
            image = network.ife(picture)
            w = network.lce(image[4]).float()
            own = {r: network.dafi.image_features(r, image[r]) for r in network.dafi.resolutions}
        terms = self._of_sampled(batch, w, own) | of_removal
        fused: dict[int, Tensor] = {}
        state = None
        if config.view != "features" or weigh.fused or weigh.adversarial_features:
            weights = network.dafi.weights(edited)
            with self.autocast():
                state, fused = network.fuse(w, own, weights)
            terms |= {f".share_{r}": weights[r][:, 0].mean() for r in fused if r >= DISCRIMINATOR_RESOLUTIONS[0]}
        if weigh.fused and len(batch.w):
            spread = {r: network.dafi.statistics(r)[1] for r in fused}
            known = {r: f[: len(batch.w)] for r, f in fused.items()}
            terms["fused"] = weigh.fused * relative_l1(known, batch.features, spread)
        lost = lost_detail(_at(picture, DETAIL_SIZE), _at(batch.truth, DETAIL_SIZE)) if config.calm else 1.0
        looks = DIAL_WEIGHT**batch.dial * (_CALM + (1 - _CALM) * lost)
        for r, adversary in (self.helpers.features or {}).items():
            terms[f"adversarial_{r}"] = self._penalty(adversary, fused[r], looks)
        shown = None
        if config.view != "features":
            assert state is not None
            shown = self._show(batch, state, w, step)
            terms |= self._of_pictures(batch, shown, looks)
        return terms, self._seen(batch, fused, shown)

    def _look(self, batch: Batch, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """v_DR [N, dr_dim], the picture before and after degradation removal, and its ground truth, in float32."""
        network, given = self.network, batch.given
        if network.input_size < given.shape[-1]:
            # The paper's SR has a single degradation, which is downsampling.
            large = batch.truth if isinstance(network.dre, FixedDegradation) else given
            given = F.interpolate(large, network.input_size, mode="bicubic", antialias=True).clamp(-1, 1)
        elif network.input_size > given.shape[-1]:
            given = F.interpolate(given, network.input_size, mode="bicubic").clamp(-1, 1)
        v = network.dre(given)
        picture = given if network.deblur is None else network.deblur(given, v)
        truth = batch.truth
        if self.config.view == "picture" and 0 < self.config.crop < picture.shape[-1]:
            picture, truth = _cropped(picture, truth, self.config.crop, (self.config.seed, step, 3))
        before = picture
        if network.removal is not None:
            with self.autocast():
                picture = network.removal(picture, v)
        return v, before, picture, truth

    def _of_sampled(self, batch: Batch, w: Tensor, own: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Terms of w and of the image features, most of them for sampled faces."""
        weigh, known, terms = self.config.losses, len(batch.w), {}
        variance = self.helpers.variance
        if variance is not None and known:
            left = ((w[:known] - batch.w).square() / variance).mean()
            terms["w"] = weigh.w * left
            terms[".unexplained"] = left.detach()
        if variance is not None and weigh.offset:
            terms["offset"] = weigh.offset * ((w - w.mean(1, keepdim=True)).square() / variance).mean()
        if weigh.features and known:
            spread = {r: self.network.dafi.statistics(r)[1] for r in own}
            distance = relative_l1({r: f[:known] for r, f in own.items()}, batch.features, spread)
            terms["features"] = weigh.features * distance
        return terms

    # --- pictures -----------------------------------------------------------------------------------------------------

    def _show(self, batch: Batch, state: PriorState, w: Tensor, step: int) -> _Shown:
        """Generates pictures from the fused features, or from a window of them if the config has one."""
        config, network, truth = self.config, self.network, batch.truth
        whole = network.dafi.resolutions[-1]
        if config.window:
            place = self._place(step, whole)
            state = state.crop(*place, config.window)
            truth = _window(truth, place, config.window, whole)
        ratio = max(1, network.prior.size // batch.truth.shape[-1])
        generated = generate(network.prior, state, w, whole, ratio, config.hardware.bf16)
        side = min(generated.shape[-1], truth.shape[-1])
        share = config.window / whole if config.window else 1.0
        return _Shown(_at(truth, side), _at(generated, side), side / share)

    def _of_pictures(self, batch: Batch, shown: _Shown, looks: Tensor) -> dict[str, Tensor]:
        config, weigh, helpers, terms = self.config, self.config.losses, self.helpers, {}
        if weigh.l1 or weigh.perceptual:
            side = round(shown.truth.shape[-1] * min(1.0, config.compare / shown.whole))
            ours, truth = _at(shown.generated, side), _at(shown.truth, side)
            terms["l1"] = weigh.l1 * F.l1_loss(ours, truth)
            if weigh.perceptual:
                terms["perceptual"] = weigh.perceptual * self._distance(ours, truth, looks)
        if helpers.identity is not None and len(batch.truth) > len(batch.w):
            real = slice(len(batch.w), None)
            with torch.no_grad():
                true = helpers.identity(shown.truth[real])
            likeness = (helpers.identity(shown.generated[real]) * true).sum(1)
            terms["identity"] = weigh.identity * (1 - likeness).mean()
        if helpers.faces is not None:
            face = _at(shown.generated, min(shown.generated.shape[-1], self._discriminator_side(shown)))
            terms["adversarial"] = self._penalty(helpers.faces, face, looks)
            if config.perceptual != "vgg":  # the paper's has a constant weight
                scale = adversarial_scale(terms["adversarial"], terms["perceptual"], shown.generated)
                terms[".adversarial_scale"] = weigh.adversarial * scale
                terms["adversarial"] = with_gradient(terms["adversarial"], weigh.adversarial * scale)
        return terms

    def _penalty(self, adversary: Adversary, fake: Tensor, looks: Tensor | float) -> Tensor:
        with self.autocast():
            penalty = adversary.penalty(fake)
        return (penalty * looks).mean()

    def _distance(self, ours: Tensor, truth: Tensor, looks: Tensor) -> Tensor:
        assert self.helpers.perceptual is not None
        layout = torch.channels_last if self.config.hardware.channels_last else torch.contiguous_format
        with self.autocast():
            distance = self.helpers.perceptual(
                ours.contiguous(memory_format=layout), truth.contiguous(memory_format=layout)
            )
        return (distance * looks).mean()

    def _seen(self, batch: Batch, fused: Mapping[int, Tensor], shown: _Shown | None) -> Seen:
        faces = None
        if self.helpers.faces is not None and shown is not None:
            side = self._discriminator_side(shown)
            faces = _at(shown.truth, side), _at(shown.generated.detach(), side)
        discriminators = self.helpers.features or {}
        return Seen(faces, {r: (batch.features[r], fused[r].detach()) for r in discriminators if r in batch.features})

    def _discriminator_side(self, shown: _Shown) -> int:
        """Size for the discriminator: 256 pixels for whole faces; unchanged for windows and for the paper's results."""
        if self.config.window or self.config.perceptual == "vgg":
            return shown.truth.shape[-1]
        return min(DISCRIMINATOR_SIZE, shown.truth.shape[-1])

    def _place(self, step: int, whole: int) -> tuple[int, int]:
        """Row and column of a random window of the fused features, which have `whole` rows and columns."""
        grid = max(1, whole // _PLACES)
        rng = np.random.default_rng((self.config.seed, step, 2, 0))
        last = (whole - self.config.window) // grid
        row, column = rng.integers(0, last, 2, endpoint=True)
        if rng.random() < self.config.parts_share:
            row, column = np.minimum(PARTS[rng.integers(len(PARTS))], last)
        return grid * int(row), grid * int(column)


def adversarial_scale(adversarial: Tensor, perceptual: Tensor, picture: Tensor) -> Tensor:
    """The factor that gives the adversarial term the gradient of the perceptual term in size, at the picture [N, 3, S,
    S] (VQGAN, arXiv 2012.09841); terms and factor are scalars. The gradient of a discriminator with spectral
    normalization varies by orders of magnitude while it learns."""
    ours, theirs = (torch.autograd.grad(term, picture, retain_graph=True)[0] for term in (adversarial, perceptual))
    return theirs.float().norm() / (ours.float().norm() + 1e-8)


def with_gradient(term: Tensor, scale: Tensor) -> Tensor:
    """The same value, with the gradient times `scale`."""
    return term.detach() + scale * (term - term.detach())


def _at(picture: Tensor, side: int) -> Tensor:
    """[N, 3, ks, ks] averaged down to [N, 3, s, s]."""
    return picture if picture.shape[-1] == side else F.avg_pool2d(picture, picture.shape[-1] // side)


def _cropped(picture: Tensor, truth: Tensor, side: int, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A random crop of `side` pixels of each pair of pictures, at multiples of 8 pixels, where JPEG's blocks begin."""
    rng, last = np.random.default_rng(seed), (picture.shape[-1] - side) // 8
    pairs = []
    for pair in zip(picture, truth, strict=True):
        row, column = 8 * rng.integers(0, last, 2, endpoint=True)
        pairs.append([each[:, row : row + side, column : column + side] for each in pair])
    ours, theirs = (torch.stack(each) for each in zip(*pairs, strict=True))
    return ours, theirs


def _window(picture: Tensor, place: tuple[int, int], side: int, whole: int) -> Tensor:
    """The window of pictures [N, 3, S, S] that begins at `place` and has `side`, both in units of S / whole."""
    scale = picture.shape[-1] // whole
    rows, columns = (slice(scale * start, scale * (start + side)) for start in place)
    return picture[..., rows, columns]
