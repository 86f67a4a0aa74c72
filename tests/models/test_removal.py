"""Degradation removal before any training, and its losses."""

import torch

from panini.models.removal import DegradationRemoval
from panini.training.losses import error_left, lost_detail


def _network() -> DegradationRemoval:
    torch.manual_seed(0)
    return DegradationRemoval(8, {4: 16, 8: 16}, {4: 1, 8: 1}, {4: 1})


def test_it_starts_as_the_identity() -> None:
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert (_network()(x, torch.randn(2, 8)) - x).abs().max() < 0.01


def test_v_decides_which_frequencies_pass() -> None:
    network, v = _network(), torch.tensor([[1.0] + [0.0] * 7, [-1.0] + [0.0] * 7])
    with torch.no_grad():
        network.passed.weight[:, 0] = 10.0  # every frequency passes for the first v, none for the second …
        network.passed.weight[::16] = 0.0  # … but the mean color of each block, which always passes
        x = torch.rand(1, 3, 64, 64).repeat(2, 1, 1, 1)
        whole, means = network(x, v)
    blocks = x[0].unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert (whole - x[0]).abs().max() < 0.01
    assert (means - blocks).abs().max() < 0.02


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
