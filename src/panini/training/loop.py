"""The training loop: a schedule in wall-clock time or steps, a log line every 20 steps, atomic checkpoints, resumption,
and rules to abort a run.

The same command resumes a run from `last.pt`. Random draws depend only on the seed and the step, so a resumed run of a
given number of steps gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch import Tensor, nn

from panini.errors import PaniniError, first_line
from panini.files import make_folder, write_atomically, write_file
from panini.photo.pixels import Pixels
from panini.training.config import Hardware, RunConfig

Config = TypeVar("Config", bound=RunConfig)

READ_EVERY = 20
"""Steps between two reads of scalars from the device; each read synchronizes with it."""
WRITE_AT = (0.5, 0.9)
"""Fractions of a run at which a checkpoint is written, in addition to those of `write_every` and the last one."""
SKIPPED_LIMIT = 0.25
"""A run is aborted if a larger fraction of the last `RECENT` steps had a non-finite gradient."""
RECENT = 200
_BENCHMARKED = 4
"""Kernels that cuDNN tries for each convolution, of PyTorch's 10: its heuristic ranks them, so the fastest one should
be among the first, and trying the slow ones costs most of the time."""
GROWTH_LIMIT = 3.0
"""A run is aborted if its mean loss over the last `RECENT` steps exceeds the lowest such mean by this factor."""


@dataclass(frozen=True)
class Validation:
    """The result of a validation."""

    score: float
    """Lower is better: `best.pt` has the weights with the lowest score. It is not the training loss."""
    text: str
    """Markdown, appended to `validation.md`."""
    scalars: Mapping[str, float]
    picture: Pixels | None = None
    """A grid of faces."""


def device_of(hardware: Hardware) -> torch.device:
    """The device of a config; disables TF32. Raises PaniniError if the device is not available."""
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    cv2.setNumThreads(1)
    name = hardware.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PaniniError(f"hardware.device: {first_line(error)}") from error
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = _BENCHMARKED
    torch.backends.cudnn.allow_tf32 = False
    return device


class AbortRules:
    """Decides when to abort a run; see `SKIPPED_LIMIT` and `GROWTH_LIMIT`."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=RECENT // READ_EVERY)
        self._skipped: deque[float] = deque(maxlen=RECENT // READ_EVERY)
        self._least = math.inf

    def check(self, loss: float, skipped: float, steps: int = READ_EVERY) -> str | None:
        """loss: mean of the last `steps` steps; skipped: how many of these had a non-finite gradient. Returns the
        reason to abort, or None."""
        self._skipped.append(skipped / steps)
        if math.isfinite(loss):
            self._losses.append(loss)
        if len(self._skipped) == self._skipped.maxlen:
            share = sum(self._skipped) / len(self._skipped)
            if share > SKIPPED_LIMIT:
                return f"{share:.0%} of the last {RECENT} steps had no finite gradient"
        if len(self._losses) == self._losses.maxlen:
            mean = sum(self._losses) / len(self._losses)
            self._least = min(self._least, mean)
            if mean > GROWTH_LIMIT * max(self._least, 1e-6):
                return f"the loss grew from {self._least:.3g} to {mean:.3g}"
        return None


class Training(ABC, Generic[Config]):
    """A run. Its folder contains `config.json`, `log.csv`, `last.pt` (everything that resuming needs) and, from
    validations, `validation.md`, grids and `best.pt`.

    The constructor reads data and weights, and resumes from `last.pt` if it exists. `run` trains.
    """

    def __init__(self, config: Config) -> None:
        self.config: Config = config
        self.folder = Path(config.output)
        if not config.minutes and not config.steps:
            raise PaniniError("set minutes or steps")
        make_folder(self.folder)
        write_file(self.folder / "config.json", json.dumps(dataclasses.asdict(config), indent=1).encode())
        self.device = device_of(config.hardware)
        torch.manual_seed(config.seed)
        self.step = 0
        self.best = math.inf
        self.skipped = 0.0
        self._spent = 0.0  # minutes of earlier runs
        self._began = perf_counter()
        self._stop = False
        self.set_up()
        checkpoint = self.folder / "last.pt"
        if checkpoint.exists():
            self._resume(checkpoint)
        else:
            self._check_space()

    # --- for subclasses -----------------------------------------------------------------------------------------------

    @abstractmethod
    def set_up(self) -> None:
        """Creates networks, optimizers and data."""

    @abstractmethod
    def update(self) -> Mapping[str, Tensor]:
        """Does one step. Returns the weighted loss terms as scalars on the device, and their sum as "total". Terms
        whose names begin with "." are only logged."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The content of a checkpoint, for `load_state`."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resumes from `state`."""

    @abstractmethod
    def result(self) -> dict[str, Tensor]:
        """The weights to write to `best.pt`."""

    def read(self) -> dict[str, float]:
        """Returns more values for the log; called every `READ_EVERY` steps. May adjust the next steps."""
        return {}

    def skipped_steps(self) -> Tensor:
        """The number of steps with a non-finite gradient since this object was created."""
        return torch.zeros((), device=self.device)

    def validate(self) -> Validation | None:
        """Validates the current weights."""
        return None

    # --- the loop -----------------------------------------------------------------------------------------------------

    @property
    def minutes(self) -> float:
        """Minutes of training so far, over all runs of this folder."""
        return self._spent + (perf_counter() - self._began) / 60

    @property
    def progress(self) -> float:
        """The completed fraction of the run, 0 to 1."""
        config = self.config
        by_steps = self.step / config.steps if config.steps else 0.0
        by_time = self.minutes / config.minutes if config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> None:
        """Trains until the end of the run. On SIGTERM or Ctrl-C, writes a checkpoint and returns.

        Raises PaniniError if `AbortRules` aborts the run; `last.pt` is then an earlier state.
        """
        self._began = perf_counter()
        log, rules = Log(self.folder, self.step), AbortRules()
        sums: dict[str, Tensor] = {}
        marks = [share for share in WRITE_AT if share > self.progress]
        written = validated = self.minutes
        skipped = float(self.skipped_steps())
        with self._stopped_by_signal():
            while (progress := self.progress) < 1 and not self._stop:
                torch.manual_seed(self.config.seed * 1_000_003 + self.step)
                for name, value in self.update().items():
                    sums[name] = sums[name] + value if name in sums else value.detach().clone()
                self.step += 1
                if self.step % READ_EVERY == 0:
                    terms = _read(sums, READ_EVERY) | self.read()
                    sums = {}
                    now = float(self.skipped_steps())
                    self.skipped += now - skipped
                    log.write(self.step, self._about(terms))
                    if reason := rules.check(terms["total"], now - skipped):
                        raise PaniniError(
                            f"stopped at step {self.step} because {reason}; {self.folder / 'last.pt'} is kept"
                        )
                    skipped = now
                if (marks and progress >= marks[0]) or self.minutes - written >= self.config.write_every:
                    marks = [share for share in marks if share > progress]
                    self.write(log)
                    written = self.minutes
                if self.config.validate_every and self.minutes - validated >= self.config.validate_every:
                    self._validate(log)
                    validated = self.minutes
        if self.config.validate_every and not self._stop:
            self._validate(log)
        self.write(log)
        log.close()

    def _about(self, terms: Mapping[str, float]) -> dict[str, float]:
        seen = float(self.step * self.config.batch)
        return {"minutes": self.minutes, "samples": seen, "skipped": self.skipped, **terms}

    @contextmanager
    def _stopped_by_signal(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._stop = True

        try:
            before = {which: signal.signal(which, stop) for which in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # only the main thread can handle signals
            before = {}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def write(self, log: Log) -> None:
        """Writes a checkpoint, after flushing `log.csv` to the disk."""
        log.flush()
        save(self.folder / "last.pt", self._whole_state())

    def _validate(self, log: Log) -> None:
        if found := self.validate():
            log.validated(self.step, found)
            if found.score < self.best:
                self.best = found.score
                save(self.folder / "best.pt", self.result())

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _whole_state(self) -> dict[str, Any]:
        return {"step": self.step, "best": self.best, "minutes": self.minutes, "skipped": self.skipped} | self.state()

    def _resume(self, checkpoint: Path) -> None:
        try:
            state = torch.load(checkpoint, weights_only=True, map_location=self.device)
            self.load_state(state)
            self.step, self.best = state["step"], state["best"]
            self._spent, self.skipped = state["minutes"], state["skipped"]
        except Exception as error:  # torch raises many types of exceptions for invalid files
            raise PaniniError(
                f"cannot resume from {checkpoint}; move it away to start over: {first_line(error)}"
            ) from error

    def _check_space(self) -> None:
        tensors = [t for part in self.state().values() for t in _tensors(part)]
        needed = 4 * sum(t.numel() * t.element_size() for t in tensors)  # with moments and the old file
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise PaniniError(f"{self.folder}: checkpoints need {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)


def _read(sums: Mapping[str, Tensor], steps: int) -> dict[str, float]:
    """Means over `steps`, with a single copy from the device. Terms that are missing in a step count as 0 there."""
    values = (torch.stack([value.float() for value in sums.values()]) / steps).tolist()
    return dict(zip(sums, values, strict=True))


def save(path: Path, state: Any) -> None:
    """Like `torch.save`, but atomic. Raises PaniniError."""
    try:
        write_atomically(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:  # torch converts some OSErrors
        reason = getattr(error, "strerror", None) or first_line(error)
        raise PaniniError(f"cannot write {path}; the old file is unchanged: {reason}") from error


class Log:
    """Writes the log: `log.csv` with a line every 20 steps, tables and grids of validations, and lines on the
    terminal."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self._path = folder / "log.csv"
        rows: list[list[str]] = []
        if step and self._path.exists():  # rows after the checkpoint are written again
            with self._path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if row and (not row[0].isdigit() or int(row[0]) <= step)]
        self._file = self._path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerows(rows)
        self._header = rows[0] if rows else []
        self._shown = -math.inf

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if not self._header:
            self._header = ["step", *values]
            self._writer.writerow(self._header)
        self._writer.writerow([step, *(f"{values.get(name, math.nan):.6g}" for name in self._header[1:])])
        if perf_counter() - self._shown > 10:
            self._shown = perf_counter()
            self.flush()
            print(f"step {step}: " + " ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True)

    def validated(self, step: int, found: Validation) -> None:
        with (self.folder / "validation.md").open("a") as out:
            out.write(f"\n## Step {step}\n{found.text}\n")
        if found.picture is not None:
            cv2.imwrite(str(self.folder / f"grid-{step:06d}.jpg"), cv2.cvtColor(found.picture, cv2.COLOR_RGB2BGR))
        scalars = ", ".join(f"{name} {value:.4g}" for name, value in found.scalars.items())
        print(f"step {step}: {scalars}", flush=True)

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def parameters_of(network: nn.Module, prefixes: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
    """Parameters whose names begin with one of `prefixes` and a dot. Raises PaniniError if there are none for a
    prefix."""
    found: dict[str, nn.Parameter] = {}
    for prefix in prefixes:
        some = {name: p for name, p in network.named_parameters() if f"{name}.".startswith(f"{prefix}.")}
        if not some:
            raise PaniniError(f"train: the network has no module {prefix!r}")
        found |= some
    return list(found.items())
