"""Networks to and from weights files: half precision, and only what inference needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from panini import __version__
from panini.errors import PaniniError
from panini.nn import presets
from panini.nn.panini_net import PaniniNet
from panini.weights import FORMAT, read_header

_TRAINING_ONLY = ("prior.mapping.", "prior.mean_latent", "dre.projection.")


def build(preset: str) -> PaniniNet:
    """The network of a preset by its name, untrained. Raises PaniniError if there is none of that name."""
    names = [name for name in vars(presets) if name == "default" or name.startswith("paper_")]
    if preset not in names:
        raise PaniniError(f"no preset is called {preset!r}; there are {', '.join(names)}")
    network: PaniniNet = getattr(presets, preset)()
    return network


def inference_tensors(network: PaniniNet) -> dict[str, Tensor]:
    """The tensors of `network` that a weights file holds, by name."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith(_TRAINING_ONLY) and tensor.is_floating_point()
    }


def save_weights(network: PaniniNet, path: Path, preset: str, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the weights file of `network`, which is of `preset`; `metadata` says how it was trained.

    Raises PaniniError if a tensor does not fit half precision, or the file cannot be written.
    """
    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in inference_tensors(network).items()}
    unfit = [name for name, half in halves.items() if not half.isfinite().all()]
    if unfit:
        raise PaniniError(f"not finite in half precision: {', '.join(unfit)}")
    tensors = b"".join(half.numpy().tobytes() for half in halves.values())
    ours = {"format": FORMAT, "version": __version__, "preset": preset, "sha256": hashlib.sha256(tensors).hexdigest()}
    # Not the library's `save`, which puts metadata in an order of chance: the same network is to be the same file.
    header: dict[str, object] = {"__metadata__": dict(metadata or {}) | ours}
    end = 0
    for name, half in halves.items():
        begin, end = end, end + 2 * half.numel()
        header[name] = {"dtype": "F16", "shape": list(half.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
        partial.replace(path)
    except OSError as error:
        raise PaniniError(f"cannot write {path}: {error.strerror}") from error


def load_weights(path: Path) -> PaniniNet:
    """The network in a weights file, in float32, for inference.

    The prior's mapping network and the DRE's projection, which only training uses, are not in the file and are left
    untrained. Raises PaniniError as `read_header` does, and if the tensors are not those of the file's preset.
    """
    network = build(read_header(path).metadata["preset"])
    loaded = load(path.read_bytes())
    expected = inference_tensors(network)
    wrong = {
        name
        for name in expected.keys() | loaded.keys()
        if name not in expected or name not in loaded or expected[name].shape != loaded[name].shape
    }
    if wrong:
        raise PaniniError(f"{path}: missing, extra or misshapen tensors: {', '.join(sorted(wrong))}")
    network.load_state_dict({name: tensor.float() for name, tensor in loaded.items()}, strict=False)
    return network.eval().requires_grad_(False)


def load_training_state(path: Path, preset: str) -> PaniniNet:
    """The network in what training wrote: a state dict of PaniniNet, or a whole run (of which the moving average).

    Raises PaniniError if the file is neither, or not of `preset`.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises a dozen kinds for a file that is not one of its own
        raise PaniniError(f"cannot read the checkpoint {path}: {error}") from error
    network = build(preset)
    try:
        network.load_state_dict(state.get("average", state))
    except (RuntimeError, AttributeError) as error:
        raise PaniniError(f"{path} is not a network of preset {preset!r}: {error}") from error
    return network.eval().requires_grad_(False)
