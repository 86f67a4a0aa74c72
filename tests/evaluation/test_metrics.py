"""The metrics against reference implementations, and ST-LPIPS as a distance."""

import sys
import types
import zipfile

import cv2
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.data import astronaut

from panini.evaluation.stlpips import STLPIPS
from panini.evaluation.table import frechet_distance
from panini.evaluation.validation import Scorer
from panini.weights import downloads


@pytest.mark.slow
def test_stlpips_is_that_of_its_authors(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Runs their code from the same wheel. Empty modules replace imports that this variant does not use."""
    pytest.importorskip("IPython")
    with zipfile.ZipFile(downloads.fetch(downloads.STLPIPS)) as wheel:
        wheel.extractall(tmp_path)
    for name in ("torchvision", "torchsummary"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["torchvision"], "models", None, raising=False)
    monkeypatch.setattr(sys.modules["torchsummary"], "summary", None, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    from stlpips_pytorch.stlpips import LPIPS  # type: ignore[import-not-found]

    theirs, ours = LPIPS(net="vgg", variant="shift_tolerant", verbose=False), STLPIPS()
    pictures = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for other in (pictures.flip(3), pictures * 0.8, pictures.roll(1, 3)):
            torch.testing.assert_close(ours(pictures, other), theirs(pictures, other).flatten(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_psnr_and_ssim_are_those_of_their_papers() -> None:
    """SSIM by its formula (Wang et al. 2004) over uniform windows of 7 pixels, as scikit-image has it."""
    truth = cv2.resize(astronaut(), (64, 64), interpolation=cv2.INTER_AREA)
    other = cv2.GaussianBlur(truth, (0, 0), 2)
    (scores,) = Scorer()(truth, other)
    a, b = truth.astype(float), other.astype(float)
    assert scores.psnr == pytest.approx(10 * np.log10(255**2 / np.mean((a - b) ** 2)))

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (7, 7), borderType=cv2.BORDER_REFLECT)

    norm = 49 / 48  # sample covariance
    variances = [norm * (mean(x * y) - mean(x) * mean(y)) for x, y in ((a, a), (b, b), (a, b))]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (2 * mean(a) * mean(b) + c1) * (2 * variances[2] + c2)
    ssim /= (mean(a) ** 2 + mean(b) ** 2 + c1) * (variances[0] + variances[1] + c2)
    assert scores.ssim == pytest.approx(ssim[3:-3, 3:-3].mean(), abs=1e-6)


def test_frechet_distance_is_that_of_a_matrix_square_root() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)), rng.standard_normal((300, 8)) + 0.5
    shared = np.trace(sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))).real
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    expected = apart + np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False)) - 2 * shared
    assert frechet_distance(a, b) == pytest.approx(expected)


@pytest.mark.slow
def test_stlpips_is_zero_for_equal_pictures_grows_with_damage_and_forgives_a_shift() -> None:
    scorer = Scorer()
    truth = cv2.resize(astronaut(), (128, 128), interpolation=cv2.INTER_AREA)
    blurred = [cv2.GaussianBlur(truth, (0, 0), s) for s in (1, 3)]
    same, mild, strong, shifted = scorer(truth, truth, *blurred, np.roll(truth, 1, 1))
    assert same.stlpips == pytest.approx(0, abs=1e-6)
    assert same.ssim == pytest.approx(1)
    assert 0 < mild.stlpips < strong.stlpips
    assert shifted.stlpips < mild.stlpips
