"""Discriminators in training: their updates, the losses that they give the generator, and the balance between the
two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from panini.training.config import Optimizer
from panini.training.distances import r1, seem_real, tell_apart
from panini.training.optim import Descent

R1_EVERY = 16
"""Steps between gradient penalties, and their factor (StyleGAN2's lazy regularization)."""
CHANCE, CERTAINTY = 0.55, 0.95
"""Range of useful discriminator accuracies."""
SELDOMEST = 8


@dataclass
class Balance:
    """Adjusts a discriminator whose accuracy leaves the useful range; checks it every 20 steps.

    Above `CERTAINTY`, the discriminator is updated half as often, down to every eighth step. Below `CHANCE`, it is
    updated twice as often. If it is already updated as often as allowed, the generator ignores its loss until its
    accuracy is better than chance.
    """

    every: int = 1
    heard: bool = True
    least: int = 1
    """Minimum number of steps between updates."""

    def read(self, accuracy: float) -> None:
        """accuracy: fraction of the logits of real and fake samples that have the correct sign."""
        if accuracy > CERTAINTY:
            self.every, self.heard = min(2 * self.every, max(SELDOMEST, self.least)), True
        elif accuracy < CHANCE:
            self.heard = self.every > self.least
            self.every = max(self.least, self.every // 2)
        else:
            self.heard = True


class Adversary:
    """One discriminator with its optimizer and its balance. name: used for its columns in the log."""

    def __init__(
        self, name: str, module: nn.Module, config: Optimizer, weight: float, r1_weight: float = 0.0, every: int = 1
    ) -> None:
        self.name = name
        self.module = module
        self.weight = weight
        self.r1_weight = r1_weight
        self.balance = Balance(every, least=every)
        self.descent = Descent(config, [(1.0, list(module.parameters()))])
        self._right = torch.zeros((), device=self.descent.skipped.device)
        self._read = 0

    def penalty(self, fake: Tensor) -> Tensor:
        """The weighted loss of the generator for each sample, [N]. The discriminator gets no gradient."""
        self.module.requires_grad_(False)
        logits = self.module(fake)
        self.module.requires_grad_(True)
        return self.weight * self.balance.heard * seem_real(logits)

    def learn(self, real: Tensor, fake: Tensor, step: int, progress: float) -> Tensor | None:
        """Updates the discriminator with samples without gradients. Returns its loss, or None if this step has no
        update."""
        if step % self.balance.every:
            return None
        with parametrize.cached():  # one spectral normalization for both
            real_logits, fake_logits = self.module(real), self.module(fake)
        loss = tell_apart(real_logits, fake_logits)
        with torch.no_grad():
            right = ((real_logits > 0).float().mean() + (fake_logits < 0).float().mean()) / 2
        self._right += right
        self._read += 1
        total = loss
        if self.r1_weight and step // self.balance.every % R1_EVERY == 0:
            total = loss + self.r1_weight / 2 * R1_EVERY * r1(self.module, real)
        self.descent.step(total, step, progress)
        return loss.detach()

    def take_accuracy(self) -> Tensor | None:
        """Mean accuracy since the last call, on the device; None if there was no update."""
        if not self._read:
            return None
        mean = self._right / self._read
        self._right, self._read = torch.zeros_like(self._right), 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "optimizer": self.descent.state_dict(),
            "balance": vars(self.balance).copy(),
        }

    def load_state_dict(self, state: dict[str, Any], optimizer: bool = True) -> None:
        """optimizer: also restores the optimizer and the balance, which a new stage does not."""
        self.module.load_state_dict(state["module"])
        if optimizer:
            self.descent.load_state_dict(state["optimizer"])
            self.balance = Balance(**state["balance"])
