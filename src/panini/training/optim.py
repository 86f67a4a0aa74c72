"""Optimizers that do not synchronize with the GPU (fused steps; clipping and skipping on the device); moving
averages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from panini.training.config import Optimizer

_AVERAGE_EVERY = 4


def make_optimizer(config: Optimizer, groups: Iterable[tuple[float, Sequence[nn.Parameter]]]) -> torch.optim.Optimizer:
    """groups: (factor of the learning rate, parameters)."""
    rows: list[dict[str, Any]] = [{"params": list(parameters), "scale": scale} for scale, parameters in groups]
    if config.name == "sgd":
        return torch.optim.SGD(rows, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
    betas = (config.momentum, config.beta2)
    return kind(rows, config.lr, betas, weight_decay=config.weight_decay, fused=True)


def learning_rate(config: Optimizer, step: int, progress: float) -> float:
    """The learning rate at `step`, after the fraction `progress` (0 to 1) of the run."""
    progress = min(progress, 1.0)
    if config.schedule == "cosine":
        factor = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "steps":
        factor = 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    else:
        factor = 1.0
    return config.lr * min(1.0, (step + 1) / max(config.warmup, 1)) * factor


class Descent:
    """Runs one optimizer. A step with a non-finite gradient changes nothing; `skipped` counts these steps.

    skipped: a scalar on the device of the parameters. norm: the norm of the last gradient, before clipping.
    """

    def __init__(self, config: Optimizer, groups: Iterable[tuple[float, Sequence[nn.Parameter]]]) -> None:
        self.config = config
        self.optimizer = make_optimizer(config, groups)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.skipped = torch.zeros((), device=self.parameters[0].device)
        self.norm = torch.zeros((), device=self.parameters[0].device)

    def step(self, loss: Tensor, step: int, progress: float, factor: float = 1.0) -> None:
        """Backpropagates `loss` and does one step. factor: multiplies the learning rate."""
        loss.backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        wrong = (~norm.isfinite()).float()
        rate = factor * learning_rate(self.config, step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        # The fused kernels divide the gradient by `grad_scale` and skip the step if `found_inf` is 1.
        clipped = (norm / self.config.clip).clamp_min(1.0) if self.config.clip else torch.ones_like(norm)
        self.optimizer.grad_scale = clipped.nan_to_num(1.0, 1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = wrong  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.skipped += wrong
        self.norm = norm

    def forget(self) -> None:
        """Resets the moments."""
        self.optimizer.state.clear()

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


class MovingAverage:
    """Updates `average`: an exponential moving average of the trainable parameters of `network`, and a copy of its
    buffers.

    decay: per step. The average is updated at every fourth step only, which divides the memory traffic by 4.
    """

    def __init__(self, average: nn.Module, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._average = average
        self._network = network
        learning = [name for name, p in network.named_parameters() if p.requires_grad]
        theirs, ours = dict(network.named_parameters()), dict(average.named_parameters())
        self._ours: list[Tensor] = [ours[name] for name in learning]
        self._theirs: list[Tensor] = [theirs[name] for name in learning]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Updates the average; to be called after `step` (from 0)."""
        if step % _AVERAGE_EVERY == 0:
            decay = min(self.decay, (1 + step) / (10 + step)) ** _AVERAGE_EVERY
            torch._foreach_lerp_(self._ours, self._theirs, 1 - decay)

    @torch.no_grad()
    def finish(self) -> None:
        """Copies the current buffers, such as those of batch norm; to be called before the average is used."""
        for ours, theirs in zip(self._average.buffers(), self._network.buffers(), strict=True):
            ours.copy_(theirs)


def channels_last(module: nn.Module, wanted: bool = True) -> None:
    """Sets the memory layout in place. Channels-last convolutions are faster with AVX-512 and with tensor cores."""
    layout = torch.channels_last if wanted else torch.contiguous_format
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
