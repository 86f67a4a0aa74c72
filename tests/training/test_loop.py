"""What a run writes, when it gives up, that it goes on where it stopped, and that bad steps change nothing."""

import csv
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from panini.cli import run
from panini.errors import PaniniError
from panini.training.config import Optimizer, RestorerConfig
from panini.training.loop import READ_EVERY, RECENT, AbortRules
from panini.training.optim import Descent, MovingAverage, learning_rate
from panini.training.restorer import RestorerTraining

Toy = Callable[..., RestorerConfig]


def _network(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.pt", weights_only=True)["modules"]["network"]
    assert isinstance(state, dict)
    return state


def test_a_stopped_run_goes_on_as_if_it_had_not(
    toy_config: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = READ_EVERY + 2
    whole = replace(toy_config(), output=str(tmp_path / "whole"), steps=steps, batch=2)
    RestorerTraining(whole).run()
    stopped = replace(whole, output=str(tmp_path / "stopped"))
    training = RestorerTraining(stopped)
    update = training.update

    def update_then_stop() -> object:
        training._stop = training.step == 2  # as SIGTERM does: this step is the last
        return update()

    monkeypatch.setattr(training, "update", update_then_stop)
    training.run()
    assert torch.load(tmp_path / "stopped/last.pt", weights_only=True)["step"] == 3
    RestorerTraining(stopped).run()
    ours, theirs = _network(tmp_path / "whole"), _network(tmp_path / "stopped")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with (tmp_path / "stopped/log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(READ_EVERY)]
    assert float(rows[0]["total"]) > 0


def test_a_killed_run_loses_no_more_than_since_its_last_write(toy_config: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy_config(steps=4, batch=2)
    training = RestorerTraining(config)
    update = training.update

    def update_or_die() -> object:
        if training.step == 3:
            raise MemoryError  # whatever ends a process
        return update()

    monkeypatch.setattr(training, "update", update_or_die)
    with pytest.raises(MemoryError):
        training.run()
    assert RestorerTraining(config).step == 2 + 1, "what was written at 50%"


def test_a_stage_starts_from_the_one_before(toy_config: Toy, tmp_path: Path) -> None:
    first = toy_config(output=str(tmp_path / "a"), steps=2)
    RestorerTraining(first).run()
    start = str(tmp_path / "a/last.pt")
    second = RestorerTraining(toy_config(output=str(tmp_path / "b"), start=start, real_share=0.5))
    assert second.step == 0
    average = torch.load(start, weights_only=True)["modules"]["average"]
    assert all(torch.equal(average[name], tensor) for name, tensor in second.network.state_dict().items())


def test_a_run_of_some_minutes_ends_in_time(toy_config: Toy) -> None:
    training = RestorerTraining(toy_config(steps=0, minutes=0.02, batch=1))
    training.run()
    assert 0.02 <= training.minutes < 0.2
    assert training.progress == 1


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    descent = Descent(Optimizer(lr=0.1, warmup=0), [(1.0, [weight])])
    descent.step((weight * torch.tensor(math.nan)).sum(), 0, 0.0)
    assert torch.equal(weight.detach(), torch.ones(3, 3))
    assert descent.skipped == 1
    descent.step(weight.square().sum(), 1, 0.0)
    assert (weight < 1).all()
    assert descent.skipped == 1
    assert not any(state["exp_avg"].isnan().any() for state in descent.optimizer.state.values())


def test_gradients_are_clipped_as_pytorch_does_it() -> None:
    ours, theirs = nn.Parameter(torch.randn(5)), None
    theirs = nn.Parameter(ours.detach().clone())
    descent = Descent(Optimizer("sgd", lr=0.1, momentum=0.0, weight_decay=0.0, warmup=0, clip=0.5), [(1.0, [ours])])
    descent.step((3 * ours).sum(), 0, 0.0)
    (3 * theirs).sum().backward()
    nn.utils.clip_grad_norm_([theirs], 0.5)
    torch.optim.SGD([theirs], 0.1).step()
    torch.testing.assert_close(ours, theirs)


def test_the_moving_average_follows_what_learns() -> None:
    network, average = nn.Linear(2, 2), nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    bias = average.bias.clone()
    moving = MovingAverage(average, network, 0.9)
    for step in range(400):
        moving.follow(step)
    torch.testing.assert_close(average.weight, network.weight)
    assert torch.equal(average.bias, bias)


def test_a_run_gives_up_by_rules() -> None:
    reads = RECENT // READ_EVERY
    assert not any(AbortRules().check(1.0, 0) for _ in range(3 * reads))
    rules = AbortRules()
    reasons = [rules.check(1.0 if i < reads else 9.0, 0) for i in range(3 * reads)]
    assert not any(reasons[:reads])
    assert "the loss grew" in (reasons[-1] or "")
    rules = AbortRules()
    assert "no finite gradient" in ([rules.check(math.nan, READ_EVERY) for _ in range(reads)][-1] or "")


def test_a_run_that_gives_up_keeps_what_it_had(
    toy_config: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AbortRules, "check", lambda *_: "no use")
    with pytest.raises(PaniniError, match=r"stopped at step 20 because no use; .*last\.pt is kept"):
        RestorerTraining(toy_config(steps=24, batch=1)).run()
    assert torch.load(tmp_path / "run/last.pt", weights_only=True)["step"] < 20


def test_a_checkpoint_of_something_else_is_not_gone_on_from(toy_config: Toy, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(PaniniError, match=r"cannot resume from .*last\.pt"):
        RestorerTraining(toy_config())
    assert (tmp_path / "run/last.pt").read_bytes() == b"no checkpoint"


def test_no_room_is_said_before_the_first_step(
    toy_config: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = type(sys.modules["shutil"].disk_usage(tmp_path))(10**9, 10**9, 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(PaniniError, match=r"checkpoints need .* MB, 0 MB are free"):
        RestorerTraining(toy_config())


def test_the_command_line_says_in_one_line_what_is_wrong(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'output = "{tmp_path}/run"\nreal = "{faces}"\nsteps = 1\n')
    for override, message in (
        ("real=nowhere", "cannot read faces in nowhere"),
        ("color=red", "unknown color"),
        ("preset=other", "no preset is called 'other'"),
        ("hardware.device=abacus", "hardware.device: "),
        ("steps=0", "set minutes or steps"),
    ):
        assert run(["train", "udrl", "--config", str(recipe), "--set", override]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_learning_rates() -> None:
    cosine = Optimizer(lr=1.0, warmup=10, final=0.1)
    assert learning_rate(cosine, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(cosine, 50, 0.5) == pytest.approx(0.55)
    assert learning_rate(cosine, 100, 1.0) == pytest.approx(0.1)
    steps = Optimizer(lr=1.0, warmup=0, schedule="steps")
    assert [learning_rate(steps, 9, s) for s in (0, 0.59, 0.6, 0.8)] == pytest.approx([1, 1, 0.1, 0.01])
