"""What the restorer is trained on, beside the distances of `evaluation`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.calibration import DIAL_REACH, moved
from panini.evaluation.stlpips import STLPIPS
from panini.nn.panini_net import Encoding, PaniniNet
from panini.nn.prior import MobilePrior
from panini.nn.prior.mobile import inverse_haar
from panini.training.loop import gathered


def haar(x: Tensor) -> Tensor:
    """One level of the Haar transform, [N, C, 2H, 2W] -> [N, 4C, H, W]: low, then details, as in `inverse_haar`."""
    a, b, c, d = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 4)).unbind(2)
    details = torch.stack((a + b - c - d, a - b + c - d, a - b - c + d), 2)
    return torch.cat((a + b + c + d, details.flatten(1, 2)), 1) / 2


class PreviewHead(nn.Module):
    """A 256x256 picture from the prior's 128x128 features: a linear map, fitted once, so that whole faces can be
    compared without the prior's expensive last blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(channels, 12, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, 128, 128] -> [N, 3, 256, 256], about [-1, 1]."""
        coefficients = self.linear(features)
        return inverse_haar(coefficients[:, :3], coefficients[:, 3:])

    @classmethod
    @torch.no_grad()
    def fit(cls, prior: MobilePrior, faces: int = 12, seed: int = 0) -> PreviewHead:
        """Least squares over `faces` samples of the prior."""
        channels = prior.channels[128]
        normal, right = torch.zeros(channels + 1, channels + 1), torch.zeros(channels + 1, 12)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(faces):
            w = prior.sample(1, generator, psi=0.7)
            states = prior.features(w)
            picture = F.avg_pool2d(prior.finish(states[512], w), 4)
            x = states[128].features[0].flatten(1).T
            x = torch.cat((x, torch.ones(len(x), 1)), 1)
            normal += x.T @ x
            right += x.T @ haar(picture)[0].flatten(1).T
        solution = torch.linalg.solve(normal + 1e-3 * normal.diagonal().mean() * torch.eye(channels + 1), right)
        head = cls(channels).requires_grad_(False)
        head.linear.weight.copy_(solution[:-1].T[:, :, None, None])
        assert head.linear.bias is not None
        head.linear.bias.copy_(solution[-1])
        return head


def distillation(network: PaniniNet, encoding: Encoding, w: Tensor, known: Tensor, last: int = 64) -> Tensor:
    """For faces sampled from the prior: how far the encoder is from the features they were made of, at DAFI's
    resolutions up to `last`, relative to the spread of the true ones.

    w: [N, latent_dim]; known: [N], 1 where w holds. Summed over the known and divided by N, so that a batch is the mean
    of its samples.
    """
    rows = known.nonzero()[:, 0]
    if len(rows) == 0:
        return encoding.w.sum() * 0
    w_plus = w[rows, None].expand(-1, network.prior.latents, -1)
    with torch.no_grad():
        truth = network.prior.features(w_plus, last)
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


def seem_real(logits: Tensor) -> Tensor:
    """What the generator minimises, for each sample [N]: the non-saturating ("vanilla") loss of StyleGAN2 and paper."""
    return F.softplus(-logits)


