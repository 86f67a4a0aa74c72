"""Training recipes: frozen dataclasses, read from small TOML files. Every field can be set from the command line."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from panini.errors import PaniniError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Optimizer:
    """How the weights move."""

    name: Literal["muon", "adamw", "adam", "sgd"] = "adamw"
    lr: float = 4e-4
    momentum: float = 0.9  # Adam's first beta
    beta2: float = 0.99
    weight_decay: float = 1e-3
    warmup: int = 50  # steps of linear growth
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    schedule_steps: int = 0  # where the cosine ends; the run's `steps` if 0
    final: float = 0.02  # of lr, where the cosine ends
    milestones: tuple[float, ...] = (0.6, 0.8)  # of the schedule, for "steps": lr falls to a tenth at each
    clip: float = 1.0  # largest norm of the gradient; 0: no limit


@dataclass(frozen=True)
class Hardware:
    """What a run runs on; see Lightning Fabric for the values."""

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"  # the last where the hardware has it
    threads: int = 0  # of the CPU; 0: all cores
    workers: int = 1  # processes that read and damage faces


@dataclass(frozen=True)
class RunConfig:
    """What every training has. Paths are relative to where the command is run."""

    output: str = "runs/run"
    seed: int = 0
    steps: int = 2000
    batch: int = 4  # of each process
    checkpoint_every: int = 50  # 0: at the end
    validate_every: int = 400  # 0: never
    optimizer: Optimizer = field(default_factory=Optimizer)
    hardware: Hardware = field(default_factory=Hardware)


def load(cls: type[Config], path: Path, overrides: Iterable[str] = ()) -> Config:
    """A config of class `cls` from a TOML file; each override is "key=value" or "table.key=value" with a TOML value.

    Raises PaniniError on what cannot be read, an unknown key or a value of the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PaniniError(f"config {path}: {getattr(error, 'strerror', None) or error}") from error
    for override in overrides:
        try:
            _merge(values, tomllib.loads(override))
        except tomllib.TOMLDecodeError:
            key, _, value = override.partition("=")
            if not value:
                raise PaniniError(f"--set wants KEY=VALUE, not {override!r}") from None
            try:
                _merge(values, tomllib.loads(f"{key} = {_quoted(value)}"))  # a bare word is a string
            except tomllib.TOMLDecodeError as error:
                raise PaniniError(f"--set {override}: {error}") from error
    return _build(cls, values, f"config {path}: ")


def _quoted(text: str) -> str:
    return '"' + text.strip().replace("\\", "\\\\").replace('"', '\\"') + '"'


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _build(cls: type[Config], values: Mapping[str, Any], where: str) -> Config:
    types = typing.get_type_hints(cls)
    if unknown := values.keys() - types.keys():
        known = ", ".join(sorted(types))
        raise PaniniError(f"{where}unknown {', '.join(sorted(unknown))}; there are {known}")
    return cls(**{key: _value(types[key], value, f"{where}{key}") for key, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise PaniniError(f"{where} is a table, not {value!r}")
        return _build(typing.cast(type, kind), value, f"{where}.")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        fits = value in arguments
    elif origin is tuple:
        fits = isinstance(value, list) and all(isinstance(v, int | float) for v in value)
        value = tuple(value) if fits else value
    elif origin is not None:  # Mapping[str, float]
        fits = isinstance(value, dict) and all(isinstance(v, int | float) for v in value.values())
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is kind
    if not fits:
        expected = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
        raise PaniniError(f"{where} is {value!r}, not {expected}")
    return value
