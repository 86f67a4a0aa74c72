import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from panini import __version__
from panini.cli import run
from panini.errors import PaniniError
from panini.weights import read_header
from panini.weights.checkpoint import (
    build,
    inference_tensors,
    load_training_state,
    load_weights,
    save_weights,
)
from panini.weights.export import export


def test_weights_file_holds_inference_in_half_precision(tiny_weights, tiny_state):
    trained = load_training_state(tiny_state, "paper_tiny")
    loaded = load_weights(tiny_weights)
    for name, tensor in inference_tensors(trained).items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
    with safe_open(tiny_weights, "pt") as file:
        names = set(file.keys())
        assert all(file.get_tensor(name).dtype == torch.float16 for name in names)
    assert not [name for name in names if "mapping" in name or "projection" in name]
    assert {name for name, _ in trained.named_parameters()} - names == {
        name for name, _ in trained.named_parameters() if "mapping" in name or "projection" in name
    }


def test_metadata(tiny_weights):
    metadata = read_header(tiny_weights).metadata
    sha256 = metadata.pop("sha256")
    assert len(sha256) == 64
    assert metadata == {"format": "panini-4", "version": __version__, "preset": "paper_tiny", "samples": "7"}


def test_half_precision_costs_little(tiny_weights, tiny_state, tiny_faces):
    faces = torch.from_numpy(tiny_faces)
    full = load_training_state(tiny_state, "paper_tiny")(faces)
    difference = (load_weights(tiny_weights)(faces) - full).abs()
    assert 0 < difference.max() < 5e-3
    assert difference.square().mean().sqrt() < 5e-4


def test_moving_average_of_a_run_is_taken(tiny_state, tmp_path):
    state = torch.load(tiny_state, weights_only=True)
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"modules": {"network": other, "average": state}, "step": 3}, tmp_path / "last.pt")
    loaded = load_training_state(tmp_path / "last.pt", "paper_tiny")
    assert torch.equal(loaded.prior.constant, state["prior.constant"])


@pytest.mark.parametrize("graph", ["dre.onnx", "restorer.onnx"])
def test_graph_has_no_tensors_of_its_own(tiny_weights, graph):
    model = onnx.load(tiny_weights.with_name(graph), load_external_data=False)
    onnx.checker.check_model(str(tiny_weights.with_name(graph)))
    places = read_header(tiny_weights).places
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    inside = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    assert outside
    for tensor in outside:
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert place["location"] == tiny_weights.name
        assert (int(place["offset"]), int(place["length"])) == places[tensor.name]
        assert tensor.data_type == onnx.TensorProto.FLOAT16
    assert all(np.prod(t.dims) <= 64 for t in inside)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_both_graphs_use_every_tensor_of_the_file(tiny_weights):
    used = set()
    for graph in ("dre.onnx", "restorer.onnx"):
        model = onnx.load(tiny_weights.with_name(graph), load_external_data=False)
        used |= {tensor.name for tensor in model.graph.initializer}
    assert read_header(tiny_weights).places.keys() <= used


