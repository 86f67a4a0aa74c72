"""The prior's last blocks and picture for training are `MobilePrior`'s own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from panini.models.prior import ToyPrior
from panini.training.generate import picture_of, run_blocks


@pytest.mark.parametrize("window", [0, 4])
def test_blocks_and_picture_are_the_prior_s(window: int) -> None:
    torch.manual_seed(0)
    prior = ToyPrior()
    w = prior.sample(2, torch.Generator().manual_seed(1)).clone().requires_grad_()
    state = prior.features(w.detach(), 16)[16]
    if window:
        state = state.crop(8, 4, window)
    features = state.features.detach().requires_grad_()
    state = state.with_features(features)

    def gradients(picture: Tensor) -> list[Tensor]:
        learning = [features, w, prior.head.weight, *prior.blocks["64"].parameters()]
        return list(torch.autograd.grad((picture**2).mean(), learning, retain_graph=True))

    own = state
    for r in (32, 64, 128):
        own = prior.block(r, own, w)
    ours = run_blocks(prior, state, w, 16)
    assert ours.origin == own.origin
    torch.testing.assert_close(ours.features, own.features, atol=1e-4, rtol=1e-4)
    for ratio in (1, 2, 4):
        expected, picture = F.avg_pool2d(prior.finish(own, w), ratio), picture_of(prior, ours, w, ratio)
        torch.testing.assert_close(picture, expected, atol=1e-4, rtol=1e-4)
        for found, known in zip(gradients(picture), gradients(expected), strict=True):
            torch.testing.assert_close(found, known, atol=1e-3 * float(known.abs().max()), rtol=1e-3)


def test_blocks_in_bfloat16_are_as_close_as_the_prior_s() -> None:
    torch.manual_seed(0)
    prior = ToyPrior()
    with torch.no_grad():
        w = prior.sample(2, torch.Generator().manual_seed(1))
        state = prior.features(w, 16)[16]
        exact = picture_of(prior, run_blocks(prior, state, w, 16), w, 2)
        with torch.autocast("cpu", torch.bfloat16):
            ours, own = run_blocks(prior, state, w, 16), prior.features(w)[128]
        assert ours.features.dtype == torch.bfloat16
        errors = [float((picture_of(prior, each, w, 2) - exact).norm() / exact.norm()) for each in (ours, own)]
    assert errors[0] < min(0.02, 1.5 * errors[1])
