"""The prior's last blocks and picture for training are `MobilePrior`'s own; normalized features of discriminators."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from panini.models.discriminator import PriorFeatureDiscriminator
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


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_discriminator_normalizes_features(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    mean, spread = torch.randn(1, 6, 1, 1), torch.rand(1, 6, 1, 1) + 0.1
    features = (mean + spread * torch.randn(2, 6, 8, 8)).to(kind)
    normalized, plain = (
        PriorFeatureDiscriminator(m, s, 8, 8).eval() for m, s in ((mean, spread), (0 * mean, spread**0))
    )
    plain.load_state_dict(normalized.state_dict())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        found, expected = normalized(features), plain((features.float() - mean) / spread)
    torch.testing.assert_close(found, expected, atol=1e-5 if kind == torch.float32 else 0.02, rtol=1e-3)
