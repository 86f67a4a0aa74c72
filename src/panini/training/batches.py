"""Training batches: sampled and real faces, degraded on the training device.

Random draws depend only on the seed and the step. Nothing synchronizes with a GPU: the draws of the host (faces,
degradations) are copied to it, and nothing is copied back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from panini.degradation import Degradation, draw
from panini.degradation.steps import Contrast, Fade, Tone
from panini.degradation.torch import apply_shared
from panini.models.prior import Prior
from panini.training.config import RestorerConfig
from panini.training.data import FaceBank, enlarged
from panini.training.generate import generate

Made = TypeVar("Made")

COARSE_LATENTS = 4, 18
"""First and last layer at which style mixing may change to the other w, out of the small prior's 23."""


@dataclass(frozen=True)
class Batch:
    """Faces to restore; the first `len(w)` of them are sampled from the prior."""

    truth: Tensor  # [N, 3, S, S] in [-1, 1]
    given: Tensor  # [N, 3, S, S], damaged
    w: Tensor  # [K, latents, latent_dim], w+ of the sampled faces
    features: dict[int, Tensor]  # the prior's features of these, [K, C, r, r] by resolution
    dial: Tensor  # [N] in [-1, 1]: the setting of the dial to train for


class Ahead(Generic[Made]):
    """Makes what each step needs; on a CPU, in another thread during the step before."""

    def __init__(self, make: Callable[[int], Made], device: torch.device) -> None:
        self._make = make
        self._maker = ThreadPoolExecutor(1) if device.type == "cpu" else None
        self._next: tuple[int, Future[Made]] | None = None

    def __call__(self, step: int) -> Made:
        if self._maker is None:
            return self._make(step)
        made, self._next = self._next, None
        result = made[1].result() if made and made[0] == step else self._make(step)
        self._next = step + 1, self._maker.submit(self._make, step + 1)
        return result


class SampledFaces:
    """Samples faces from the prior, with their w+ and features.

    last: highest resolution of the features that are kept. truncation: psi is uniform in this range. mixing: share of
    faces with style mixing.
    """

    def __init__(
        self,
        prior: Prior,
        last: int,
        truncation: tuple[float, float],
        mixing: float,
        bf16: bool = True,
    ) -> None:
        self.prior = prior
        self.bf16 = bf16
        self.last = last
        self.truncation = truncation
        self.mixing = mixing
        with torch.no_grad():
            z = torch.randn(4096, prior.latent_dim, generator=torch.Generator().manual_seed(2))
            w = prior.map(z.to(next(prior.parameters()).device))
        self.mean, self.deviation = w.mean(0), w.std(0)

    @torch.no_grad()
    def latents(self, count: int, chance: torch.Generator) -> Tensor:
        """w+ [count, latents, latent_dim]."""
        prior, device = self.prior, self.mean.device
        low, high = self.truncation
        w = prior.map(torch.randn(2 * count, prior.latent_dim, generator=chance, device=device))
        psi = low + (high - low) * torch.rand(2 * count, 1, generator=chance, device=device)
        one, other = (self.mean + psi * (w - self.mean)).chunk(2)
        first, last = (round(layer * prior.latents / 23) for layer in COARSE_LATENTS)
        change = first + (last - first) * torch.rand(count, generator=chance, device=device)
        mixed = torch.rand(count, generator=chance, device=device) < self.mixing
        change = torch.where(mixed, change, prior.latents)
        layers = torch.arange(prior.latents, device=device)
        return torch.where((layers < change[:, None])[..., None], one[:, None], other[:, None])

    @torch.no_grad()
    def draw(self, count: int, size: int, chance: torch.Generator) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Pictures [count, 3, size, size] in [-1, 1], their w+, and features by resolution up to `last`."""
        w = self.latents(count, chance)
        with torch.autocast(w.device.type, torch.bfloat16, enabled=self.bf16):
            states = self.prior.features(w, self.last)
        ratio = max(1, self.prior.size // size)
        pictures = generate(self.prior, states[self.last], w, self.last, ratio, self.bf16)
        features = {r: state.features for r, state in states.items()}
        return enlarged(pictures.clamp(-1, 1), size), w, features


class Batches:
    """Batches of a restorer's stage, by step."""

    def __init__(
        self,
        config: RestorerConfig,
        latent_shape: tuple[int, int],
        sampled: SampledFaces | None,
        real: FaceBank | None,
        device: torch.device,
    ) -> None:
        self.config = config
        self.sampled = sampled
        self.real = real
        self.device = device
        self.latent_shape = latent_shape  # (latents, latent_dim)
        self.real_count = config.batch if sampled is None else round(config.batch * config.real_share)
        self._chance = torch.Generator(device)

    def resized(self, batch: int) -> Batches:
        """The same with batches of another size."""
        config = replace(self.config, batch=batch)
        return Batches(config, self.latent_shape, self.sampled, self.real, self.device)

    def damages(self, step: int) -> list[Degradation]:
        """The degradations of a step, one for each group of faces."""
        rng = np.random.default_rng((self.config.seed, step, 1))
        return [
            draw(choose(self.config.mixture, rng), rng) for _ in range(math.ceil(self.config.batch / self.config.group))
        ]

    @torch.no_grad()
    def __call__(self, step: int) -> Batch:
        config, device = self.config, self.device
        rng = np.random.default_rng((config.seed, step, 0))
        chance = self._chance.manual_seed(config.seed * 1_000_003 + step)
        count = config.batch - self.real_count
        truths: list[Tensor] = []
        w = torch.empty(0, *self.latent_shape, device=device)
        features: dict[int, Tensor] = {}
        if self.sampled is not None and count:
            pictures, w, features = self.sampled.draw(count, config.size, chance)
            truths.append(pictures)
        if self.real is not None and self.real_count:
            truths.append(varied(self.real.draw(self.real_count, rng), chance))
        truth = torch.cat(truths) if len(truths) > 1 else truths[0]
        damages = self.damages(step)
        given = damaged(truth, damages, config.group, rng, chance)
        truth = toned(truth, damages, config.group)
        dial = torch.zeros(config.batch, device=device)
        if config.dial_share:
            setting = 2 * torch.rand(config.batch, generator=chance, device=device) - 1
            moved = torch.rand(config.batch, generator=chance, device=device) < config.dial_share
            dial = torch.where(moved, setting, dial)
        layout = torch.channels_last if config.hardware.channels_last else torch.contiguous_format
        return Batch(truth.contiguous(memory_format=layout), given.contiguous(memory_format=layout), w, features, dial)


