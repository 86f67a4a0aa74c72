"""Writes networks to weights files and reads them: in half precision, and only what inference needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from panini import __version__
from panini.errors import PaniniError, first_line
from panini.files import write_file
from panini.models import presets
from panini.models.panini_net import PaniniNet
from panini.weights import FORMAT, read_header
from panini.weights.eight_bit import from_8bit

_TRAINING_ONLY = ("prior.mapping.", "prior.mean_latent", "dre.projection.")


def build(preset: str) -> PaniniNet:
    """The untrained network of a preset. Raises PaniniError if no preset has that name."""
    names = [n for n in vars(presets) if n in ("default", "toy") or n.startswith("paper_")]
    if preset not in names:
        raise PaniniError(f"no preset is called {preset!r}: choose from {', '.join(names)}")
    network: PaniniNet = getattr(presets, preset)()
    return network


def inference_tensors(network: PaniniNet) -> dict[str, Tensor]:
    """The tensors of `network` that belong in a weights file, by name."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith(_TRAINING_ONLY) and tensor.is_floating_point()
    }


def save_weights(network: PaniniNet, path: Path, preset: str, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a weights file. preset: that of `network`. metadata: notes on the training.

    Raises PaniniError if a tensor is not finite in half precision, or the file cannot be written.
    """
    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in inference_tensors(network).items()}
    unfit = [name for name, half in halves.items() if not half.isfinite().all()]
    if unfit:
        raise PaniniError(f"not finite in half precision: {', '.join(unfit)}")
    tensors = b"".join(half.numpy().tobytes() for half in halves.values())
    ours = {"format": FORMAT, "version": __version__, "preset": preset, "sha256": hashlib.sha256(tensors).hexdigest()}
    # Not the library's `save`, whose metadata has a random order: the same network must give the same file.
    header: dict[str, object] = {"__metadata__": dict(metadata or {}) | ours}
    end = 0
    for name, half in halves.items():
        begin, end = end, end + 2 * half.numel()
        header[name] = {"dtype": "F16", "shape": list(half.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_file(path, len(text).to_bytes(8, "little") + text + tensors)


def load_weights(path: Path) -> PaniniNet:
    """Reads the network of a weights file, in float32, for inference.

    The file lacks the prior's mapping network and the DRE's projection, which only training uses; they stay untrained.
    Raises PaniniError as `read_header` does, or if the tensors do not match the file's preset.
    """
    network = build(read_header(path).metadata["preset"])
    loaded = load(path.read_bytes())
    if extra := loaded.keys() - inference_tensors(network).keys():
        raise PaniniError(f"{path}: tensors that its preset does not have: {', '.join(sorted(extra))}")
    _put(loaded, network, str(path))
    return network.eval().requires_grad_(False)


def load_training_state(path: Path, preset: str) -> PaniniNet:
    """Reads the network of a training checkpoint: a state dict of PaniniNet, or a whole run, from which it takes the
    moving average.

    Raises PaniniError if the file is neither, or does not match the preset.
    """
    network = build(preset)
    load_network(path, network)
    return network.eval().requires_grad_(False)


def load_network(path: Path, network: PaniniNet, parts: Iterable[str] = ("",)) -> None:
    """Copies tensors from a training checkpoint or a weights file into `network`.

    parts: prefixes of the names to copy. Tensors that a weights file lacks stay unchanged; so does a whole part that
    the file lacks, as long as it has another one. Raises PaniniError if the file cannot be read or its tensors do not
    fit.
    """
    if path.suffix == ".safetensors":
        read_header(path)
        tensors = load(path.read_bytes())
    else:
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            tensors = from_8bit(state["modules"]["average"] if "modules" in state else state)
        except Exception as error:  # torch raises many types of exceptions for invalid files
            raise PaniniError(f"cannot read the checkpoint {path}: {first_line(error)}") from error
    there = tuple(part for part in parts if any(name.startswith(part) for name in tensors))
    if not there:
        raise PaniniError(f"{path} has no tensors named {', '.join(parts)}")
    chosen = {name: tensor for name, tensor in tensors.items() if name.startswith(there)}
    _put(chosen, network, str(path), there)


def _put(tensors: Mapping[str, Tensor], network: PaniniNet, where: str, parts: tuple[str, ...] = ("",)) -> None:
    ours = network.state_dict()
    needed = {name for name in inference_tensors(network) if name.startswith(parts)}
    wrong = {
        name
        for name in needed | tensors.keys()
        if name not in tensors or name not in ours or tensors[name].shape != ours[name].shape
    }
    if wrong:
        shown = ", ".join(sorted(wrong)[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise PaniniError(f"{where} does not match the preset: missing, extra or misshapen tensors: {shown}")
    network.load_state_dict({n: t.to(ours[n].dtype) for n, t in tensors.items()}, strict=False)
