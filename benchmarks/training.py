"""Samples per second of every training stage, beside those of the code that it replaced.

    python benchmarks/training.py --real FOLDER [--identity FILE] [--batch N] [--threads N] [--steps N] [--stages a1,b]

Each stage runs as its config says, but for the number of steps, without the first two. `BEFORE` was measured with the
code of version 0.1 on the machine and day that it names; compare with it only there.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from panini.training import config as configs
from panini.training.config import Hardware, RestorerConfig, UDRLConfig
from panini.training.restorer import RestorerTraining
from panini.training.udrl import UDRLTraining
from panini.weights import DEFAULT

BEFORE: dict[str, float] = {"b": 0.487, "c": 0.487, "udrl": 10.4}
"""Samples per second of version 0.1's code: its one restorer stage stands for b and c."""
BEFORE_WHERE = "2026-11-26, one thread of a Xeon with AMX under load, batch 2"
STAGES = ("r", "a1", "a2", "b", "p", "c", "udrl")
_CONFIGS = Path(__file__).parents[1] / "configs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", required=True, help="aligned faces, as `real` in a config")
    parser.add_argument("--identity", default="", help="mobilefacenet.safetensors; without it, no identity loss")
    parser.add_argument("--batch", type=int, default=0, help="instead of each config's own")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--stages", default=",".join(STAGES))
    arguments = parser.parse_args()
    print(f"| stage | batch | samples/s | version 0.1 ({BEFORE_WHERE}) |\n| --- | --- | --- | --- |")
    for stage in arguments.stages.split(","):
        with tempfile.TemporaryDirectory() as folder:
            training = _training(stage, folder, arguments)
            rate = _rate(training, arguments.steps)
        before = f"{BEFORE[stage]:.2f}" if stage in BEFORE else ""
        print(f"| {stage} | {training.config.batch} | {rate:.2f} | {before} |", flush=True)


def _training(stage: str, folder: str, arguments: argparse.Namespace) -> RestorerTraining | UDRLTraining:
    common = {
        "output": folder,
        "real": arguments.real,
        "hardware": Hardware(threads=arguments.threads),
        "minutes": 0.0,
        "steps": 1000,
        "validate_every": 0.0,
    }
    if arguments.batch:
        common["batch"] = arguments.batch
    if stage == "udrl":
        return UDRLTraining(replace(configs.load(UDRLConfig, _CONFIGS / "udrl.toml"), **common))
    config = configs.load(RestorerConfig, _CONFIGS / f"{stage}.toml")
    losses = config.losses if arguments.identity else replace(config.losses, identity=0.0)
    files = {"start": "", "encoder": str(DEFAULT), "identity": arguments.identity, "losses": losses}
    return RestorerTraining(replace(config, **common, **files))


def _rate(training: RestorerTraining | UDRLTraining, steps: int) -> float:
    """Samples (UDRL: damages) per second, the data's making included."""
    for step in range(steps + 2):
        if step == 2:
            began = perf_counter()
        total = training.update()["total"]
        training.step += 1
    total.item()  # waits for the device
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return steps * training.config.batch / (perf_counter() - began)


if __name__ == "__main__":
    main()
