"""Exports networks to ONNX: small graphs that refer to the tensors in the weights file."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import StringStringEntryProto, TensorProto
from onnxscript.optimizer import optimize
from torch import Tensor, nn

from panini.errors import PaniniError
from panini.weights import DEFAULT, WeightsHeader, read_header
from panini.weights.checkpoint import load_training_state, load_weights, save_weights
from panini.weights.graphs import DegradationGraph, RestorerGraph

OPSET = 18


def export(checkpoint: Path, folder: Path, preset: str = "default", metadata: Mapping[str, str] | None = None) -> Path:
    """Writes the files of an engine to `folder`: the weights file, `dre.onnx` and `restorer.onnx`.

    checkpoint: a weights file, which keeps its name; or a training checkpoint (`.pt`; see `load_training_state`), which
        becomes `default.safetensors` with this `preset` and `metadata`.
    Returns the path of the weights file. Raises PaniniError if the checkpoint cannot be read or the folder not written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if checkpoint.suffix == ".safetensors":
            weights = folder / checkpoint.name
            read_header(checkpoint)
            if weights.resolve() != checkpoint.resolve():
                shutil.copyfile(checkpoint, weights)
        else:
            weights = folder / DEFAULT.name
            save_weights(load_training_state(checkpoint, preset), weights, preset, metadata)
        _write_graphs(weights)
    except OSError as error:
        raise PaniniError(f"cannot write to {folder}: {error.strerror}") from error
    return weights


def _write_graphs(weights: Path) -> None:
    network = load_weights(weights)
    header = read_header(weights)
    faces = torch.zeros(2, 3, network.input_size, network.input_size)  # the exporter would fix a batch size of one
    with torch.no_grad():
        v = network.dre(faces)[:, None].repeat(1, len(network.dafi.resolutions) + 2, 1)
    dre = export_module(DegradationGraph(network), {"faces": faces}, ["v"])
    restorer = export_module(RestorerGraph(network), {"faces": faces, "v": v}, ["images", "prior_share", "image_share"])
    for name, model in (("dre.onnx", dre), ("restorer.onnx", restorer)):
        _move_tensors(model, weights.name, header)
        onnx.save(model, weights.with_name(name))


def export_module(module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    """The ONNX graph of `module` for any batch size, without names and paths of this machine."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it warns about optional libraries
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=tuple({0: torch.export.Dim("N")} for _ in inputs),
                opset_version=OPSET,
                dynamo=True,
                optimize=False,  # `_simplified` does it
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    assert program is not None
    model = _simplified(program.model_proto)
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")  # they contain paths of this machine
        part.ClearField("doc_string")
    return model


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Computes what is constant in the graph, except from the weights, which keep their names and values.

    This halves the time to load the graph. It also makes the zero bias of a convolution a constant, without which
    ONNX Runtime does not use its fast layout.
    """
    weights, inputs = list(model.graph.initializer), len(model.graph.input)
    model.graph.ClearField("initializer")
    model.graph.input.extend(onnx.helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights)
    simple: onnx.ModelProto = optimize(model, input_size_limit=64, output_size_limit=64)  # larger ones at load time
    del simple.graph.input[inputs:]
    simple.graph.initializer.extend(weights)
    return simple


def _move_tensors(model: onnx.ModelProto, location: str, header: WeightsHeader) -> None:
    """Makes every initializer refer to the half-precision tensor in the weights file, and adds a cast to float32.

    ONNX Runtime does the casts once, at load time.
    """
    casts = []
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix("network.")
        if name not in header.places:
            continue  # a constant of the graph itself
        offset, length = header.places[name]
        casts.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        place = {"location": location, "offset": str(offset), "length": str(length)}
        tensor.CopyFrom(
            TensorProto(
                name=name,
                data_type=TensorProto.FLOAT16,
                dims=tensor.dims,
                data_location=TensorProto.EXTERNAL,
                external_data=[StringStringEntryProto(key=key, value=value) for key, value in place.items()],
            )
        )
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    onnx.helper.set_model_props(model, {"weights": header.digest})