def test_graph_reads_the_weights_file(own_weights, tiny_faces):
    """Another value in the weights file is another picture; without the file there is none."""
    faces, v = tiny_faces[:1], np.zeros((1, 5, 12), np.float32)

    def picture():
        session = onnxruntime.InferenceSession(
            own_weights.with_name("restorer.onnx"), providers=["CPUExecutionProvider"]
        )
        return session.run(["images"], {"faces": faces, "v": v})[0]

    before = picture()
    offset, length = read_header(own_weights).places["prior.head.bias"]
    data = bytearray(own_weights.read_bytes())
    data[offset : offset + length] = (np.frombuffer(data, np.float16, length // 2, offset) + np.float16(1)).tobytes()
    own_weights.write_bytes(data)
    assert np.abs(picture() - before).max() > 0.1
    own_weights.unlink()
    with pytest.raises(Exception, match=r"default\.safetensors"):
        picture()


def test_casts_are_folded_at_load(tiny_weights, tiny_faces, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(tiny_weights.with_name("restorer.onnx"), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    halves = {t.name for t in optimized.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert not halves
    assert "DepthToSpace" not in {node.op_type for node in optimized.graph.node}  # ten times slower than its equal


def test_graphs_take_any_number_of_faces(tiny_weights, tiny_faces):
    session = onnxruntime.InferenceSession(tiny_weights.with_name("restorer.onnx"), providers=["CPUExecutionProvider"])
    v = np.random.default_rng(0).standard_normal((3, 5, 12)).astype(np.float32)
    images, share, kept = session.run(None, {"faces": tiny_faces, "v": v})
    assert images.shape == (3, 3, 64, 64)
    assert share.shape == (3, 3)
    assert kept.shape == (3, 1)
    one, *_ = session.run(None, {"faces": tiny_faces[1:2], "v": v[1:2]})
    np.testing.assert_allclose(one, images[1:2], atol=1e-5)


def test_command_makes_the_same_files_again(tiny_state, tiny_weights, tmp_path, capsys):
    arguments = ["export", tiny_state, "-o", tmp_path / "new/out", "--preset", "paper_tiny", "--samples", "7"]
    assert run([str(argument) for argument in arguments]) == 0
    for path in tiny_weights.parent.iterdir():
        assert (tmp_path / "new/out" / path.name).read_bytes() == path.read_bytes(), path.name
    assert "restorer.onnx: 0." in capsys.readouterr().out


def test_graphs_of_a_weights_file_name_it(tiny_weights, tmp_path):
    source = tmp_path / "mine.safetensors"
    source.write_bytes(tiny_weights.read_bytes())
    for folder in (tmp_path, tmp_path / "out"):
        weights = export(source, folder)
        assert weights == folder / "mine.safetensors"
        assert weights.read_bytes() == tiny_weights.read_bytes()
        for name in ("dre.onnx", "restorer.onnx"):
            graph = onnx.load(folder / name, load_external_data=False).graph
            places = {entry.value for t in graph.initializer for entry in t.external_data if entry.key == "location"}
            assert places == {"mine.safetensors"}


def test_export_errors(tiny_weights, tiny_state, tmp_path, capsys):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    for arguments, message in (
        ([tmp_path / "none.safetensors"], "cannot read the weights"),
        ([tmp_path / "none.pt"], "cannot read the checkpoint"),
        ([tmp_path / "junk.pt"], "cannot read the checkpoint"),
        ([tiny_state], "does not match the preset"),
        ([tiny_state, "--preset", "other"], "no preset is called 'other'"),
        ([tiny_weights, "-o", tmp_path / "junk.pt"], "cannot write to"),
    ):
        assert run(["export", *map(str, arguments), *([] if "-o" in arguments else ["-o", str(tmp_path / "o")])]) == 2
        captured = capsys.readouterr().err
        assert message in captured
        assert captured.count("\n") == 1


def test_what_does_not_fit_half_precision_is_refused(tiny_state, tmp_path):
    network = load_training_state(tiny_state, "paper_tiny")
    network.prior.head.bias[0] = 1e6
    with pytest.raises(PaniniError, match=r"half precision: prior\.head\.bias"):
        save_weights(network, tmp_path / "w.safetensors", "paper_tiny")
    assert not list(tmp_path.iterdir())


def test_tensors_of_another_network_are_named(tiny_state, tmp_path):
    network = load_training_state(tiny_state, "paper_tiny")
    network.prior.head = torch.nn.Conv2d(8, 16, 1)
    save_weights(network, tmp_path / "w.safetensors", "paper_tiny")
    with pytest.raises(PaniniError, match=r"misshapen tensors: prior\.head\.bias, prior\.head\.weight"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "damaged"),
        (lambda data: b"not a weights file at all", "damaged"),
        (lambda data: data[:100], "damaged"),
        (lambda data: data[:-10], "damaged"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (lambda data: data.replace(b"panini-4", b"panini-0", 1), "has format panini-0"),
    ],
    ids=["empty", "junk", "truncated header", "truncated", "changed", "another format"],
)
def test_damaged_weights(tiny_weights, tmp_path, damage, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(damage(tiny_weights.read_bytes()))
    with pytest.raises(PaniniError, match=message):
        load_weights(path)


def test_presets_by_name():
    with pytest.raises(PaniniError, match="no preset is called 'x': choose from default, toy, paper_mfr, paper_sr"):
        build("x")
