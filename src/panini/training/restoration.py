"""Training of the restorer: image losses on whole faces (a quarter of the size) and on full-resolution windows,
distillation where the prior's own answer is known. Resumable; validation keeps the best weights."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from panini.checkpoint import build
from panini.errors import PaniniError
from panini.evaluation.stlpips import STLPIPS
from panini.evaluation.validation import Face, Scorer, Scores, grid, load_faces, table, validate
from panini.images import write_atomically
from panini.nn.panini_net import PaniniNet
from panini.nn.prior import MobilePrior
from panini.pixels import Signed
from panini.prior_wheel import load_mobile_prior
from panini.training.data import Faces, RestorationSamples, check_disjoint
from panini.training.losses import PreviewHead, distillation
from panini.training.trust import train_trust
from panini.wheels import PRIOR, fetch_wheel

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class RestorationConfig:
    """One training run. Paths are relative to where the command is run."""

    output: str = "runs/restorer"
    preset: str = "default"
    real: str = "../shared/data/train"  # tar shards with index.json, or a folder of aligned faces
    sampled: str = ""  # folder of prior samples with w.npy; none if empty
    validation: str = "../shared/data/val"
    prior: str = ""  # random-face wheel; fetched from PyPI if empty
    dre: str = ""  # state dict of a pre-trained degradation encoder; from scratch if empty
    mixture: Mapping[str, float] = field(default_factory=lambda: {"paper": 0.75, "sr16": 0.15, "wild": 0.1})
    trust_steps: int = 400  # of `training.trust`, before a run that starts from nothing
    prior_share: float = 0.35
    seed: int = 0
    steps: int = 2000
    schedule_steps: int = 0  # where the learning rate's cosine ends; `steps` if 0
    batch: int = 4
    lr: float = 4e-4
    start: str = ""  # state dict of the whole network to start from
    deciding_lr: float = 4.0  # times lr: the small networks that decide by v_DR, which learn slowly otherwise
    train_dre: bool = False  # with image losses alone, v_DR drifts to one value for every picture
    train_prior: bool = False
    warmup: int = 50
    ema: float = 0.995
    window: int = 32  # side of the full-resolution window, in pixels of the 128x128 features
    l1: float = 2.0
    l1_generated: float = 0.5  # the same before the picture's own bands are put back
    perceptual: float = 1.0
    feature: float = 0.1
    latent: float = 0.1
    checkpoint_every: int = 50
    validate_every: int = 400  # 0: never
    validate_faces: int = 16
    threads: int = 0  # 0: all cores
    workers: int = 1

    @classmethod
    def load(cls, path: Path, overrides: Iterable[str] = ()) -> RestorationConfig:
        """From a TOML file; each override is "key=value" with a TOML value. Raises PaniniError on anything unknown."""
        try:
            values = tomllib.loads(path.read_text())
            for override in overrides:
                values |= tomllib.loads(override)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise PaniniError(f"config {path}: {error}") from error
        if unknown := values.keys() - {f.name for f in dataclasses.fields(cls)}:
            raise PaniniError(f"config {path}: unknown {', '.join(sorted(unknown))}")
        return cls(**values)


def _open_faces(folder: str) -> Faces:
    path = Path(folder)
    return Faces.from_shards(path) if (path / "index.json").exists() else Faces.from_folder(path)


def _channels_last(module: Module) -> Module:
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _write_whole(path: Path, state: Any) -> None:
    write_atomically(path, lambda file: torch.save(state, file))


class RestorationTraining:
    """The state of a run: network, its moving average, optimizer, step. `run` takes it to the end."""

    def __init__(self, config: RestorationConfig) -> None:
        self.config = config
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        cv2.setNumThreads(1)

        self.samples = RestorationSamples(
            _open_faces(config.real),
            _open_faces(config.sampled) if config.sampled else None,
            config.mixture,
            config.prior_share,
            config.seed,
        )
        if config.validate_every:
            check_disjoint([self.samples.real], Path(config.validation))
        # On a CPU, convolutions of this network are a third faster with channels last.
        self.network = _channels_last(self._build().train())
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        prior = self.network.prior
        assert isinstance(prior, MobilePrior)
        self.preview = PreviewHead.fit(prior)
        self.perceptual = _channels_last(STLPIPS().eval())
        self.optimizer = torch.optim.AdamW(self._groups(), config.lr, (0.9, 0.99), weight_decay=1e-3)
        self.step = 0
        self.best = float("inf")
        checkpoint = self.folder / "last.pt"
        if checkpoint.exists():
            self._resume(checkpoint)
        elif config.trust_steps and not (config.start or config.dre):
            self._pretrain()
        self.network.dre.requires_grad_(config.train_dre).eval()  # batches are too small for batch statistics

    def _build(self) -> PaniniNet:
        network = build(self.config.preset)
        prior, _ = load_mobile_prior(Path(self.config.prior) if self.config.prior else fetch_wheel(PRIOR))
        network.prior.load_state_dict(prior.state_dict())
        network.lce.mean.copy_(prior.mean_latent)  # type: ignore[operator]
        network.prior.requires_grad_(self.config.train_prior)
        network.dre.projection.requires_grad_(False)  # type: ignore[union-attr]
        if self.config.start:
            network.load_state_dict(torch.load(self.config.start, weights_only=True))
        elif self.config.dre:
            network.dre.load_state_dict(torch.load(self.config.dre, weights_only=True))
        return network

    def _groups(self) -> list[dict[str, Any]]:
        network = self.network
        assert network.picture is not None
        scales = {id(p): 0.1 for p in network.prior.parameters()}
        for deciding in (network.dafi.mlp, network.picture.mlp):
            scales |= {id(p): self.config.deciding_lr for p in deciding.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in network.parameters():
            if parameter.requires_grad:
                groups.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
        return [{"params": parameters, "scale": scale} for scale, parameters in groups.items()]

    def _pretrain(self) -> None:
        """What the rest of the network decides by, before the rest (`training.trust`)."""
        for step, error in enumerate(train_trust(self.network, self.samples, self.config.trust_steps), 1):
            if step % 20 == 0:
                print(f"trust, step {step}: mean error {error:.3f}", flush=True)
        self.average.load_state_dict(self.network.state_dict())

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "rng": torch.get_rng_state(),
        }

    def _resume(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = state["step"], state["best"]
        torch.set_rng_state(state["rng"])

    def _learning_rate(self) -> float:
        c = self.config
        progress = min(self.step / (c.schedule_steps or c.steps), 1.0)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return c.lr * min(1.0, (self.step + 1) / c.warmup) * (0.02 + 0.98 * cosine)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms of one batch; their sum is what is minimised."""
        c, network = self.config, self.network
        picture = network.picture
        assert picture is not None
        given, truth = (batch[k].contiguous(memory_format=torch.channels_last) for k in ("given", "truth"))
        encoding = network.encode(given)
        state = network.fused(encoding)
        bands = picture.weights(encoding.v)

        if self.step % 2:
            # Every other step the picture gives only what is coarser than 1/64 of the face. Otherwise the easy way,
            # taking every band from it, is found first, and the rest of the network is never asked for detail.
            bands = (torch.arange(picture.bands) >= picture.bands - 3).to(bands).expand_as(bands)

        # The whole face at 256: what is where, and its colours.
        generated = self.preview(state.features)
        truth256 = F.avg_pool2d(truth, 2)
        whole = picture(F.avg_pool2d(given, 2), generated, bands[:, 1:])
        terms = {
            "l1": c.l1 * F.l1_loss(whole, truth256),
            "l1_generated": c.l1_generated * F.l1_loss(generated, truth256),
        }
        # A window at the full resolution: texture. Truth has half of it, so that is where they are compared.
        row, column = torch.randint(0, state.features.shape[-1] - c.window + 1, (2,)).tolist()
        rows, columns = (slice(4 * start, 4 * (start + c.window)) for start in (row, column))
        window = network.generate(state.crop(row, column, c.window), encoding.w)
        window = F.avg_pool2d(picture(given[..., rows, columns], window, bands), 2)
        ours, theirs = window, truth[..., rows, columns]
        terms["l1_window"] = c.l1 * F.l1_loss(ours, theirs)
        if self.step % 4 < 2:  # in turns with that, the perceptual network looks at a part of the whole face instead
            row, column = torch.randint(0, 256 - 4 * c.window + 1, (2,)).tolist()
            rows, columns = (slice(start, start + 4 * c.window) for start in (row, column))
            ours, theirs = whole[..., rows, columns], truth256[..., rows, columns]
        terms["perceptual"] = c.perceptual * self.perceptual(ours, theirs).mean()
        feature, latent = distillation(network, encoding, batch["w"], batch["known"])
        return terms | {"feature": c.feature * feature, "latent": c.latent * latent}

    def _update(self, batch: dict[str, Tensor]) -> dict[str, float]:
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        terms = self.losses(batch)
        total = torch.stack(list(terms.values())).sum()
        if not total.isfinite():
            raise PaniniError(f"the loss is {total.item()} at step {self.step}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 1.0)
        self.optimizer.step()
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for ours, theirs in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                ours.lerp_(theirs, 1 - decay) if ours.is_floating_point() else ours.copy_(theirs)
        self.step += 1
        return {"total": total.item()} | {name: term.item() for name, term in terms.items()}

    @torch.no_grad()
    def _restore(self, faces: Signed) -> Signed:
        result: Signed = self.average(torch.from_numpy(faces)).numpy()
        return result

    def _validate(self, faces: list[Face], scorer: Scorer, known: dict[tuple[str, str], Scores]) -> None:
        rows = validate(self._restore, faces, scorer, known)
        mean = Scores.mean(r.result for r in rows)
        with (self.folder / "validation.md").open("a") as out:
            out.write(f"\n## Step {self.step}, {self.step * self.config.batch} samples\n{table(rows)}\n")
        picture = cv2.cvtColor(grid(self._restore, faces[:6]), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(self.folder / f"grid-{self.step:06d}.jpg"), picture)
        print(f"step {self.step}: validation ST-LPIPS {mean.stlpips:.4f}, PSNR {mean.psnr:.2f}", flush=True)
        if mean.stlpips < self.best:
            self.best = mean.stlpips
            _write_whole(self.folder / "best.pt", self.average.state_dict())

    def run(self) -> None:
        """Trains from where the run stands to `config.steps`."""
        c = self.config
        faces: list[Face] = []
        if c.validate_every:
            # Even names choose between recipes and checkpoints, odd ones report.
            faces = [f for f in load_faces(Path(c.validation)) if int(f.name) % 2 == 0]
            faces = faces[:: max(1, len(faces) // c.validate_faces)][: c.validate_faces]
        # A new network here would draw from the generator whose state was resumed.
        scorer, known = Scorer(self.perceptual), dict[tuple[str, str], Scores]()
        loader = DataLoader(
            self.samples,
            c.batch,
            sampler=range(self.step * c.batch, c.steps * c.batch),
            num_workers=c.workers,
            generator=torch.Generator(),  # of its own, or it would draw from the one whose state is resumed
        )
        log = (self.folder / "log.csv").open("a", newline="")
        writer = csv.writer(log)
        start, first = time.monotonic(), self.step
        for batch in loader:
            terms = self._update(batch)
            writer.writerow([self.step, *(f"{v:.5f}" for v in terms.values())])
            if self.step % 10 == 0:
                rate = (self.step - first) * c.batch / (time.monotonic() - start)
                print(f"step {self.step}: {rate:.2f} samples/s", {k: round(v, 3) for k, v in terms.items()}, flush=True)
                log.flush()
            if self.step % c.checkpoint_every == 0 or self.step == c.steps:
                _write_whole(self.folder / "last.pt", self._state())
            if c.validate_every and (self.step % c.validate_every == 0 or self.step == c.steps):
                self._validate(faces, scorer, known)
        log.close()
