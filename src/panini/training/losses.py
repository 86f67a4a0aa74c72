"""What the restorer is trained on, beside the distances of `evaluation`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.nn.panini_net import Encoding, PaniniNet
from panini.nn.prior import MobilePrior
from panini.nn.prior.mobile import inverse_haar


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


def distillation(
    network: PaniniNet, encoding: Encoding, w: Tensor, known: Tensor, last: int = 64
) -> tuple[Tensor, Tensor]:
    """For faces sampled from the prior: how far the encoder is from the features and the w they were made of.

    w: [N, latent_dim]; known: [N], 1 where w holds. Returns (feature, latent) distances averaged over the known;
    features relative to the spread of the true ones, at DAFI's resolutions up to `last`.
    """
    rows = known.nonzero()[:, 0]
    if len(rows) == 0:
        return encoding.w.sum() * 0, encoding.w.sum() * 0
    w_plus = w[rows, None].expand(-1, network.prior.latents, -1)
    with torch.no_grad():
        truth = network.prior.features(w_plus, last)
    distances = []
    for resolution in network.dafi.resolutions:
        if resolution <= last:
            ours = network.dafi.convs[str(resolution)](encoding.image[resolution][rows])
            theirs = truth[resolution].features
            distances.append((ours - theirs).abs().mean() / theirs.std())
    return torch.stack(distances).mean(), (encoding.w[rows] - w_plus).abs().mean()
