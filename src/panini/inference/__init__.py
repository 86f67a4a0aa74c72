"""Runs the network. Every engine implements `panini.inference.base.Engine`."""

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
    """Loads an engine.

    name: `default` (the weights in the package), the path of a weights file (`.safetensors`, with its graphs in the
        same folder), `torch` (`default` in PyTorch) or `bicubic` (only enlarges).
    device: `auto`, `cpu`, `cuda`, `torch:cuda`, ..., as listed by `panini devices`. If it fails, the next best one is
        used, and `tell` gets a one-line message (without `tell`: a RuntimeWarning); `torch` raises PaniniError instead.
    threads: number of cores; None: all available cores (PyTorch: its current setting).
    Raises PaniniError for any other name, or if the engine cannot run on this machine.
    """
    if name == "bicubic":
        return BicubicEngine()
    if name == "default" or name.endswith(".safetensors"):
        return open_engine(device, None if name == "default" else Path(name), threads, tell)
    if name == "torch":
        from panini.inference.torch import TorchEngine

        return TorchEngine(device="cpu" if device == "auto" else device.removeprefix("torch:"), threads=threads)
    raise PaniniError(f"unknown engine {name!r}: choose 'default', 'torch', 'bicubic' or a .safetensors file")
