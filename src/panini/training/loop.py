"""One loop for every training: one process or many, checkpoints written whole, exact resumption, a validation table."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from panini.degradation.torch import apply_batch
from panini.errors import PaniniError, first_line
from panini.files import write_atomically
from panini.photo.pixels import Pixels
from panini.training.config import Hardware, Optimizer, RunConfig
from panini.training.data import DamagedSamples
from panini.training.muon import Muon

Module = TypeVar("Module", bound=nn.Module)
Config = TypeVar("Config", bound=RunConfig)


@dataclass(frozen=True)
class Validation:
    """What validation found."""

    score: float
    """The lower the better: the best weights are kept by it."""
    text: str
    """Markdown, appended to `validation.md`."""
    scalars: Mapping[str, float]
    picture: Pixels | None = None
    """A grid to look at."""


class _MixedPrecision(MixedPrecision):
    """Autocast that leaves the pictures as they are: in bfloat16 they would lose the last of their eight bits."""

    def convert_input(self, data: Any) -> Any:
        return data


def _fabric(hardware: Hardware) -> Fabric:
    try:
        settings: dict[str, Any] = {"devices": hardware.devices, "strategy": hardware.strategy}
        if hardware.precision.endswith("-mixed"):
            device = Fabric(accelerator=hardware.accelerator, devices=1).device.type
            settings["plugins"] = _MixedPrecision(hardware.precision, device)  # type: ignore[arg-type]
        else:
            settings["precision"] = hardware.precision
        return Fabric(accelerator=hardware.accelerator, **settings)
    except (ValueError, RuntimeError, TypeError) as error:
        raise PaniniError(f"hardware: {error}") from error


def gathered(rows: Tensor) -> Tensor:
    """The rows [N, ...] of all processes, [processes * N, ...], without gradients; of one, they themselves."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    parts = rows.new_empty((torch.distributed.get_world_size(), *rows.shape))
    torch.distributed.all_gather(list(parts), rows.contiguous())
    return parts.flatten(0, 1)  # not by `cat`, which in autocast refuses half precision on a CPU


