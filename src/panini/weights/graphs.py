"""The two graphs that an engine runs: the degradation encoder (DRE), and the restorer with its shares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from panini.models.panini_net import PaniniNet


class DegradationGraph(nn.Module):
    """faces [N, 3, S, S] -> v [N, dr_dim]."""

    def __init__(self, network: PaniniNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        v: Tensor = self.network.dre(faces)
        return v


class RestorerGraph(nn.Module):
    """faces [N, 3, S, S], v [N, levels + 2, dr_dim] (see `panini.inference.base.graph_input`) -> images
    [N, 3, size, size], prior_share [N, levels], coarse to fine, and image_share [N, 1] (see `EngineOutput`).
    """

    def __init__(self, network: PaniniNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v, own = v[:, :-1], v[:, -1]
        weights = self.network.dafi.weights(v[:, :-1])  # [N, 2, C] by resolution: (a_prior, a_image)
        share = torch.stack([weights[resolution][:, 0].mean(1) for resolution in self.network.dafi.resolutions], 1)
        kept = self.network.picture_share(v)
        return self.network(faces, v, own), share, v[:, 0, :1] * 0 if kept is None else kept