def tell_apart(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises; `fake` is detached."""
    return F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()


def r1(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406): the squared length of the discriminator's gradient at real pictures."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@dataclass(frozen=True)
class Weights:
    """Of the terms of `RestorationObjective`; a term of weight 0 is not computed where that saves anything."""

    l1: float = 2.0
    l1_generated: float = 0.5  # the same before the picture's own bands are put back
    perceptual: float = 1.0
    adversarial: float = 0.0
    feature: float = 0.3
    latent: float = 0.3
    lattice: float = 10.0  # where a window is trained on: what the result repeats in step with the last features
    r1: float = 0.0  # of the discriminator, as in StyleGAN2 (half of it times the squared gradient, every 16th step)


class RestorationObjective(nn.Module):
    """The restorer's losses on one batch.

    perceptual: distance of two pictures, each sample's. window: side, in pixels of the last fused features, of what
    goes through the prior's last blocks at full resolution; the whole face is compared at 256, in a preview
    (`PreviewHead`) that is a linear map of the fused features. 0: everything goes through, as in the paper.
    discriminator and memory are taken as they are; they are no part of this module. direction: [dr_dim], the dial's;
    a sample's v_DR is moved along it as far as its dial says, and its perceptual terms count `DIAL_WEIGHT` to the power
    of its dial times: so v_DR learns to lead from faithful to realistic (loss-conditional training, "You Only Train
    Once", ICLR 2020). bare_every: with a window, of so many steps one has hardly anything of the picture itself in its
    result; 0: none.
    """

    DIAL_WEIGHT = 4.0

    def __init__(
        self,
        network: PaniniNet,
        perceptual: nn.Module,
        weights: Weights,
        window: int = 0,
        preview: PreviewHead | None = None,
        discriminator: nn.Module | None = None,
        memory: LatentMemory | None = None,
        direction: Tensor | None = None,
        seed: int = 0,
        bare_every: int = 2,
    ) -> None:
        super().__init__()
        self.network = network
        self.direction = direction
        self.bare_every = bare_every
        self.weights = weights
        self.window = window
        self.preview = preview
        self.seed = seed
        self._others = (perceptual, discriminator, memory)  # a tuple: not this module's to train or keep
        self.shown: tuple[Tensor, Tensor] | None = None  # the last (restored, true) that the discriminator may judge

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """batch as `RestorationSamples` gives it, damaged. Returns weighted terms; their sum is what is minimised."""
        given, truth = (batch[k].contiguous(memory_format=torch.channels_last) for k in ("given", "truth"))
        if self.network.input_size < given.shape[-1]:  # the paper's SR starts from a small picture
            given = F.interpolate(truth, self.network.input_size, mode="bicubic", antialias=True).clamp(-1, 1)
        v = None
        if self.direction is not None:
            v = moved(self.network.dre(given), self.direction, DIAL_REACH * batch["dial"][:, None])
        encoding = self.network.encode(given, v)
        compare = self._by_window if self.window else self._whole
        terms = compare(encoding, truth, step)
        weights = self.weights
        for name in ("perceptual", "adversarial"):
            if name in terms:
                terms[name] = (terms[name] * self.DIAL_WEIGHT ** batch["dial"]).mean()
        if weights.feature:
            terms["feature"] = weights.feature * distillation(self.network, encoding, batch["w"], batch["known"])
        if (memory := self._others[2]) is not None:
            memory.remember(encoding.image[4], batch["w"], batch["known"])
            terms["latent"] = weights.latent * memory(self.network.lce, step)
        return terms

    def _whole(self, encoding: Encoding, truth: Tensor, step: int) -> dict[str, Tensor]:
        network, weights = self.network, self.weights
        generated = network.generate(network.fused(encoding), encoding.w)
        result = generated
        if network.picture is not None:
            result = network.picture(encoding.picture, generated, network.picture.weights(encoding.v))
        ours, bare = (F.avg_pool2d(x.float(), x.shape[-1] // truth.shape[-1]) for x in (result, generated))
        terms = {"l1": weights.l1 * F.l1_loss(ours, truth)}
        if weights.l1_generated:
            terms["l1_generated"] = weights.l1_generated * F.l1_loss(bare, truth)
        return terms | self._judged(ours, truth, ours, truth)

    def _by_window(self, encoding: Encoding, truth: Tensor, step: int) -> dict[str, Tensor]:
        network, weights, picture, side = self.network, self.weights, self.network.picture, self.window
        assert picture is not None
        assert self.preview is not None
        state, seen = network.fused(encoding), encoding.picture
        bands = picture.weights(encoding.v)
        if self.bare_every and step % self.bare_every == self.bare_every - 1:
            # The picture gives only what is coarser than 1/64 of the face. Otherwise the easy way, taking every band
            # from it, is found first, and the rest of the network is never asked for detail.
            coarse = (torch.arange(picture.bands, device=bands.device) >= picture.bands - 3).to(bands)
            bands = coarse + 0 * bands  # several processes want a gradient of everything at every step
        # The whole face at 256: what is where, and its colours.
        generated = self.preview(state.features).float()
        truth256 = F.avg_pool2d(truth, truth.shape[-1] // 256)
        whole = picture(F.avg_pool2d(seen, seen.shape[-1] // 256), generated, bands[:, 1:])
        terms = {
            "l1": weights.l1 * F.l1_loss(whole, truth256),
            "l1_generated": weights.l1_generated * F.l1_loss(generated, truth256),
        }
        # A window at the full resolution: texture. Truth has half of it, so that is where they are compared.
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)  # the same on every process
        row, column = torch.randint(0, state.features.shape[-1] - side + 1, (2,), generator=chance).tolist()
        rows, columns = (slice(4 * start, 4 * (start + side)) for start in (row, column))
        window = network.generate(state.crop(row, column, side), encoding.w).float()
        full = picture(seen[..., rows, columns], window, bands)
        ours, theirs = F.avg_pool2d(full, 2), truth[..., rows, columns]
        terms["l1_window"] = weights.l1 * F.l1_loss(ours, theirs)
        if weights.lattice:
            finest = full - F.interpolate(ours, scale_factor=2.0)  # of this octave there is no truth
            terms["lattice"] = weights.lattice * (lattice(ours - theirs, 4) + lattice(finest, 8))
        judged = ours, theirs
        if step % 4 < 2:  # in turns with that, the perceptual network looks at a part of the whole face instead
            row, column = torch.randint(0, 256 - 4 * side + 1, (2,), generator=chance).tolist()
            rows, columns = (slice(start, start + 4 * side) for start in (row, column))
            ours, theirs = whole[..., rows, columns], truth256[..., rows, columns]
        return terms | self._judged(ours, theirs, *judged)

    def _judged(self, ours: Tensor, theirs: Tensor, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The terms that the dial weighs, for each sample [N]."""
        perceptual, discriminator, _ = self._others
        terms = {}
        if self.weights.perceptual:
            terms["perceptual"] = self.weights.perceptual * perceptual(ours, theirs).float()  # type: ignore[misc]
        if discriminator is not None:
            terms["adversarial"] = self.weights.adversarial * seem_real(discriminator(fake).float())
            self.shown = fake.detach(), real
        return terms