def choose(mixture: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the named distributions, by weight."""
    names = list(mixture)
    weights = np.array([mixture[n] for n in names])
    return names[rng.choice(len(names), p=weights / weights.sum())]


def damaged(
    truth: Tensor, damages: list[Degradation], group: int, rng: np.random.Generator, chance: torch.Generator
) -> Tensor:
    """Degrades faces [N, 3, S, S] in [-1, 1]; each of `damages` applies to `group` faces. Uses OpenCV on a CPU, which
    is twice as fast there."""
    if truth.device.type != "cpu":
        parts = truth.split(group)
        return torch.cat([apply_shared(part, each, chance) for part, each in zip(parts, damages, strict=True)])
    pictures = ((truth + 1) * 127.5).round_().byte().permute(0, 2, 3, 1).contiguous().numpy()
    results = [damages[i // group].apply(face, int(rng.integers(2**31))) for i, face in enumerate(pictures)]
    return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def toned(truth: Tensor, damages: list[Degradation], group: int) -> Tensor:
    """The originals with the color and the contrast of the degraded faces: restoration keeps both, because the colors
    of a gray photo are unknown."""
    parts = []
    for part, damage in zip(truth.split(group), damages, strict=True):
        steps = tuple(step for step in damage.steps if isinstance(step, Tone | Fade | Contrast))
        parts.append(apply_shared(part, Degradation(steps)) if steps else part)
    return torch.cat(parts)


def varied(faces: Tensor, chance: torch.Generator) -> Tensor:
    """Augments faces [N, 3, S, S] in [-1, 1]: mirrors half of them, shifts, rotates and scales all slightly, like the
    error of a detector, and changes their colors and brightness."""
    device, count = faces.device, len(faces)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=chance, device=device)

    angle, scale = math.radians(2.0) * normal(), (0.03 * normal()).exp()
    mirror = torch.where(torch.rand(count, generator=chance, device=device) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = 0.02 * normal(2)
    rows = torch.stack((cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]), 1).view(count, 2, 3)
    places = F.affine_grid(rows, list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, places, mode="bicubic", padding_mode="reflection", align_corners=False)
    gain = (0.06 * normal(3) + 0.08 * normal(1)).exp()[..., None, None]
    offset = 0.04 * normal(1)[..., None, None]
    return ((moved + 1) * gain - 1 + offset).clamp_(-1, 1)
