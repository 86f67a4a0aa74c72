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
    for folder in ("val/gt", "val/mfr", "val/heavy"):
        (tmp_path / folder).mkdir(parents=True)
    truth = np.ascontiguousarray(np.roll(astronaut()[..., ::-1], 64, 1))
    for name, picture, sigma in (("001", truth, 4.0), ("003", truth[:, ::-1], 8.0)):
        cv2.imwrite(str(tmp_path / f"val/gt/{name}.webp"), picture)
        for task in ("mfr", "heavy"):
            cv2.imwrite(str(tmp_path / f"val/{task}/{name}.png"), Degradation((Blur(sigma),)).apply(picture, 0))
    (tmp_path / "val/manifest.json").write_text(
        json.dumps([{"name": name, "mfr": {"kind": "blur"}} for name in ("001", "003")])
    )
    losses = Losses(l1=1.0, features=0.3, adversarial_features=0.1)
    config = toy_config(output=str(tmp_path / "out"), validation=str(tmp_path / "val"), view="full", losses=losses)
    text = ablate(dataclasses.replace(config, steps=1, batch=2, real_share=0.5))
    assert all(name in text for name in VARIANTS)
    means = {}
    for line in text.splitlines()[3:]:
        name, psnr = line.split(" | ")[0], line.split(" | ")[3]
        means[name] = float(psnr.split()[0])
        if "(" in psnr:
            low, high = (float(end) for end in psnr.split("(")[1].rstrip(")").split(" to "))
            change = means[name] - means["| full"]
            assert low - 0.011 <= change <= high + 0.011
    assert len(means) == len(VARIANTS)
    assert "the input" in text
    assert (tmp_path / "out/ablation.md").read_text().strip() == text
    assert (tmp_path / "out/interpolation.png").exists()
