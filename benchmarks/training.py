"""Times a training step of the default restorer, part by part, against the small prior's own forward and backward.

    python benchmarks/training.py --faces FOLDER [--batch N] [--threads N] [--precision bf16-mixed] [--repetitions N]

Everything is run in turns in one process, so that the ratios hold; times are the least of the repetitions, a sample.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from time import perf_counter

import torch
from torch.utils.data import default_collate

from panini.training.config import Hardware
from panini.training.restoration import RestorationConfig, RestorationTraining
from panini.weights import DEFAULT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="aligned faces, as `real` in a recipe")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    batch = arguments.batch
    with tempfile.TemporaryDirectory() as folder:
        training = RestorationTraining(
            RestorationConfig(
                output=folder,
                real=arguments.faces,
                start=str(DEFAULT),
                batch=batch,
                validate_every=0,
                hardware=Hardware(threads=arguments.threads, precision=arguments.precision),
            )
        )
        fabric, network, objective = training.fabric, training.network, training.restoration
        prior = network.prior
        item = default_collate([training.samples[i] for i in range(batch)])
        item = training._damaged(fabric.to_device(item))
        w = network.lce.mean.expand(batch, prior.latents, -1).clone().requires_grad_()

        def prior_whole() -> None:
            with fabric.autocast():
                picture = prior(w)
            picture.float().square().mean().backward()

        def prior_step() -> None:
            """The resolutions that a step runs at: all up to 128, a window beyond."""
            side = training.config.window
            with fabric.autocast():
                state = prior.features(w, network.dafi.resolutions[-1])[network.dafi.resolutions[-1]]
                window = network.generate(state.crop(0, 0, side), w)
            (state.features.float().square().mean() + window.float().square().mean()).backward()

        def encoder() -> None:
            with fabric.autocast():
                encoding = network.encode(item["given"])
            sum(f.float().square().mean() for f in encoding.image.values()).backward()  # type: ignore[union-attr]

        def perceptual() -> None:
            side = 2 * training.config.window  # half of a window at full size, or all of it at half
            ours = item["given"][..., :side, :side].clone().requires_grad_()
            with fabric.autocast():
                distance = objective.helpers.perceptual(ours, item["truth"][..., :side, :side])
            distance.mean().backward()

        parts: dict[str, Callable[[], object]] = {
            "a whole step": lambda: training.update(item),
            "data: a face read and damaged (beside it, in a worker)": lambda: [
                training.samples[i] for i in range(batch)
            ],
            "encoder, forward and backward": encoder,
            "prior, forward and backward, where a step runs it": prior_step,
            "prior, forward and backward, all 1024": prior_whole,
            "perceptual distance of a window, forward and backward": perceptual,
        }
        times = {name: [] for name in parts}  # type: dict[str, list[float]]
        for repetition in range(arguments.repetitions + 1):
            for name, part in parts.items():
                start = perf_counter()
                part()
                if repetition:
                    times[name].append((perf_counter() - start) / batch)
        own = min(times["prior, forward and backward, where a step runs it"])
        for name, values in times.items():
            print(f"{name}: {min(values):.3f} s a sample, {min(values) / own:.2f} x the prior's own")
        print(f"{1 / min(times['a whole step']):.2f} samples/s, batch {batch}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
