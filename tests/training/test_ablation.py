"""The ablations end to end, at the smallest size."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from panini.degradation import Blur, Degradation
from panini.training.ablation import VARIANTS, ablate
from panini.training.config import Hardware
from panini.training.restoration import RestorationConfig


@pytest.mark.slow
def test_ablations_are_trained_and_compared(tmp_path: Path) -> None:
    for folder in ("faces", "val/gt", "val/mfr", "val/sr16"):
        (tmp_path / folder).mkdir(parents=True)
    face = astronaut()[..., ::-1]
    cv2.imwrite(str(tmp_path / "faces/0.png"), face)
    truth = np.roll(face, 64, 1)
    cv2.imwrite(str(tmp_path / "val/gt/001.webp"), truth)
    cv2.imwrite(str(tmp_path / "val/mfr/001.png"), Degradation((Blur(4.0),)).apply(np.ascontiguousarray(truth), 0))
    cv2.imwrite(str(tmp_path / "val/sr16/001.png"), cv2.resize(truth, (64, 64), interpolation=cv2.INTER_AREA))
    (tmp_path / "val/manifest.json").write_text(json.dumps([{"name": "001", "mfr": {"kind": "blur"}}]))
    config = RestorationConfig(
        output=str(tmp_path / "out"),
        real=str(tmp_path / "faces"),
        validation=str(tmp_path / "val"),
        steps=1,
        batch=1,
        window=16,
        hardware=Hardware(accelerator="cpu", workers=0),
    )
    text = ablate(config)
    assert all(name in text for name in VARIANTS)
    assert "the input" in text
    assert (tmp_path / "out" / "ablation.md").read_text().strip() == text
    assert (tmp_path / "out" / "interpolation.png").exists()
