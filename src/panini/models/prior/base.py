"""The interface of GAN priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn


@dataclass(frozen=True)
class PriorState:
    """The state between two blocks of a prior.

    `origin` is the (row, column) of `features[..., 0, 0]` in the whole feature map: training may continue with a window
    of it only (`crop`), and the noise of the next block must come from the same place.
    """

    features: Tensor  # [N, C, H, W]
    image: Tensor | None = None  # [N, 3, H, W], the skip image of a prior that has one
    origin: tuple[int, int] = (0, 0)

    def with_features(self, features: Tensor) -> PriorState:
        """The same state with other features of the same shape."""
        return replace(self, features=features)

    def crop(self, row: int, column: int, size: int) -> PriorState:
        """The square window of side `size` (in feature pixels) whose first pixel is (row, column)."""
        rows, columns = slice(row, row + size), slice(column, column + size)
        return PriorState(
            features=self.features[..., rows, columns],
            image=None if self.image is None else self.image[..., rows, columns],
            origin=(self.origin[0] + row, self.origin[1] + column),
        )


class Prior(nn.Module, ABC):
    """A generator that runs block by block, so that features can be replaced between blocks (the paper's GPM).

    A block is named by the resolution of its output features: 4, 8, … Each block uses its own vectors of w+.
    """

    size: int  # side of the picture, pixels
    channels: dict[int, int]  # channels of the features by the block's resolution, from 4 upward
    latents: int  # vectors of w+
    latent_dim: int  # length of each

    @abstractmethod
    def start(self, w: Tensor) -> PriorState:
        """First block (4x4). `w` is w+, [N, latents, latent_dim]."""

    @abstractmethod
    def block(self, resolution: int, state: PriorState, w: Tensor) -> PriorState:
        """The block that doubles `state` to `resolution`."""

    @abstractmethod
    def finish(self, state: PriorState, w: Tensor) -> Tensor:
        """The picture, [N, 3, size, size], about [-1, 1], from the last block's state."""

    @abstractmethod
    def map(self, z: Tensor) -> Tensor:
        """The mapping network: z, [N, latent_dim], standard normal -> w, [N, latent_dim]."""

    @property
    def resolutions(self) -> list[int]:
        """Resolutions of the blocks, ascending from 4."""
        return sorted(self.channels)

    def parameters_from(self, resolution: int) -> Iterator[nn.Parameter]:
        """Parameters of the blocks from `resolution` on and of the output layers; never those of the mapping
        network."""
        for name, parameter in self.named_parameters():
            part, _, rest = name.partition(".")
            where = {"constant": 4, "conv": 4, "to_rgb": 4, "mapping": 0}.get(part, self.size)
            if (int(rest.partition(".")[0]) if part == "blocks" else where) >= max(resolution, 4):
                yield parameter

    def features(self, w: Tensor, last: int | None = None) -> dict[int, PriorState]:
        """States after each block up to resolution `last` (default: all), without replaced features."""
        states = {4: self.start(w)}
        for resolution in self.resolutions[1:]:
            if last is not None and resolution > last:
                break
            states[resolution] = self.block(resolution, states[resolution // 2], w)
        return states

    def forward(self, w: Tensor) -> Tensor:
        """The picture of w+ [N, latents, latent_dim], [N, 3, size, size]."""
        return self.finish(self.features(w)[self.resolutions[-1]], w)
