"""Distances, discriminators and their balance."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from panini.evaluation.stlpips import STLPIPS
from panini.models.discriminator import PatchDiscriminator, PriorFeatureDiscriminator
from panini.training.adversary import CERTAINTY, CHANCE, Adversary, Balance
from panini.training.config import Optimizer
from panini.training.distances import (
    ShallowSTLPIPS,
    VGGDistance,
    error_left,
    lost_detail,
    r1,
    relative_l1,
    seem_real,
    tell_apart,
)
from panini.training.objective import adversarial_scale, with_gradient


def test_features_are_compared_in_units_of_their_spread() -> None:
    torch.manual_seed(0)
    ours, truth, spread = torch.randn(2, 6, 8, 8), torch.randn(2, 6, 8, 8), torch.rand(1, 6, 1, 1) + 0.5
    distance = relative_l1({8: ours, 4: truth}, {8: truth, 4: truth}, {8: spread, 4: spread})
    torch.testing.assert_close(distance, ((ours - truth).abs() / spread).mean() / 2)


@pytest.fixture(scope="module")
def stlpips() -> STLPIPS:
    return STLPIPS()


def test_all_stages_of_stlpips_are_stlpips(stlpips: STLPIPS) -> None:
    ours, truth = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ShallowSTLPIPS(stlpips)(ours, truth), stlpips(ours, truth))
        shallow = ShallowSTLPIPS(stlpips, 3)
        assert (shallow(ours, truth) < stlpips(ours, truth)).all()
        assert (shallow(truth, truth) == 0).all()


def test_the_paper_s_perceptual_distance(stlpips: STLPIPS) -> None:
    distance = VGGDistance(stlpips)
    ours = (torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_()
    value = distance(ours, torch.zeros(1, 3, 64, 64))
    assert value.shape == (1,)
    value.sum().backward()
    assert ours.grad is not None


def test_no_loss_depends_on_what_is_installed(stlpips: STLPIPS, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, truth = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = VGGDistance(stlpips)(ours, truth)
        other = ModuleType("torchvision.models")
        other.VGG16_Weights = SimpleNamespace(IMAGENET1K_V1=None)  # type: ignore[attr-defined]
        other.vgg16 = lambda weights: SimpleNamespace(features=[nn.Flatten()] * 22)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, "torchvision.models", other)
        torch.testing.assert_close(VGGDistance(stlpips)(ours, truth), expected)


def test_adversarial_losses_are_stylegan2_s() -> None:
    real, fake = torch.randn(4, 9), torch.randn(4, 9)
    torch.testing.assert_close(tell_apart(real, fake), F.softplus(-real).mean() + F.softplus(fake).mean())
    torch.testing.assert_close(seem_real(fake), F.softplus(-fake).mean(1))
    assert seem_real(fake[:, 0]).shape == (4,)


def test_r1_is_the_squared_gradient() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False))
    real = torch.randn(3, 3, 2, 2)
    torch.testing.assert_close(r1(linear, real), linear[1].weight.square().sum())


@pytest.mark.parametrize(
    ("module", "shape", "places"),
    [
        (
            PriorFeatureDiscriminator(torch.zeros(1, 8, 1, 1), torch.ones(1, 8, 1, 1), 16, 16),
            (2, 8, 32, 32),
            1024 + 256,
        ),
        (PatchDiscriminator((8, 8, 8, 8, 8)), (2, 3, 256, 256), 256 + 16),
    ],
)
def test_discriminators_give_a_logit_for_each_place(module: nn.Module, shape: tuple[int, ...], places: int) -> None:
    assert module(torch.randn(shape)).shape == (2, places)


def test_a_discriminator_learns_and_tells_the_generator() -> None:
    torch.manual_seed(0)
    module = PriorFeatureDiscriminator(torch.zeros(1, 4, 1, 1), torch.ones(1, 4, 1, 1), 16, 16)
    adversary = Adversary("x", module, Optimizer(lr=1e-2, warmup=0, schedule="constant", clip=0.0), 0.5, r1_weight=1e-3)
    real, fake = torch.randn(8, 4, 16, 16) + 0.5, torch.randn(8, 4, 16, 16) - 0.5
    for step in range(40):
        adversary.take_accuracy()
        adversary.learn(real, fake, step, 0.0)
    accuracy = adversary.take_accuracy()
    assert accuracy is not None
    assert accuracy > CHANCE
    assert adversary.take_accuracy() is None
    ours = fake.clone().requires_grad_()
    penalty = adversary.penalty(ours)
    assert penalty.shape == (8,)
    penalty.sum().backward()
    assert ours.grad is not None
    assert ours.grad.mean() < 0, "toward the real ones"
    assert all(p.grad is None for p in module.parameters())
    again = Adversary("x", module, Optimizer(), 0.5)
    again.load_state_dict(adversary.state_dict())


def test_the_discriminator_of_pictures_learns_faint_detail() -> None:
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(8, 3, 8, 8), 64, mode="bicubic") - 0.5
    detailed = smooth + 0.02 * torch.randn_like(smooth)
    optimizer = Optimizer(lr=1e-3, warmup=0, schedule="constant", clip=0.0, momentum=0.0, weight_decay=0.0)
    adversary = Adversary("x", PatchDiscriminator((16, 32, 32, 32, 32)), optimizer, 1.0)
    for step in range(60):
        adversary.take_accuracy()
        adversary.learn(detailed, smooth, step, 0.0)
    accuracy = adversary.take_accuracy()
    assert accuracy is not None
    assert accuracy > 0.8


def test_the_adversarial_gradient_gets_the_size_of_the_perceptual_one() -> None:
    picture = torch.randn(2, 3, 4, 4, requires_grad=True)
    perceptual, adversarial = picture.square().sum(), 1e-4 * picture.sum()
    scale = adversarial_scale(adversarial, perceptual, picture)
    term = with_gradient(adversarial, 0.3 * scale)
    assert term == adversarial
    (ours,) = torch.autograd.grad(term, picture, retain_graph=True)
    (theirs,) = torch.autograd.grad(perceptual, picture)
    torch.testing.assert_close(ours.norm(), 0.3 * theirs.norm(), rtol=1e-3, atol=0)


def test_balance_acts_at_certainty_and_at_chance() -> None:
    balance = Balance()
    for expected in (2, 4, 8, 8):
        balance.read(CERTAINTY + 0.01)
        assert (balance.every, balance.heard) == (expected, True)
    for expected in (4, 2, 1):
        balance.read(CHANCE - 0.01)
        assert (balance.every, balance.heard) == (expected, True)
    balance.read(CHANCE - 0.01)
    assert not balance.heard, "what a discriminator at chance says is noise"
    balance.read(0.7)
    assert (balance.every, balance.heard) == (1, True)


def test_error_left_is_relative_to_the_damage() -> None:
    truth = torch.zeros(2, 3, 16, 16)
    given = torch.stack((truth[0] + 0.5, truth[0]))  # damaged, and not
    assert error_left(given, given, truth).item() < 0.5
    assert error_left(truth, given, truth).item() == 0.0
    assert error_left(given + 0.01, given, truth).item() > 0.9, "what was clean has become worse"


def test_lost_detail() -> None:
    torch.manual_seed(0)
    truth = torch.rand(1, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(truth, 9, 1, 4)
    assert lost_detail(truth, truth).item() < 0.01
    assert lost_detail(0.5 * truth, truth).item() < 0.01, "contrast is not detail"
    assert lost_detail(blurred, truth).item() > 0.5
    assert lost_detail(truth + torch.randn_like(truth), truth).item() > 0.5
