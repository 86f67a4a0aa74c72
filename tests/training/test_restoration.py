"""A stopped run goes on as if it had not stopped, and learns."""

from pathlib import Path

import cv2
import pytest
import torch
from skimage.data import astronaut

from panini.training.restoration import RestorationConfig, RestorationTraining

pytestmark = pytest.mark.slow


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    cv2.imwrite(str(faces / "0.png"), astronaut()[..., ::-1])

    def run(output: str, *stops: int) -> dict[str, torch.Tensor]:
        for steps in stops:
            config = RestorationConfig(
                output=str(tmp_path / output),
                real=str(faces),
                batch=1,
                window=24,
                steps=steps,
                schedule_steps=3,
                warmup=1,
                trust_steps=1,
                validate_every=0,
                workers=0,
            )
            RestorationTraining(config).run()
        state: dict[str, torch.Tensor] = torch.load(tmp_path / output / "last.pt", weights_only=True)
        assert state["step"] == 3
        return state["network"]  # type: ignore[return-value]

    whole, resumed = run("whole", 3), run("resumed", 2, 3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
