"""What `panini calibrate` measured of one weights file: the dial, what v_DR says of the damage, how far a result errs.

It is a small JSON file beside the weights and carries their digest, for it means nothing to others.
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
from panini.files import write_atomically

NAME = "calibration.json"
FORMAT = "panini-calibration-1"

DIAL_REACH = 0.5
"""The farthest that an end of the dial moves v_DR, in its own lengths: as far as training goes."""

RELIABLE = 0.65
"""Balanced accuracy below which a probe is not used."""

Array = NDArray[np.float32]
Vectors = TypeVar("Vectors", bound=Any)  # NumPy's or PyTorch's


def shift_v(v: Vectors, direction: Vectors, step: Any) -> Vectors:
    """v_DR [..., dim] edited: `step` of its own length (a number, or [..., 1]) along the unit vector `direction`. Its
    length stays, for the encoder fixes that."""
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
    """What v_DR says of one kind of damage."""

    presence: Linear
    """Positive where the kind is there: the logarithm of the odds, were it there in half of all pictures."""
    strength: Linear
    """How much of it, in about 0..1; see `panini.evaluation.probe.Damaged.strengths`."""
    accuracy: float
    """Balanced accuracy of telling its presence on faces that the probe was not fitted on; 0.5 knows nothing."""
    correlation: float
    """Spearman's of the strength, on these faces."""

    @property
    def reliable(self) -> bool:
        """Whether the probe tells the presence well enough to be used."""
        return self.accuracy >= RELIABLE


@dataclass(frozen=True)
class Calibration:
    """All that was measured; see `panini.report.face_report` for what is made of it."""

    weights: str
    """Digest of the weights file that it is for (`WeightsHeader.digest`)."""
    direction: Array
    """[dim]: from the v_DR of whole faces to that of heavily damaged ones, a unit vector."""
    faithful: float
    """How far the dial's -1 goes along it, in lengths of v_DR, against its direction."""
    realistic: float
    """How far its 1 goes."""
    probes: Mapping[str, Probe]
    """By kind of damage."""
    error: Linear
    """log(1 + mean absolute error, 8-bit levels) from `truth.error_features`."""
    imagined: Linear
    """Log odds of the share of detail that the truth does not bear out, from `truth.detail_features`."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures of merit on the validation faces, and what was fitted on: for people to read."""

    def apply_dial(self, v: Array, dial: float) -> Array:
        """v_DR [..., dim] edited by the dial in [-1, 1]; 0 leaves it."""
        step = dial * (self.realistic if dial > 0 else self.faithful)
        return np.asarray(shift_v(v, self.direction, step), np.float32)

    def adds(self, v: Array) -> bool:
        """Whether a face with this v_DR [dim] probably has noise or compression artifacts: damage that adds to a
        picture, where other damage only removes from it."""
        return any(kind in ADDING and probe.reliable and probe.presence(v) > 0 for kind, probe in self.probes.items())

    def save(self, path: Path) -> None:
        """Writes it; the same calibration is the same file. Raises PaniniError."""
        text = json.dumps({"format": FORMAT} | _plain(self), indent=1) + "\n"
        try:
            write_atomically(path, lambda file: file.write(text.encode()))
        except OSError as error:
            raise PaniniError(f"cannot write {path}: {error.strerror}") from error


def load(path: Path, digest: str) -> Calibration | None:
    """The calibration in `path`; None if there is none or it is for other weights than those of `digest`.

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
        raise PaniniError(f"{path} is damaged: `panini calibrate` writes it anew") from error


def _linear(data: Mapping[str, Any]) -> Linear:
    return Linear(np.array(data["weights"], np.float32), float(data["bias"]))


def _plain(value: Any) -> Any:
    """For JSON, with as many digits as matter."""
    if isinstance(value, Calibration | Probe | Linear):
        return {name: _plain(part) for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float | np.floating) else value
