"""The ablations end to end at the smallest size."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from panini.degradation import Blur, Degradation
from panini.training.ablation import VARIANTS, ablate
from panini.training.config import Losses, RestorerConfig


@pytest.mark.slow
def test_ablations_are_trained_and_compared(toy_config: Callable[..., RestorerConfig], tmp_path: Path) -> None:
    for folder in ("val/gt", "val/mfr", "val/sr16"):
        (tmp_path / folder).mkdir(parents=True)
    truth = np.ascontiguousarray(np.roll(astronaut()[..., ::-1], 64, 1))
    cv2.imwrite(str(tmp_path / "val/gt/001.webp"), truth)
    cv2.imwrite(str(tmp_path / "val/mfr/001.png"), Degradation((Blur(4.0),)).apply(truth, 0))
    cv2.imwrite(str(tmp_path / "val/sr16/001.png"), cv2.resize(truth, (64, 64), interpolation=cv2.INTER_AREA))
    (tmp_path / "val/manifest.json").write_text(json.dumps([{"name": "001", "mfr": {"kind": "blur"}}]))
    losses = Losses(l1=1.0, features=0.3, adversarial_features=0.1)
    config = toy_config(output=str(tmp_path / "out"), validation=str(tmp_path / "val"), view="full", losses=losses)
    text = ablate(dataclasses.replace(config, steps=1, batch=2, real_share=0.5))
    assert all(name in text for name in VARIANTS)
    assert "the input" in text
    assert (tmp_path / "out/ablation.md").read_text().strip() == text
    assert (tmp_path / "out/interpolation.png").exists()
