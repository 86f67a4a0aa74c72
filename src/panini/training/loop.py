"""One loop for every training: a schedule in wall-clock time or steps, scalars read every 20 steps, checkpoints written
whole, resumption, and the rules by which a run gives up.

A run is resumed from `last.pt` by the same command. What is drawn depends on the seed and the step alone, so a run of a
given number of steps that was stopped goes on as if it had not been.
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
from panini.files import write_atomically
from panini.photo.pixels import Pixels
from panini.training.config import Hardware, RunConfig

Config = TypeVar("Config", bound=RunConfig)

READ_EVERY = 20
"""Steps between two looks at the device's numbers; each look waits for it."""
WRITE_AT = (0.5, 0.9)
"""Shares of a run at which a checkpoint is written, besides those of `write_every` and the last one."""
SKIPPED_LIMIT = 0.25
"""Of the last `RECENT` steps: a run gives up if more of them had no finite gradient."""
RECENT = 200
GROWTH_LIMIT = 3.0
"""A run gives up if the loss of the last `RECENT` steps is so many times the least that it ever was over as many."""


@dataclass(frozen=True)
class Validation:
    """What validation found."""

    score: float
    """The lower the better: `best.pt` holds the weights of the lowest. Not the loss that is trained on."""
    text: str
    """Markdown, appended to `validation.md`."""
    scalars: Mapping[str, float]
    picture: Pixels | None = None
    """A grid to look at."""


def device_of(hardware: Hardware) -> torch.device:
    """The device of a config. Raises PaniniError if it is not there. What runs in float32 does so in full: no TF32."""
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
    torch.backends.cudnn.benchmark = device.type == "cuda"
    torch.backends.cudnn.allow_tf32 = False
    return device


class AbortRules:
    """When a run is beyond hope; see `SKIPPED_LIMIT` and `GROWTH_LIMIT`."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=RECENT // READ_EVERY)
        self._skipped: deque[float] = deque(maxlen=RECENT // READ_EVERY)
        self._least = math.inf

    def check(self, loss: float, skipped: float, steps: int = READ_EVERY) -> str | None:
        """loss: mean of the last `steps` steps; skipped: how many of these had no finite gradient. Returns the reason
        to give up, or None."""
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
    """A run: its folder holds `config.json`, `log.csv`, `last.pt` (all that resuming needs), and what validation
    makes: `validation.md`, grids, `best.pt`.

    Making it reads data and weights, and goes on from `last.pt` if there is one. `run` trains.
    """

    def __init__(self, config: Config) -> None:
        self.config: Config = config
        self.folder = Path(config.output)
        if not config.minutes and not config.steps:
            raise PaniniError("a run wants minutes or steps")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(dataclasses.asdict(config), indent=1)
            write_atomically(self.folder / "config.json", lambda file: file.write(text.encode()))
        except OSError as error:
            raise PaniniError(f"cannot write to {self.folder}: {error.strerror}") from error
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

    # --- what a training is -------------------------------------------------------------------------------------------

    @abstractmethod
    def set_up(self) -> None:
        """Makes networks, optimizers and data."""

    @abstractmethod
    def update(self) -> Mapping[str, Tensor]:
        """One step; the weighted terms of the loss as scalars that stay on the device, "total" their sum. Names that
        begin with "." are only logged."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds, for `load_state`."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`."""

    @abstractmethod
    def result(self) -> dict[str, Tensor]:
        """The weights that are kept as `best.pt`."""

    def read(self) -> dict[str, float]:
        """Called every `READ_EVERY` steps: further numbers for the log. May adjust what the next steps do."""
        return {}

    def skipped_steps(self) -> Tensor:
        """How many steps since this object was made had no finite gradient so far."""
        return torch.zeros((), device=self.device)

    def validate(self) -> Validation | None:
        """How good the weights are now."""
        return None

    # --- the loop -----------------------------------------------------------------------------------------------------

    @property
    def minutes(self) -> float:
        """Of training so far, over all runs of this folder."""
        return self._spent + (perf_counter() - self._began) / 60

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        config = self.config
        by_steps = self.step / config.steps if config.steps else 0.0
        by_time = self.minutes / config.minutes if config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> None:
        """Trains from where the run stands to its end, or until SIGTERM or Ctrl-C, upon which it writes and returns.

        Raises PaniniError if a rule says that it is beyond hope (`AbortRules`); `last.pt` is then an earlier state.
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
                        raise PaniniError(f"given up at step {self.step}: {reason}; {self.folder / 'last.pt'} is kept")
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
        except ValueError:  # not the main thread: nobody signals it
            before = {}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def write(self, log: Log) -> None:
        """A checkpoint; `log.csv` is on the disk by then, too."""
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
        except Exception as error:  # torch raises a dozen kinds for a file that is not one of its own
            raise PaniniError(
                f"cannot go on from {checkpoint}; move it away to start anew: {first_line(error)}"
            ) from error

    def _check_space(self) -> None:
        tensors = [t for part in self.state().values() for t in _tensors(part)]
        needed = 4 * sum(t.numel() * t.element_size() for t in tensors)  # moments, and the old file beside the new
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
    """Means, all in one copy from the device. A term that is not there at every step is the mean over all steps."""
    values = (torch.stack([value.float() for value in sums.values()]) / steps).tolist()
    return dict(zip(sums, values, strict=True))


def save(path: Path, state: Any) -> None:
    """`torch.save`, whole or not at all. Raises PaniniError."""
    try:
        write_atomically(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:  # torch turns some of the first into the second
        reason = getattr(error, "strerror", None) or first_line(error)
        raise PaniniError(f"cannot write {path} (what was there is kept): {reason}") from error


class Log:
    """What a run says of itself: `log.csv`, a line every 20 steps; validation's tables and grids; and the terminal."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self._path = folder / "log.csv"
        rows: list[list[str]] = []
        if step and self._path.exists():  # rows after the checkpoint that we go on from are made again
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
    """Those whose names begin with one of `prefixes`, up to a dot. Raises PaniniError if one names nothing."""
    found: dict[str, nn.Parameter] = {}
    for prefix in prefixes:
        some = {name: p for name, p in network.named_parameters() if f"{name}.".startswith(f"{prefix}.")}
        if not some:
            raise PaniniError(f"train: the network has nothing called {prefix!r}")
        found |= some
    return list(found.items())
