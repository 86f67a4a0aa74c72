"""Loads priors: the small one from its wheel (`random-face`, OpenVINO IR v10), StyleGAN2 from published checkpoints,
and both from files written by `import_prior`."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from panini.errors import PaniniError
from panini.files import write_file
from panini.models.prior import MobilePrior, Prior, StyleGAN2Prior, ToyPrior
from panini.weights.released import load_stylegan2

_MEAN_LATENT_SAMPLES = 20_000


@dataclass(frozen=True)
class WheelOrigin:
    """The file that weights came from; a checkpoint has no version."""

    name: str
    version: str
    sha256: str


def load_prior(path: Path) -> tuple[Prior, WheelOrigin]:
    """The prior in a file: a `random-face` wheel, a StyleGAN2 checkpoint (`panini.weights.released`), or a file written
    by `import_prior`, whose origin is that of its source.

    Raises PaniniError if the file cannot be read or is none of these.
    """
    if path.suffix == ".whl":
        return load_mobile_prior(path)
    if path.suffix == ".safetensors":
        return _load_imported(path)
    prior = load_stylegan2(path)
    return prior.eval(), WheelOrigin(path.name, "", _sha256(path))


def import_prior(source: Path, out: Path) -> WheelOrigin:
    """Writes the prior of `source` as safetensors, with its kind, size and origin (name, version, sha256) as metadata.

    Raises PaniniError if `source` cannot be read (`load_prior`) or `out` cannot be written or is `source` itself;
    writes atomically.
    """
    if out.resolve() == source.resolve():
        raise PaniniError(f"{out} would replace its source")
    prior, origin = load_prior(source)
    write_prior(prior, origin, out)
    return origin


def write_prior(prior: Prior, origin: WheelOrigin, out: Path, half: bool = False) -> None:
    """Writes a prior as `load_prior` reads it, in half precision if `half`. Raises PaniniError."""
    arguments = {"size": prior.size} if isinstance(prior, StyleGAN2Prior) else {}
    kind = next(name for name, cls in _KINDS.items() if type(prior) is cls)
    metadata = {"prior": kind, "arguments": json.dumps(arguments), **asdict(origin)}
    tensors = {name: (t.half() if half else t).contiguous() for name, t in prior.state_dict().items()}
    write_file(out, save(tensors, metadata))


_KINDS: dict[str, type[Prior]] = {"mobile": MobilePrior, "stylegan2": StyleGAN2Prior, "toy": ToyPrior}


def _load_imported(path: Path) -> tuple[Prior, WheelOrigin]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            prior = _KINDS[metadata["prior"]](**json.loads(metadata["arguments"]))
            prior.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return prior.eval(), WheelOrigin(metadata["name"], metadata["version"], metadata["sha256"])
    except OSError as error:
        raise PaniniError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise PaniniError(f"{path} is not a prior that import-prior wrote") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    maps = {name: array for name, array in synthesis.items() if array.ndim == 4}
    folded = iter([a for name, a in maps.items() if name.startswith("Mul_") and name.endswith("_copy")])
    noises = iter([a for a in maps.values() if a.shape[:2] == (1, 1) and a.shape[2] >= 4])

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

    Raises PaniniError if the file cannot be read, is not that wheel or its networks are not laid out as expected.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            mapping, synthesis = (
                read_ir_constants(*(archive.read(f"random_face/data/{name}Network.{end}") for end in ("xml", "bin")))
                for name in ("Mapping", "Synthesis")
            )
            headers = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            about = HeaderParser().parsestr(archive.read(headers).decode())
    except OSError as error:
        raise PaniniError(f"cannot read {wheel}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, StopIteration, ValueError, ElementTree.ParseError) as error:
        raise PaniniError(f"{wheel} is not a random-face wheel: {error}") from error

    prior = MobilePrior()
    shapes = {name: tensor.shape for name, tensor in prior.state_dict().items()}
    try:
        state = {
            name: torch.from_numpy(array.copy()).reshape(shapes[name]) for name, array in _pairs(mapping, synthesis)
        }
        state["mean_latent"] = torch.zeros(prior.latent_dim)  # the file has none; measured below
        prior.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise PaniniError(f"{wheel}: networks are not laid out as expected: {error}") from error
    with torch.no_grad():
        z = torch.randn(_MEAN_LATENT_SAMPLES, prior.latent_dim, generator=torch.Generator().manual_seed(0))
        prior.mean_latent.copy_(prior.map(z).mean(0))
    return prior.eval(), WheelOrigin(about["Name"], about["Version"], _sha256(wheel))
