import sys

import numpy as np
import onnxruntime
import pytest

from panini import Restorer
from panini.cli import run
from panini.errors import PaniniError
from panini.inference import load_engine
from panini.inference.devices import NAMES, PROVIDERS, measure, open_engine, ways
from panini.inference.onnx import OnnxEngine

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_auto_is_the_cpu_where_onnx_runtime_has_nothing_else():
    assert ways("auto")[-1].device == PROVIDERS["cpu"]
    assert all(way.library == "ONNX Runtime" for way in ways("auto"))


def test_a_device_that_fails_falls_back_with_one_line(tiny_weights, tiny_faces):
    if sys.platform == "darwin":
        pytest.skip("Core ML may be here")
    said: list[str] = []
    engine = open_engine("coreml", tiny_weights, tell=said.append)
    assert said == ["the device coreml cannot be used (neither ONNX Runtime nor PyTorch supports it here): using cpu"]
    assert np.array_equal(engine.degradation(tiny_faces), OnnxEngine(tiny_weights).degradation(tiny_faces))
    with pytest.warns(RuntimeWarning, match="coreml cannot be used"):
        load_engine(str(tiny_weights), "coreml")


def test_pytorch_says_why_it_fails(tiny_weights):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("CUDA works here")
    said: list[str] = []
    open_engine("torch:cuda", tiny_weights, tell=said.append)
    assert len(said) == 1
    assert "cannot use the device 'cuda'" in said[0]
    assert "\n" not in said[0]


@pytest.mark.skipif(HAS_CUDA, reason="CUDA may work here")
def test_onnx_runtime_does_not_fall_back_silently(tiny_weights):
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(PaniniError, match="cannot load CUDAExecutionProvider"),
    ):
        OnnxEngine(tiny_weights, provider="CUDAExecutionProvider")


def test_a_device_that_does_not_exist_is_refused(tiny_weights, tmp_path, capsys):
    with pytest.raises(PaniniError, match="unknown device 'abacus'"):
        open_engine("abacus", tiny_weights)
    with pytest.raises(PaniniError, match="abacus"):
        Restorer(device="abacus")
    (tmp_path / "photo.png").write_bytes(b"not read")
    assert run(["restore", str(tmp_path / "photo.png"), "--device", "abacus"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_list_is_measured(tiny_weights, capsys):
    found = {way.name: seconds for way, seconds in measure(tiny_weights, 1)}
    assert isinstance(found["cpu"], float)
    assert set(found) <= set(NAMES)
    assert run(["devices", "--weights", str(tiny_weights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("cpu ") and " s per face" in line for line in lines)
    assert sum("used by auto" in line for line in lines) == 1


def test_the_number_of_cores_can_be_limited(monkeypatch):
    from panini import onnx_session

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert onnx_session.cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert onnx_session.cores() >= 1
