import subprocess
import sys

import numpy as np
import pytest

from panini.errors import PaniniError
from panini.inference import at_every_level, load_engine
from panini.inference.onnx import OnnxEngine
from panini.weights import DEFAULT, read_header

TOLERANCE = 1e-3  # of [-1, 1]

shipped = pytest.mark.skipif(not DEFAULT.exists(), reason="the package has no weights yet")


def assert_same(weights, faces, tolerance):
    from panini.inference.torch import TorchEngine

    ours, theirs = OnnxEngine(weights, threads=2), TorchEngine(weights)
    for name in ("input_size", "output_size", "levels", "dim"):
        assert getattr(ours, name) == getattr(theirs, name)
    v = ours.degradation(faces)
    np.testing.assert_allclose(v, theirs.degradation(faces), atol=1e-4)
    every = at_every_level(v, ours.levels)
    a, b = ours.restore(faces, every, v), theirs.restore(faces, every, v)
    assert a.images.shape == (len(faces), 3, ours.output_size, ours.output_size)
    assert a.images.dtype == b.images.dtype == np.float32
    assert np.abs(a.images - b.images).max() <= tolerance
    assert a.prior_share.shape == (len(faces), ours.levels)
    np.testing.assert_allclose(a.prior_share, b.prior_share, atol=1e-5)
    assert a.image_share.shape == (len(faces), 1)
    np.testing.assert_allclose(a.image_share, b.image_share, atol=1e-5)
    for share in (a.prior_share, a.image_share):
        assert ((share >= 0) & (share <= 1)).all()


def test_engines_agree(tiny_weights, tiny_faces):
    assert_same(tiny_weights, tiny_faces, 1e-4)


@shipped
def test_engines_agree_on_the_shipped_weights():
    pytest.importorskip("torch")
    faces = np.random.default_rng(0).uniform(-1, 1, (1, 3, 512, 512)).astype(np.float32)
    assert_same(DEFAULT, faces, TOLERANCE)


@shipped
def test_shipped_files_are_small():
    assert DEFAULT.stat().st_size < 70e6
    assert all(DEFAULT.with_name(name).stat().st_size < 1e6 for name in ("dre.onnx", "restorer.onnx"))
    assert read_header(DEFAULT).metadata["preset"] == "default"


@shipped
def test_default_engine_is_onnx():
    assert isinstance(load_engine(), OnnxEngine)


def test_no_faces(tiny_weights):
    from panini.inference.torch import TorchEngine

    for engine in (OnnxEngine(tiny_weights), TorchEngine(tiny_weights)):
        none = np.empty((0, 3, 32, 32), np.float32)
        v = engine.degradation(none)
        output = engine.restore(none, at_every_level(v, engine.levels), v)
        assert output.images.shape == (0, 3, 64, 64)
        assert output.prior_share.shape == (0, 3)


def test_v_decides(tiny_weights, tiny_faces):
    engine = OnnxEngine(tiny_weights)
    v = engine.degradation(tiny_faces)
    other, same = (engine.restore(tiny_faces, at_every_level(u, engine.levels), v) for u in (v + 5, v))
    assert np.abs(other.prior_share - same.prior_share).max() > 0.01


def test_a_v_for_each_level(tiny_weights, tiny_faces):
    """One level's v moves that level's share alone; the last moves what is kept of the picture."""
    engine = OnnxEngine(tiny_weights)
    v = engine.degradation(tiny_faces)
    rows = at_every_level(v, engine.levels)
    whole = engine.restore(tiny_faces, rows, v)
    for level in range(engine.levels + 1):
        moved = rows.copy()
        moved[:, level] += 5
        other = engine.restore(tiny_faces, moved, v)
        changed = (
            np.abs(
                np.hstack([other.prior_share, other.image_share[:, :1]])
                - np.hstack([whole.prior_share, whole.image_share[:, :1]])
            ).max(0)
            > 1e-6
        )
        assert [*changed] == [i == level for i in range(engine.levels + 1)]


def test_onnx_engine_needs_no_training_libraries(tiny_weights):
    """Even where importing one of them fails, as in the base install."""
    code = f"""
import sys
for name in ("torch", "onnx", "safetensors", "onnxscript"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from panini.inference.onnx import OnnxEngine
engine = OnnxEngine(Path({str(tiny_weights)!r}))
faces = np.zeros((1, 3, 32, 32), np.float32)
v = engine.degradation(faces)
assert engine.restore(faces, np.repeat(v[:, None], engine.levels + 1, 1), v).images.shape == (1, 3, 64, 64)
assert sys.modules["torch"] is None
from panini.errors import PaniniError
from panini.cli import run
try:
    import panini.inference.torch
except PaniniError as error:
    assert str(error) == "the torch engine needs torch: pip install '.[train]' in the Panini folder", error
else:
    raise AssertionError
assert run(["export", "x.safetensors"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "panini: export needs onnx: pip install '.[train]' in the Panini folder\n"


@shipped
def test_torch_engine_needs_no_onnx():
    pytest.importorskip("torch")
    code = (
        "import sys; sys.modules['onnx'] = sys.modules['onnxscript'] = None;"
        "from panini.inference.torch import TorchEngine; TorchEngine()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_weights(tmp_path):
    with pytest.raises(PaniniError, match="cannot read the weights"):
        OnnxEngine(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["dre.onnx", "restorer.onnx"])
def test_missing_or_damaged_graph(own_weights, name):
    graph = own_weights.with_name(name)
    graph.write_bytes(graph.read_bytes()[:500])
    with pytest.raises(PaniniError, match=f"cannot load the network .*{name}"):
        OnnxEngine(own_weights)
    graph.unlink()
    with pytest.raises(PaniniError, match=f"{name} is missing: create it with `panini export`"):
        OnnxEngine(own_weights)


def test_damaged_weights(own_weights):
    data = bytearray(own_weights.read_bytes())
    data[-1] ^= 1
    own_weights.write_bytes(data)
    with pytest.raises(PaniniError, match="damaged"):
        OnnxEngine(own_weights)


def test_graphs_of_other_weights(own_weights, tiny_state):
    from panini.weights.checkpoint import load_training_state, save_weights

    save_weights(load_training_state(tiny_state, "paper_tiny"), own_weights, "paper_tiny", {"samples": "8"})
    with pytest.raises(PaniniError, match="belongs to other weights"):
        OnnxEngine(own_weights)


def test_unknown_device(tiny_weights):
    from panini.inference.torch import TorchEngine

    with pytest.raises(PaniniError, match="cannot use the device 'quantum'"):
        TorchEngine(tiny_weights, device="quantum")
