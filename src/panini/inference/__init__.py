"""What runs a network. Every engine offers the interface of `panini.inference.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from panini.errors import PaniniError
from panini.inference.base import BicubicEngine, Engine, EngineOutput
from panini.inference.ensemble import Ensemble

__all__ = ["BicubicEngine", "Engine", "EngineOutput", "Ensemble", "load_engine"]


def load_engine(name: str = "default", looks: int | None = None) -> Ensemble:
    """The engine called `name`: `default` and `torch` run the package's own weights, `bicubic` only enlarges; a weights
    file (`….safetensors`, its graphs beside it) is run as `default` is.

    looks: how many times each face is looked at, 1 to 8, the mean of which is the result; see `Ensemble`. Raises
    PaniniError for others, for any other name, or if the engine cannot run here.
    """
    engine: Engine
    if name == "bicubic":
        engine = BicubicEngine()
    elif name == "default" or name.endswith(".safetensors"):
        from panini.inference.onnx import OnnxEngine

        engine = OnnxEngine() if name == "default" else OnnxEngine(Path(name))
    elif name == "torch":
        from panini.inference.torch import TorchEngine

        engine = TorchEngine()
    else:
        raise PaniniError(f"no engine is called {name!r}; there are 'default', 'torch' and 'bicubic'")
    return Ensemble(engine, looks)
