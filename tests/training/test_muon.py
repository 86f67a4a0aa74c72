"""Muon: what its steps are, and that AdamW's are PyTorch's own."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from panini.training.muon import SMALLEST, Muon, orthogonalised


@pytest.mark.parametrize("shape", [(32, 32), (16, 200), (300, 24)])
def test_all_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    step = orthogonalised(matrix)
    values = torch.linalg.svdvals(step)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert (step * (left @ right)).sum() > 0.99 * values.sum(), "and its directions stay"


def _problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 3, padding=1, groups=8))
    return network, torch.randn(8, 16, 6, 6), torch.randn(8, 16, 6, 6)


def _descend(network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    optimizer.zero_grad()
    loss = (network(x) - y).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_what_is_no_matrix_moves_as_by_adamw() -> None:
    ours, x, y = _problem()
    theirs = copy.deepcopy(ours)
    settings = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    for network, kind in ((ours, Muon), (theirs, torch.optim.AdamW)):
        optimizer = kind([{"params": list(network.parameters())}], **settings)
        _descend(network, optimizer, x, y)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        is_matrix = a.ndim == 4 and min(len(a), a[0].numel()) >= SMALLEST
        assert torch.allclose(a, b, atol=1e-6) != is_matrix, name


def test_a_step_s_root_mean_square_is_a_fifth_of_the_rate() -> None:
    network, x, y = _problem()
    before = network[0].weight.detach().clone()  # type: ignore[index,union-attr]
    _descend(network, Muon([{"params": list(network.parameters())}], 1e-2, (0.9, 0.99), 0.0), x, y)
    change = network[0].weight.detach() - before  # type: ignore[index,union-attr]
    assert 0.1e-2 < change.square().mean().sqrt() < 0.3e-2


def test_it_learns_and_goes_on_from_its_state_exactly(tmp_path: Path) -> None:
    network, x, y = _problem()

    def make(network: nn.Module) -> Muon:
        return Muon([{"params": list(network.parameters())}], 1e-2, (0.9, 0.99), 1e-3)

    optimizer = make(network)
    losses = [_descend(network, optimizer, x, y) for _ in range(20)]
    assert losses[-1] < 0.95 * losses[0]
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    again = copy.deepcopy(network)
    resumed = make(again)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        assert _descend(network, optimizer, x, y) == _descend(again, resumed, x, y)
