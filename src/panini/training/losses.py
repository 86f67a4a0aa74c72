"""What the restorer is trained on, beside the distances of `evaluation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.evaluation.stlpips import STLPIPS
from panini.models.discriminator import FeatureDiscriminator
from panini.models.dre import FixedDegradation
from panini.models.panini_net import Encoding, PaniniNet
from panini.models.prior import Prior
from panini.training.loop import gathered
from panini.weights.calibration import DIAL_REACH, shift_v


def distillation(
    network: PaniniNet, prior: Prior, encoding: Encoding, w: Tensor, known: Tensor, last: int = 64
) -> Tensor:
    """For faces sampled from `prior`: how far the encoder is from the features they were made of, at DAFI's
    resolutions up to `last`, relative to the spread of the true ones.

    prior: as it was before `network` took it; w: [N, latent_dim]; known: [N], 1 where w holds. Summed over the known
    and divided by N, so that a batch is the mean of its samples.
    """
    rows = known.nonzero()[:, 0]
    if len(rows) == 0:
        return encoding.w.sum() * 0
    w_plus = w[rows, None].expand(-1, prior.latents, -1)
    with torch.no_grad():
        truth = prior.features(w_plus, last)
    distances = []
    for resolution in network.dafi.resolutions:
        if resolution <= last:
            ours = network.dafi.convs[str(resolution)](encoding.image[resolution][rows])
            theirs = truth[resolution].features
            distances.append(((ours - theirs).abs().mean((1, 2, 3)) / theirs.std((1, 2, 3))).sum() / len(known))
    return torch.stack(distances).mean()


class LatentMemory(nn.Module):
    """What teaches the latent code encoder w: the coarsest features of the last `size` faces whose w is known.

    A step has one or two such faces; from these alone, between the gradients of the picture, the encoder learned the
    mean face and nothing else. Here every step asks it for `batch` mixtures of remembered faces (mixup, arXiv
    1710.09412) under noise of `noise` standard deviations, so that a few hundred faces are not learned by heart. The
    features are as they were when they were seen: they change slowly, and only the encoder learns from them.
    """

    features: Tensor
    w: Tensor
    seen: Tensor

    def __init__(
        self, c_in: int, latent_dim: int, size: int = 2048, batch: int = 128, noise: float = 2.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch = batch
        self.noise = noise
        self.seed = seed
        self.register_buffer("features", torch.zeros(size, c_in, 4, 4, dtype=torch.float16))
        self.register_buffer("w", torch.zeros(size, latent_dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def remember(self, features: Tensor, w: Tensor, known: Tensor) -> None:
        """features: [N, c_in, 4, 4]; w: [N, latent_dim]; known: [N], 1 where w holds. Takes those of all processes."""
        features, w, known = gathered(features.detach().half()), gathered(w), gathered(known)
        rows = known.nonzero()[:, 0]
        places = (self.seen + torch.arange(len(rows), device=w.device)) % len(self.w)
        self.features[places], self.w[places] = features[rows], w[rows]
        self.seen += len(rows)

    def forward(self, lce: nn.Module, step: int) -> Tensor:
        """The share of the variance of w that `lce` leaves unexplained, a scalar: 1 for the mean face. 0 as long as few
        faces are remembered. What is mixed depends on the step alone: the same on every process."""
        count = min(int(self.seen), len(self.w))
        if count < self.batch // 4:
            return self.w.new_zeros(())
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        (one, other) = torch.randint(0, count, (2, self.batch), generator=chance).to(self.w.device)
        share = torch.rand(self.batch, 1, generator=chance).to(self.w)
        noise = torch.randn(self.batch, *self.features.shape[1:], generator=chance).to(self.w)
        first, second, mixing = self.features[one].float(), self.features[other].float(), share[..., None, None]
        features = second + mixing * (first - second) + self.noise * first.std(0) * noise
        w = self.w[other] + share * (self.w[one] - self.w[other])
        left = (lce(features).float() - w[:, None]).square().mean()
        return left / self.w[:count].var(0).mean()


def lattice(picture: Tensor, period: int, cells: int = 4) -> Tensor:
    """How much of a picture [N, C, H, W] repeats from one cell of `period` x `period` pixels to the next: the mean
    magnitude of what `cells` x `cells` neighbours have in common, beyond their mean colour.

    Detail averages out; what does not is a lattice: a prior whose fused features are unlike its own draws one, cell by
    cell of the last features. ST-LPIPS hardly minds it, people do.
    """
    phases = F.pixel_unshuffle(picture, period).unflatten(1, (-1, period**2))
    phases = phases - phases.mean(2, keepdim=True)
    return F.avg_pool2d(phases.flatten(1, 2), cells).abs().mean()


class VGGDistance(nn.Module):
    """The paper's perceptual distance: mean square difference of VGG16's features[21] (the third convolution of its
    fourth stage, before its activation), [N, 3, H, W] in [-1, 1] twice -> [N].

    torchvision's weights and max pooling if torchvision is there; else those of ST-LPIPS, whose VGG16 differs from it
    in that its pooling is blurred.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vgg = STLPIPS()
        self.torchvision: nn.Module | None = None
        try:
            from torchvision.models import VGG16_Weights, vgg16  # the user's own; never ours to require

            self.torchvision = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features[:22]
        except (ImportError, OSError):  # not installed, or its weights cannot be had offline
            pass
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self._features(a) - self._features(b)).square().mean((1, 2, 3))

    def _features(self, x: Tensor) -> Tensor:
        if self.torchvision is None:
            return self.vgg.before_activation(x, 3, 4)
        mean, deviation = (x.new_tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        features: Tensor = self.torchvision(((x + 1) / 2 - mean) / deviation)
        return features


Seen = Tensor | list[Tensor]
"""What a discriminator sees: a picture, or its features."""


def seem_real(logits: Tensor) -> Tensor:
    """What the generator minimises, for each sample [N] of logits [N, ...]: the non-saturating ("vanilla") loss of
    StyleGAN2 and paper."""
    return F.softplus(-logits).reshape(len(logits), -1).mean(1)


def tell_apart(discriminator: nn.Module, real: Seen, fake: Seen) -> Tensor:
    """What the discriminator minimises; `fake` comes detached, so that nothing behind it learns from this."""
    return F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()


def r1(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406): the squared length of the discriminator's gradient at real pictures."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@dataclass(frozen=True)
class Weights:
    """Of the terms of `RestorationObjective`; a term of weight 0 is not computed where that saves anything."""

    l1: float = 4.0
    l1_generated: float = 0.5  # at half the size, before the picture's own bands are put back
    perceptual: float = 1.0
    adversarial: float = 0.0
    feature: float = 0.3
    latent: float = 0.3
    lattice: float = 10.0  # where a window is trained on: what the result repeats in step with the last features
    equivariance: float = 0.0  # what changes in the result if the picture is moved or mirrored, and so is not of it
    r1: float = 0.0  # of the discriminator, as in StyleGAN2 (half of it times the squared gradient, every 16th step)


JUDGED = slice(1, 4)
"""The stages of the perceptual network that a `FeatureDiscriminator` judges: at a half, a quarter and an eighth."""
LEAST_WINDOW = 16
"""Of less, the last stages of the perceptual network would have nothing; in an ensemble, `MARGINS` more."""
_FARTHEST = 7
"""Pixels of the picture by which it is moved for `Weights.equivariance`: no two of the network's grids coincide again
before 8 of them."""
_MARGIN = _FARTHEST + 1
"""What the two have not in common, in pixels of the picture."""
MARGINS = _MARGIN // 2
"""Both of them, in pixels of the last fused features."""
_GRID = 8
"""Windows begin at multiples of so many pixels of the last fused features: `PictureDAFI` halves pictures five times,
and splits a window as it splits the whole picture only if their pixels fall together."""


@dataclass(frozen=True)
class Helpers:
    """What `RestorationObjective` asks, and neither trains nor keeps."""

    perceptual: nn.Module  # distance of two pictures, each sample's
    teacher: Prior  # the prior that faces with known w were sampled from
    discriminator: nn.Module | None = None
    memory: LatentMemory | None = None
    direction: Tensor | None = None  # the dial's, [dr_dim]


def _inner(picture: Tensor, margin: int, down: int = 0, right: int = 0) -> Tensor:
    """Without its margins; of what is left, moved by so much."""
    height, width = picture.shape[-2:]
    return picture[..., margin + down : height - margin + down, margin + right : width - margin + right]


class RestorationObjective(nn.Module):
    """The restorer's losses on one batch.

    window: side, in pixels of the last fused features, of what goes through the prior's last blocks and is compared; 0:
    everything, as in the paper. bare_every: with a window, of so many steps one has hardly anything of the picture
    itself in its result; 0: none. alone: so many steps the discriminator learns by itself, before anything heeds it.
    ensemble: where the damage adds to the picture, not the result is compared with the truth but its mean with that of
    the picture mirrored and moved, which gives no gradient: what is judged is what a self-ensemble
    (`panini.inference.ensemble`) will show.

    With a direction of the dial, a sample's v_DR is moved along it as far as its dial says, and the terms that judge
    its looks count `DIAL_WEIGHT` to the power of its dial, times its own `realism`, times: so v_DR learns to lead from
    faithful to realistic (loss-conditional training, "You Only Train Once", ICLR 2020).
    """

    DIAL_WEIGHT = 4.0

    def __init__(
        self,
        network: PaniniNet,
        helpers: Helpers,
        weights: Weights,
        window: int = 0,
        bare_every: int = 2,
        alone: int = 0,
        seed: int = 0,
        ensemble: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.helpers = helpers
        self.weights = weights
        self.window = window
        self.bare_every = bare_every
        self.alone = alone
        self.seed = seed
        self.ensemble = ensemble
        self.shown: tuple[Seen, Seen] | None = None  # the last (restored, true) that the discriminator may judge

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """batch as `RestorationSamples` gives it, damaged. Returns weighted terms; their sum is what is minimised."""
        network, helpers, weights = self.network, self.helpers, self.weights
        given, truth = (batch[k].contiguous(memory_format=torch.channels_last) for k in ("given", "truth"))
        if network.input_size < given.shape[-1]:
            # Where there is one damage only, to be made small is it: the paper's SR.
            large = truth if isinstance(network.dre, FixedDegradation) else given
            given = F.interpolate(large, network.input_size, mode="bicubic", antialias=True).clamp(-1, 1)
        own = network.dre(given)
        encoding = network.encode(given, self.edited(own, batch["dial"]), own)
        terms = self._compared(given, encoding, own, truth, 0.5 * batch["adds"] if self.ensemble else None, step)
        for name in ("perceptual", "adversarial"):
            if name in terms:
                terms[name] = (terms[name] * self.realism(batch)).mean()
        if weights.feature:
            distance = distillation(network, helpers.teacher, encoding, batch["w"], batch["known"])
            terms["feature"] = weights.feature * distance
        if (memory := helpers.memory) is not None:
            memory.remember(encoding.image[4], batch["w"], batch["known"])
            terms["latent"] = weights.latent * memory(network.lce, step)
        return terms

    def realism(self, batch: Mapping[str, Tensor]) -> Tensor:
        """How many times the terms that judge the looks of each sample count, [N]."""
        return self.DIAL_WEIGHT ** batch["dial"] * batch["realism"]

    def edited(self, v: Tensor, dial: Tensor) -> Tensor:
        """v_DR [N, dr_dim] at settings of the dial [N]."""
        direction = self.helpers.direction
        return v if direction is None else shift_v(v, direction, DIAL_REACH * dial[:, None])

    def _compared(
        self, given: Tensor, encoding: Encoding, own: Tensor, truth: Tensor, mixed: Tensor | None, step: int
    ) -> dict[str, Tensor]:
        """The result, or a window of it, beside the true face. mixed: [N], how much of it another look gives."""
        weights, picture = self.weights, self.network.picture
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)  # the same on every process
        place, margin = (0, 0), _MARGIN * (truth.shape[-1] // given.shape[-1])
        if self.window:
            places = (self._size - self.window) // _GRID + 1
            row, column = torch.randint(0, places, (2,), generator=chance).tolist()
            place = (_GRID * row, _GRID * column)
            truth = self._windowed(truth, place)
        bands = None if picture is None else picture.weights(encoding.v)
        if bands is not None and self.window and self.bare_every and step % self.bare_every == self.bare_every - 1:
            # The picture gives only what is coarser than 1/64 of the face. Otherwise the easy way, taking every
            # band from it, is found first, and the rest of the network is never asked for detail.
            coarse = (torch.arange(bands.shape[1], device=bands.device) >= bands.shape[1] - 3).to(bands)
            bands = coarse + 0 * bands  # several processes want a gradient of everything at every step
        full, generated = self._made(encoding, bands, place)
        times = full.shape[-1] // truth.shape[-1]
        ours, half = F.avg_pool2d(full, times), F.avg_pool2d(truth, 2)
        terms = {}
        if weights.l1_generated:
            terms["l1_generated"] = weights.l1_generated * F.l1_loss(F.avg_pool2d(generated, 2 * times), half)
        if self.window and weights.lattice:
            finest = full - F.interpolate(ours, scale_factor=float(times))  # of this octave there is no truth
            terms["lattice"] = weights.lattice * (lattice(ours - truth, 4) + lattice(finest, 8))
        if weights.equivariance or mixed is not None:
            here, there = self._moved(given, encoding.v, own, bands, full, place, chance)
            if weights.equivariance:
                terms["equivariance"] = weights.equivariance * F.l1_loss(here, there)
            if mixed is not None:
                both = here + mixed[:, None, None, None] * (there - here)
                ours, truth = F.avg_pool2d(both, times), _inner(truth, margin)
                half = F.avg_pool2d(truth, 2)
        terms["l1"] = weights.l1 * F.l1_loss(ours, truth)
        if not self.window:
            return terms | self._judged(ours, truth, step)
        if step % 4 < 2:  # the perceptual network is dear: it sees all of a window at half its size, or a quarter of it
            return terms | self._judged(F.avg_pool2d(ours, 2), half, step)
        side = half.shape[-1]
        row, column = torch.randint(0, side + 1, (2,), generator=chance).tolist()
        rows, columns = slice(row, row + side), slice(column, column + side)
        return terms | self._judged(ours[..., rows, columns], truth[..., rows, columns], step)

    def _made(self, encoding: Encoding, bands: Tensor | None, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The result, or the window of it at `place`, and what of that the prior made before the picture's bands."""
        network = self.network
        state, given = network.fused(encoding), encoding.picture
        if self.window:
            state, given = state.crop(*place, self.window), self._windowed(given, place)
        full = generated = network.generate(state, encoding.w).float()
        if network.picture is not None:
            full = network.picture(given, generated, bands)
        return full, generated

    @property
    def _size(self) -> int:
        """Of the last fused features, in whose pixels windows are counted."""
        return self.network.dafi.resolutions[-1]

    def _windowed(self, picture: Tensor, place: tuple[int, int]) -> Tensor:
        """The window at `place` of a whole picture [N, 3, S, S]."""
        scale = picture.shape[-1] // self._size
        rows, columns = (slice(scale * start, scale * (start + self.window)) for start in place)
        return picture[..., rows, columns]

    def _moved(
        self,
        given: Tensor,
        v: Tensor,
        own: Tensor,
        bands: Tensor | None,
        full: Tensor,
        place: tuple[int, int],
        chance: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """`full`, the result at `place`, without its margin, and the same part of what is made of the picture moved by
        a few pixels, half the time mirrored (always for an ensemble): that is a target, and gives no gradient.

        What changes between them does not come from the picture but from where it lies on the network's grids: serrated
        contours, embossed skin. ST-LPIPS hardly minds these either, and even takes them for texture; to learn the mean
        over all places is to lose them.
        """
        down, right = torch.randint(-_FARTHEST, _FARTHEST + 1, (2,), generator=chance).tolist()
        mirrored = bool(torch.randint(0, 2, (), generator=chance)) or self.ensemble
        side, margin = given.shape[-1], _MARGIN
        twin = F.pad(given, (margin,) * 4, mode="reflect")
        twin = twin[..., margin - down : margin - down + side, margin - right : margin - right + side]
        row, column = place
        if mirrored:
            twin = twin.flip(-1)
            column = self._size - self.window - column if self.window else 0
        with torch.no_grad():
            theirs, _ = self._made(
                self.network.encode(twin.contiguous(memory_format=torch.channels_last), v, own), bands, (row, column)
            )
        theirs = theirs.flip(-1) if mirrored else theirs
        ratio = self.network.prior.size // side
        return _inner(full, ratio * margin), _inner(theirs, ratio * margin, ratio * down, ratio * right)

    def _judged(self, ours: Tensor, theirs: Tensor, step: int) -> dict[str, Tensor]:
        """The terms that the dial weighs, for each sample [N]."""
        perceptual, discriminator, weights = self.helpers.perceptual, self.helpers.discriminator, self.weights
        terms: dict[str, Tensor] = {}
        fake: Seen = ours
        real: Seen = theirs
        if isinstance(discriminator, FeatureDiscriminator):
            assert isinstance(perceptual, STLPIPS)
            own, true = perceptual.features(ours), perceptual.features(theirs)
            distance = perceptual.distance(own, true)
            fake, real = own[JUDGED], true[JUDGED]
        elif weights.perceptual:
            distance = perceptual(ours, theirs)
        if weights.perceptual:
            terms["perceptual"] = weights.perceptual * distance.float()
        if discriminator is not None:
            heeded = weights.adversarial * (step >= self.alone)
            terms["adversarial"] = heeded * seem_real(discriminator(fake).float())
            self.shown = (fake.detach() if isinstance(fake, Tensor) else [x.detach() for x in fake]), real
        return terms
