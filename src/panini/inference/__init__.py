"""Runs the network. Every engine offers the interface `panini.inference.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from panini.errors import PaniniError
from panini.inference.base import BicubicEngine, Engine, EngineOutput, at_every_level
from panini.inference.crop import Edit, RestoredCrop, restore_crop
from panini.inference.ensemble import automatic_passes, check_passes, restore_averaged

__all__ = [
    "BicubicEngine",
    "Edit",
    "Engine",
    "EngineOutput",
    "RestoredCrop",
    "at_every_level",
    "automatic_passes",
    "check_passes",
    "load_engine",
    "restore_averaged",
    "restore_crop",
]


def load_engine(name: str = "default") -> Engine:
    """Loads the engine called `name`.

    name: `default` and `torch` run the package's own weights in ONNX Runtime and PyTorch, `bicubic` only enlarges; the
        path of a weights file (`....safetensors`, its graphs beside it) runs that one in ONNX Runtime.
    Raises PaniniError for any other name, or if the engine cannot run here.
    """
    if name == "bicubic":
        return BicubicEngine()
    if name == "default" or name.endswith(".safetensors"):
        from panini.inference.onnx import OnnxEngine

        return OnnxEngine() if name == "default" else OnnxEngine(Path(name))
    if name == "torch":
        from panini.inference.torch import TorchEngine

        return TorchEngine()
    raise PaniniError(f"no engine is called {name!r}; there are 'default', 'torch' and 'bicubic'")