def channels_last(module: Module) -> Module:
    """In place; on a CPU, convolutions of these networks are a third faster so."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def make_optimizer(config: Optimizer, groups: Iterable[tuple[float, Sequence[nn.Parameter]]]) -> torch.optim.Optimizer:
    """groups: (scale of the learning rate, parameters)."""
    rows = [{"params": list(parameters), "scale": scale} for scale, parameters in groups]
    if config.name == "sgd":
        return torch.optim.SGD(rows, config.lr, config.momentum, weight_decay=config.weight_decay)
    kind = {"muon": Muon, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
    return kind(rows, config.lr, (config.momentum, config.beta2), weight_decay=config.weight_decay)


def learning_rate(config: Optimizer, step: int, steps: int) -> float:
    """At `step` of a run of `steps`."""
    progress = min(step / (config.schedule_steps or steps), 1.0)
    if config.schedule == "cosine":
        factor = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "steps":
        factor = 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    else:
        factor = 1.0
    return config.lr * min(1.0, (step + 1) / max(config.warmup, 1)) * factor


class Training(ABC, Generic[Config]):
    """A run: its folder holds `config.json`, `log.csv`, `last.pt` (all that resuming needs), and what validation
    makes: `validation.md`, grids, `best.pt`; TensorBoard reads the same numbers from `tensorboard/`.

    Making it reads data and weights, and goes on from `last.pt` if there is one. Subclasses set up `objective` (whose
    forward takes a batch and the step, and returns weighted terms), `samples` and the modules that a checkpoint holds.
    """

    objective: nn.Module
    samples: DamagedSamples

    def __init__(self, config: Config) -> None:
        self.config: Config = config
        hardware = config.hardware
        self.folder = Path(config.output)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))
        except OSError as error:
            raise PaniniError(f"cannot write to {self.folder}: {error.strerror}") from error
        if hardware.threads:
            torch.set_num_threads(hardware.threads)
        cv2.setNumThreads(1)
        self.fabric = _fabric(hardware)
        self.fabric.launch()
        torch.manual_seed(config.seed)
        self.step = 0
        self.best = float("inf")
        self.set_up()
        self.optimizers = self.make_optimizers()
        checkpoint = self.folder / "last.pt"
        if checkpoint.exists():
            self._resume(checkpoint)
        else:
            self.begin()
            self._check_space()

    # --- what a training is -------------------------------------------------------------------------------------------

    @abstractmethod
    def set_up(self) -> None:
        """Makes `objective`, `samples` and all else."""

    @abstractmethod
    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the modules of `set_up`; wraps them for the devices with `self.fabric`."""

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""

    @abstractmethod
    def update(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step on `batch` (on the device, damaged): the terms, weighted."""

    def begin(self) -> None:
        """Before the first step of a run that starts anew."""

    def finish(self) -> None:
        """After the last step, before it is validated and kept; by the first process alone."""

    def validate(self) -> Validation | None:
        """How good the weights are now."""
        return None

    def result(self) -> dict[str, Tensor]:
        """The state dict that is kept as `best.pt`."""
        raise NotImplementedError

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Trains from where the run stands to `config.steps`. Raises PaniniError if the loss is no number."""
        config, fabric = self.config, self.fabric
        log = _Log(self.folder, self.step) if fabric.is_global_zero else None
        bar = tqdm(
            total=config.steps * config.batch * fabric.world_size,
            initial=self.step * config.batch * fabric.world_size,
            unit="sample",
            dynamic_ncols=True,
            disable=not fabric.is_global_zero,
        )
        with bar:
            for batch in self.looks(self._numbers(), config.batch):
                terms = self.update(batch)
                self.step += 1
                if log:
                    log.write(self.step, terms)
                    bar.set_postfix({"loss": f"{sum(terms.values()):.3f}"}, refresh=False)
                bar.update(config.batch * fabric.world_size)
                if self.step == config.steps:
                    if fabric.is_global_zero:
                        self.finish()
                    fabric.barrier()
                self._keep(log)

    def _numbers(self) -> list[int]:
        """Of the samples of this process, for the steps that are left."""
        fabric, batch = self.fabric, self.config.batch
        return [
            (step * fabric.world_size + fabric.global_rank) * batch + i
            for step in range(self.step, self.config.steps)
            for i in range(batch)
        ]

    def looks(self, numbers: Sequence[int], batch: int) -> Iterator[dict[str, Tensor]]:
        """The samples of these numbers in batches, on the device and damaged."""
        loader = DataLoader(
            self.samples,
            batch,
            sampler=numbers,
            num_workers=self.config.hardware.workers,
            generator=torch.Generator(),  # of its own: nothing here draws from the global one
            pin_memory=self.fabric.device.type == "cuda",
        )
        for items in loader:
            yield self._damaged(self.fabric.to_device(items))

    def _damaged(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if "given" in batch:
            return batch
        truth = batch["truth"]
        pictures = truth.flatten(0, -4)
        each = len(pictures) // len(truth)  # canvases an item
        drawn = [self.samples.degradation(i) for i in batch["index"].tolist() for _ in range(each)]
        chance = torch.Generator(truth.device).manual_seed(drawn[0][1])
        return batch | {"given": apply_batch(pictures, [damage for damage, _ in drawn], chance).view_as(truth)}

    def descend(
        self,
        terms: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        module: nn.Module,
        settings: Optimizer | None = None,
    ) -> dict[str, float]:
        """One step of `optimizer`, whose parameters are those of `module`, down the sum of `terms`, as `settings` say
        (those of the run if not given)."""
        config = settings or self.config.optimizer
        rate = learning_rate(config, self.step, self.config.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        total = torch.stack(list(terms.values())).sum()
        if not total.isfinite():
            damages = "; ".join(str(self.samples.degradation(i)[0]) for i in batch["index"].tolist())
            raise PaniniError(f"the loss is {total.item()} at step {self.step}, on faces damaged by: {damages}")
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        if config.clip:
            self.fabric.clip_gradients(module, optimizer, max_norm=config.clip, error_if_nonfinite=False)
        optimizer.step()
        return {name: term.item() for name, term in terms.items()}

    def _keep(self, log: _Log | None) -> None:
        config, last = self.config, self.step == self.config.steps
        if config.validate_every and (self.step % config.validate_every == 0 or last):
            if log and (found := self.validate()):
                log.validated(self.step, found)
                if found.score < self.best:
                    self.best = found.score
                    _save(self.folder / "best.pt", self.result())
            self.fabric.barrier()
        if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
            state = self._state()
            if self.fabric.is_global_zero:
                _save(self.folder / "last.pt", state)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "modules": {name: module.state_dict() for name, module in self.modules().items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "best": self.best,
        }

    def _resume(self, checkpoint: Path) -> None:
        try:
            state = torch.load(checkpoint, weights_only=True, map_location=self.fabric.device)
            for name, module in self.modules().items():
                module.load_state_dict(state["modules"][name])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.step, self.best = state["step"], state["best"]
        except Exception as error:  # torch raises a dozen kinds for a file that is not one of its own
            raise PaniniError(
                f"cannot go on from {checkpoint}; move it away to start anew: {first_line(error)}"
            ) from error

    def _check_space(self) -> None:
        parameters = sum(p.numel() * p.element_size() for m in self.modules().values() for p in m.parameters())
        needed, free = 5 * parameters, shutil.disk_usage(self.folder).free  # weights, two moments, the old file beside
        if free < needed:
            raise PaniniError(f"{self.folder}: checkpoints need {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free")


def _save(path: Path, state: Any) -> None:
    try:
        write_atomically(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:  # torch turns some of the first into the second
        reason = getattr(error, "strerror", None) or first_line(error)
        raise PaniniError(f"cannot write {path} (what was there is kept): {reason}") from error


class _Log:
    """What a run says of itself: `log.csv`, TensorBoard, validation's tables and grids."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self._path = folder / "log.csv"
        rows = []
        if step and self._path.exists():  # rows after the checkpoint that we go on from are made again
            with self._path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if not row[0].isdigit() or int(row[0]) <= step]
        self._file = self._path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerows(rows)
        self._header = rows[0] if rows else []
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, terms: Mapping[str, float]) -> None:
        if not self._header:
            self._header = ["step", *terms]
            self._writer.writerow(self._header)
        self._writer.writerow([step, *(f"{terms.get(name, math.nan):.6g}" for name in self._header[1:])])
        self._file.flush()
        for name, value in terms.items():
            self._board.add_scalar(f"loss/{name}", value, step)

    def validated(self, step: int, found: Validation) -> None:
        with (self.folder / "validation.md").open("a") as out:
            out.write(f"\n## Step {step}\n{found.text}\n")
        for name, value in found.scalars.items():
            self._board.add_scalar(f"validation/{name}", value, step)
        if found.picture is not None:
            cv2.imwrite(str(self.folder / f"grid-{step:06d}.jpg"), cv2.cvtColor(found.picture, cv2.COLOR_RGB2BGR))
            self._board.add_image("faces", found.picture, step, dataformats="HWC")
        self._board.flush()
        tqdm.write(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.scalars.items()))
