"""Degradation removal before any training."""

import torch

from panini.models.removal import DegradationRemoval


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
