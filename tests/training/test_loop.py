"""One loop: what a run writes, that it stops with a reason, that it goes on where it stopped, alone or in company."""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from panini.cli import run
from panini.errors import PaniniError
from panini.training.config import Hardware, Optimizer
from panini.training.loop import learning_rate
from panini.training.udrl import UDRLConfig, UDRLTraining


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.roll(astronaut(), (40 * i, 70 * i), (0, 1))[..., ::-1])
    return folder


def _config(faces: Path, output: Path, steps: int = 4, **changes: object) -> UDRLConfig:
    settings: dict[str, object] = {
        "batch": 2,
        "tiles": 4,
        "queue": 32,
        "checkpoint_every": 2,
        "validate_every": 0,
        "optimizer": Optimizer(schedule_steps=4, warmup=1),
        "hardware": Hardware(accelerator="cpu", workers=0),
    }
    return UDRLConfig(output=str(output), real=str(faces), steps=steps, **(settings | changes))  # type: ignore[arg-type]


def _state(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.pt", weights_only=True)["modules"]["udrl"]
    assert isinstance(state, dict)
    return state


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_stopped_run_goes_on_as_if_it_had_not(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    UDRLTraining(_config(faces, tmp_path / "whole")).run()
    training = UDRLTraining(_config(faces, tmp_path / "stopped"))
    update = training.update

    def update_until_third(batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if training.step == 3:  # after a step that no checkpoint holds
            raise KeyboardInterrupt
        return update(batch)

    monkeypatch.setattr(training, "update", update_until_third)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    torch.manual_seed(1234)  # whatever else happened meanwhile
    UDRLTraining(_config(faces, tmp_path / "stopped")).run()
    assert _same(_state(tmp_path / "whole"), _state(tmp_path / "stopped"))
    for folder in ("whole", "stopped"):
        with (tmp_path / folder / "log.csv").open() as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["step", "contrast", "trust"]
        assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4"]
        assert list((tmp_path / folder / "tensorboard").iterdir())


def test_a_loss_that_is_no_number_names_step_and_damage(faces: Path, tmp_path: Path) -> None:
    training = UDRLTraining(_config(faces, tmp_path))
    with torch.no_grad():
        training.udrl.encoder.projection[0].weight.fill_(torch.nan)
    damage = str(training.samples.degradation(0)[0])
    with pytest.raises(PaniniError, match=r"the loss is nan at step 0, on faces damaged by: ") as error:
        training.run()
    assert damage in str(error.value)
    assert not (tmp_path / "last.pt").exists()


def test_a_checkpoint_of_something_else_is_not_gone_on_from(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(PaniniError, match=r"cannot go on from .*last\.pt"):
        UDRLTraining(_config(faces, tmp_path))
    assert (tmp_path / "last.pt").read_bytes() == b"no checkpoint"


def test_no_room_is_said_before_the_first_step(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type(sys.modules["shutil"].disk_usage(tmp_path))(10**9, 10**9, 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(PaniniError, match=r"checkpoints need .* MB, 0 MB are free"):
        UDRLTraining(_config(faces, tmp_path))


def test_the_command_line_says_in_one_line_what_is_wrong(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'output = "{tmp_path}/run"\nreal = "{faces}"\nvalidate_every = 0\n')
    for override, message in (
        ("real=nowhere", "cannot read faces in nowhere"),
        ("colour=red", "unknown colour"),
        ("preset=other", "no preset is called 'other'"),
    ):
        assert run(["train", "udrl", "--config", str(recipe), "--set", override]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_learning_rates() -> None:
    cosine = Optimizer(lr=1.0, warmup=10, final=0.1)
    assert learning_rate(cosine, 0, 100) == pytest.approx(0.1)
    assert learning_rate(cosine, 50, 100) == pytest.approx(0.55)
    assert learning_rate(cosine, 100, 100) == pytest.approx(0.1)
    steps = Optimizer(lr=1.0, warmup=0, schedule="steps")
    assert [learning_rate(steps, s, 200) for s in (0, 119, 120, 160)] == pytest.approx([1, 1, 0.1, 0.01])
