"""Muon: momentum whose steps change every direction of a weight matrix alike (Keller Jordan, 2024,
https://kellerjordan.github.io/posts/muon/)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""x -> a x + b x³ + c x⁵, which five times over takes singular values of 0.001 … 1 to about 1 (0.7 … 1.2)."""
SMALLEST = 16
"""Rows and columns a matrix has at least; what is smaller has no directions to speak of."""


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix [m, n] with all its singular values made about 1, by Newton-Schulz iterations in bfloat16."""
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for the weights of convolutions, each seen as a matrix [c_out, c_in * k * k]; AdamW for all else.

    A step's root mean square is 0.2 of the learning rate, which is about AdamW's (arXiv 2502.16982): one learning rate
    serves both. PyTorch's own Muon takes nothing but matrices.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float = 0.95,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "momentum": momentum, "eps": eps}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    rule = self._muon if _is_matrix(weight) else self._adam
                    rule(weight, weight.grad, group)
        return loss

    def _muon(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(momentum).add_(gradient)
        step = orthogonalised((gradient + momentum * state["momentum"]).flatten(1))  # Nesterov's
        weight.add_(step.view(weight.shape), alpha=-0.2 * max(step.shape) ** 0.5 * group["lr"])

    def _adam(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[weight], group["betas"]
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        count = state["step"].item()
        scale = (state["square"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
        weight.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1**count))


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim == 4 and min(len(weight), weight[0].numel()) >= SMALLEST
