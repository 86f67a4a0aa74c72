"""What `panini calibrate` measures for one weights file: the dial, probes of v_DR, predictions of errors.

It is a small JSON file beside the weights. It contains their digest, because it is meaningless for others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from panini.degradation import ADDING
from panini.errors import PaniniError
from panini.files import write_file

NAME = "calibration.json"
FORMAT = "panini-calibration-1"

DIAL_REACH = 0.5
"""Largest shift of v_DR by the dial, relative to the length of v_DR. Training covers this range."""

RELIABLE = 0.65
"""Balanced accuracy below which a probe is not used."""

Array = NDArray[np.float32]
Vectors = TypeVar("Vectors", bound=Any)  # NumPy's or PyTorch's


def shift_v(v: Vectors, direction: Vectors, step: Any) -> Vectors:
    """v_DR [..., dim], shifted along the unit vector `direction` and scaled back to its length, which the encoder
    fixes.

    step: the shift, relative to the length of v_DR; a number or [..., 1].
    """
    length = (v * v).sum(-1, keepdims=True) ** 0.5
    edited = v + step * length * direction
    return edited * (length / (edited * edited).sum(-1, keepdims=True) ** 0.5)


@dataclass(frozen=True)
class Linear:
    """x [..., n] -> x · weights + bias, [...]."""

    weights: Array
    """[n]"""
    bias: float

    def __call__(self, x: Array) -> Array:
        return np.asarray(x @ self.weights + np.float32(self.bias), np.float32)


@dataclass(frozen=True)
class Probe:
    """Tells one kind of damage from v_DR."""

    presence: Linear
    """Log odds that the damage is present, if half of all pictures had it."""
    strength: Linear
    """Its strength, roughly in [0, 1]; see `panini.evaluation.probe.Damaged.strengths`."""
    accuracy: float
    """Balanced accuracy of the presence on held-out faces; 0.5 is chance."""
    correlation: float
    """Spearman correlation of the strength on held-out faces."""

    @property
    def reliable(self) -> bool:
        """Whether the probe is accurate enough to be used."""
        return self.accuracy >= RELIABLE


@dataclass(frozen=True)
class Calibration:
    """Everything that was measured; `panini.report.face_report` uses it."""

    weights: str
    """Digest of the weights file (`WeightsHeader.digest`)."""
    direction: Array
    """[dim]: unit vector from the v_DR of undamaged faces to that of heavily damaged ones."""
    faithful: float
    """Shift at dial -1 against the direction, relative to the length of v_DR."""
    realistic: float
    """Shift at dial 1 along the direction."""
    probes: Mapping[str, Probe]
    """By kind of damage."""
    error: Linear
    """log(1 + mean absolute error in 8-bit levels) from `face_report.error_features`."""
    imagined: Linear
    """Log odds of the share of detail that the original does not have, from `face_report.detail_features`."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Quality on the validation faces, and the sizes of the data: for people to read."""

    def apply_dial(self, v: Array, dial: float) -> Array:
        """v_DR [..., dim], edited by a dial in [-1, 1]; 0 leaves it unchanged."""
        step = dial * (self.realistic if dial > 0 else self.faithful)
        return np.asarray(shift_v(v, self.direction, step), np.float32)

    def adds(self, v: Array) -> bool:
        """Whether a face with this v_DR [dim] probably has noise or compression artifacts: damage that adds to a
        picture, where other damage only removes from it."""
        return any(kind in ADDING and probe.reliable and probe.presence(v) > 0 for kind, probe in self.probes.items())

    def save(self, path: Path) -> None:
        """Writes the file; equal calibrations give equal files. Raises PaniniError if it cannot be written."""
        text = json.dumps({"format": FORMAT} | _plain(self), indent=1) + "\n"
        write_file(path, text.encode())


def load(path: Path, digest: str) -> Calibration | None:
    """Reads a calibration; None if there is none, or if it is for weights with another digest.

    Raises PaniniError if the file is damaged.
    """
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT or data["weights"] != digest:
            return None
        return Calibration(
            weights=digest,
            direction=np.array(data["direction"], np.float32),
            faithful=float(data["faithful"]),
            realistic=float(data["realistic"]),
            probes={
                kind: Probe(_linear(p["presence"]), _linear(p["strength"]), p["accuracy"], p["correlation"])
                for kind, p in data["probes"].items()
            },
            error=_linear(data["error"]),
            imagined=_linear(data["imagined"]),
            measured=data["measured"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PaniniError(f"{path} is damaged: `panini calibrate` writes a new one") from error


def _linear(data: Mapping[str, Any]) -> Linear:
    return Linear(np.array(data["weights"], np.float32), float(data["bias"]))


def _plain(value: Any) -> Any:
    """Plain values for JSON, with five significant digits."""
    if isinstance(value, Calibration | Probe | Linear):
        return {name: _plain(part) for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float | np.floating) else value
