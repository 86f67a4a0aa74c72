"""How DAFI's weights move with damage, for the weights that ship."""

from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from panini.evaluation.interpolation import plot_shares, prior_shares
from panini.weights import DEFAULT
from panini.weights.checkpoint import load_weights


def test_the_worse_the_picture_the_more_comes_from_the_prior(tmp_path: Path) -> None:
    face = np.ascontiguousarray(astronaut()[:256, 96:352])
    face = cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC)
    network = load_weights(DEFAULT)
    levels = len(network.dafi.resolutions)
    for kind, shares in prior_shares(network, [face]).items():
        generated = shares[:, -1]
        assert (shares >= 0).all(), kind
        assert (shares <= 1).all(), kind
        if kind in ("blur", "down"):
            assert generated[-1] > generated[0] + 0.5, kind
        assert (np.ptp(shares[:, :levels], axis=0) > 0.005).all(), f"DAFI does not see {kind}"
        if kind in ("blur", "down"):
            assert shares[-1, levels - 1] > shares[0, levels - 1] + 0.1, "DAFI's finest level follows the damage"
    plot_shares(network, [face], tmp_path / "shares.png")
    picture = cv2.imread(str(tmp_path / "shares.png"))
    assert picture is not None
    assert picture.shape[0] > 500
