"""Runs the network. Every engine offers the interface `panini.inference.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from panini.errors import PaniniError
from panini.inference.base import BicubicEngine, Engine, EngineOutput, at_every_level
from panini.inference.crop import Edit, RestoredCrop, restore_crop
from panini.inference.devices import Tell, open_engine
from panini.inference.ensemble import check_passes, restore_averaged

__all__ = [
    "BicubicEngine",
    "Edit",
    "Engine",
    "EngineOutput",
    "RestoredCrop",
    "at_every_level",
    "check_passes",
    "load_engine",
    "restore_averaged",
    "restore_crop",
]


def load_engine(
    name: str = "default", device: str = "auto", threads: int | None = None, tell: Tell | None = None
) -> Engine:
    """Loads the engine called `name`.

    name: `default` runs the package's own weights, the path of a weights file (`....safetensors`, its graphs beside it)
        runs that one, `torch` is `default` in PyTorch, `bicubic` only enlarges.
    device: `auto`, `cpu`, `cuda`, `torch:cuda`, ...: all that `panini devices` lists. If it fails, the next best one is
        used, and `tell` gets one line about it; without `tell`, this is a RuntimeWarning.
    threads: number of cores; None: all that the process may use.
    Raises PaniniError for any other name, or if the engine cannot run here.
    """
    if name == "bicubic":
        return BicubicEngine()
    if name == "default" or name.endswith(".safetensors"):
        return open_engine(device, None if name == "default" else Path(name), threads, tell)
    if name == "torch":
        from panini.inference.torch import TorchEngine

        return TorchEngine(device="cpu" if device == "auto" else device.removeprefix("torch:"), threads=threads)
    raise PaniniError(f"no engine is called {name!r}; there are 'default', 'torch' and 'bicubic'")
