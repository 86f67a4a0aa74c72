"""How DAFI's weights move with damage, on the weights that ship; the ablations end to end at the smallest size."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from panini.degradation import Blur, Degradation
from panini.evaluation.ablation import VARIANTS, ablate, plot_shares, prior_shares
from panini.training.config import Hardware
from panini.training.restoration import RestorationConfig
from panini.weights import DEFAULT
from panini.weights.checkpoint import load_weights


def test_the_worse_the_picture_the_more_comes_from_the_prior(tmp_path: Path) -> None:
    face = np.ascontiguousarray(astronaut()[:256, 96:352])
    face = cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC)
    network = load_weights(DEFAULT)
    for kind, shares in prior_shares(network, [face]).items():
        finest = shares[:, -1]
        assert (shares >= 0).all(), kind
        assert (shares <= 1).all(), kind
        if kind in ("noise", "down"):
            assert finest[-1] > finest[0], kind
    plot_shares(network, [face], tmp_path / "shares.png")
    picture = cv2.imread(str(tmp_path / "shares.png"))
    assert picture is not None
    assert picture.shape[0] > 500


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
