"""Execution devices: one set of names for the execution providers of ONNX Runtime and the devices of PyTorch.

`cuda` means ONNX Runtime if its CUDA provider is installed, else PyTorch. `torch:cuda` always means PyTorch. `auto` is
the first available provider of a short list that ends with the CPU. It never loads PyTorch, because loading is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from warnings import warn

import numpy as np

from panini.errors import PaniniError, how_to_get, one_line
from panini.inference.base import Engine, at_every_level

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""The supported execution providers of ONNX Runtime, by device name."""
TORCH = ("cuda", "xpu", "mps", "cpu")
"""The supported devices of PyTorch. ROCm uses the name `cuda`."""
_AUTO = ("cuda", "migraphx", "directml", "cpu")
NAMES = ("auto", *dict.fromkeys((*PROVIDERS, *TORCH)), *(f"torch:{name}" for name in TORCH))

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Way:
    """A way to run the network: a library and its name for the device."""

    name: str
    """The `--device` name that selects exactly this way."""
    library: str
    device: str

    def open(self, weights: Path | None = None, threads: int | None = None) -> Engine:
        """Loads the engine. Unless it runs on the CPU, tests it with one face. Raises PaniniError if that fails."""
        try:
            if self.library == "PyTorch":
                from panini.inference.torch import TorchEngine

                engine: Engine = TorchEngine(weights, self.device, threads)
            else:
                from panini.inference.onnx import OnnxEngine

                engine = OnnxEngine(weights, threads, self.device)
            if self.name != "cpu":
                _restore_one(engine)
        except PaniniError:
            raise
        except Exception as error:  # each library has its own exceptions
            raise PaniniError(f"{self.library} failed on {self.device}: {one_line(error)}") from error
        return engine


def ways(device: str) -> list[Way]:
    """The ways to run on `device` that may work on this machine, best first. Empty if the device is missing.

    Raises PaniniError for an unknown name.
    """
    if device not in NAMES:
        raise PaniniError(f"unknown device {device!r}: choose from {', '.join(NAMES)}")
    if device == "auto":
        return [way for name in _AUTO for way in ways(name) if way.library != "PyTorch"]
    import onnxruntime

    found, (library, _, name) = [], device.rpartition(":")
    if not library and (provider := PROVIDERS.get(name)) in onnxruntime.get_available_providers():
        found.append(Way(name, "ONNX Runtime", str(provider)))
    if name in TORCH and find_spec("torch") is not None:
        found.append(Way(f"torch:{name}", "PyTorch", name))
    return found


def open_engine(
    device: str = "auto", weights: Path | None = None, threads: int | None = None, tell: Tell | None = None
) -> Engine:
    """Loads an engine on `device`, or on the next best device if that fails.

    tell: gets a one-line message about a failure. None: issues a RuntimeWarning. Raises PaniniError for an unknown
    device, or if the CPU fails too.
    """
    reasons = []
    cpu = Way("cpu", "ONNX Runtime", PROVIDERS["cpu"])
    for way in ways(device):
        if way == cpu:
            break
        try:
            engine = way.open(weights, threads)
        except PaniniError as error:
            reasons.append(one_line(error))
        else:
            _tell_reasons(device, reasons, way.name, tell)
            return engine
    if not reasons and device not in ("auto", "cpu"):
        reasons = ["neither ONNX Runtime nor PyTorch supports it here"]
        if device.startswith("torch:"):
            reasons = [f"PyTorch is not installed: {how_to_get('train')}"]
    engine = cpu.open(weights, threads)
    _tell_reasons(device, reasons, cpu.name, tell)
    return engine


def measure(weights: Path | None = None, repetitions: int = 3) -> Iterator[tuple[Way, float | str]]:
    """Every way to run on this machine, with the median seconds per face or the reason why it fails."""
    for name in dict.fromkeys((*PROVIDERS, *TORCH)):
        for way in ways(name):
            if way.library == "PyTorch":
                from panini.inference.torch import has_device

                if not has_device(way.device):
                    continue
            try:
                engine = way.open(weights)
                _restore_one(engine)  # the first run takes longer
                yield way, median(_restore_one(engine) for _ in range(repetitions))
            except PaniniError as error:
                yield way, one_line(error)


def _restore_one(engine: Engine) -> float:
    """Restores a blank crop. Returns the seconds it took."""
    start = perf_counter()
    faces = np.zeros((1, 3, engine.input_size, engine.input_size), np.float32)
    own = engine.degradation(faces)
    engine.restore(faces, at_every_level(own, engine.levels), own)
    return perf_counter() - start


def _tell_reasons(device: str, reasons: list[str], used: str, tell: Tell | None) -> None:
    if reasons:
        words = f"the device {device} cannot be used ({'; '.join(reasons)}): using {used}"
        if tell is None:
            warn(words, RuntimeWarning, stacklevel=4)
        else:
            tell(words)
