"""Unsupervised degradation representation learning (paper, UDRL): momentum contrast where the same damage on different
faces is the positive pair, so that the representation keeps the damage and forgets the face."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from panini.nn.dre import DegradationEncoder
from panini.training.data import ContrastiveTiles


class MomentumContrast(nn.Module):
    """Query and key encoders and the queue of negatives (MoCo, arXiv 1911.05722)."""

    queue: Tensor
    position: Tensor

    def __init__(
        self, encoder: DegradationEncoder, queue: int = 8192, momentum: float = 0.999, temperature: float = 0.07
    ) -> None:
        super().__init__()
        self.query = encoder
        self.key = copy.deepcopy(encoder).requires_grad_(False)
        self.momentum = momentum
        self.temperature = temperature
        self.register_buffer("queue", F.normalize(torch.randn(queue, encoder.dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @staticmethod
    def embed(encoder: DegradationEncoder, x: Tensor) -> Tensor:
        """Unit vectors [N, dim] that the loss compares."""
        return F.normalize(encoder.projection(encoder(x)), dim=1)

    def forward(self, x_query: Tensor, x_key: Tensor) -> tuple[Tensor, Tensor]:
        """InfoNCE loss and accuracy of pairs [N, 3, H, W] (row by row the same damage); the keys join the queue."""
        with torch.no_grad():
            for ours, theirs in zip(self.key.parameters(), self.query.parameters(), strict=True):
                ours.lerp_(theirs, 1 - self.momentum)
            for kept, current in zip(self.key.buffers(), self.query.buffers(), strict=True):
                kept.copy_(current)
            # Keys are normalised by running statistics: those of a batch would sign its keys, and the query, which
            # shares the batch, could find its positive by that signature instead of by the damage.
            key = self.embed(self.key.eval(), x_key)
        query = self.embed(self.query, x_query)
        positive = (query * key).sum(1, keepdim=True)
        logits = torch.cat((positive, query @ self.queue.T.clone()), 1) / self.temperature
        loss = F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
        slots = (self.position + torch.arange(len(key), device=key.device)) % len(self.queue)
        self.queue[slots] = key
        self.position.copy_((self.position + len(key)) % len(self.queue))
        return loss, (logits.argmax(1) == 0).float().mean()


def train_udrl(
    encoder: DegradationEncoder,
    samples: ContrastiveTiles,
    steps: int,
    output: Path,
    canvases: int = 8,
    lr: float = 1e-3,
    queue: int = 2048,
    momentum: float = 0.99,
    log_every: int = 20,
    workers: int = 1,
) -> Iterator[dict[str, float]]:
    """Trains `encoder`, yields progress, leaves its state dict in `output`.

    A step sees `canvases` degradations, 8 pairs of tiles of each.
    """
    model = MomentumContrast(encoder, queue, momentum).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    loader = DataLoader(samples, canvases, sampler=range(steps * canvases), num_workers=workers)
    start = time.monotonic()
    for step, tiles in enumerate(loader, 1):
        x_query, x_key = (half.flatten(0, 1) for half in tiles.chunk(2, 1))
        loss, accuracy = model(x_query, x_key)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % log_every == 0 or step == steps:
            torch.save(encoder.state_dict(), output)
            yield {
                "step": step,
                "loss": loss.item(),
                "accuracy": accuracy.item(),
                "seconds": time.monotonic() - start,
            }
