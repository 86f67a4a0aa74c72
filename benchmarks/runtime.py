"""Times one face (512 in, 1024 out) against the prior's own synthesis, both in ONNX Runtime, and PyTorch beside them.

    python benchmarks/runtime.py [--weights FILE] [--threads N] [--repetitions N] [--no-torch]

Ratios are what counts: everything is run in turns in one process. Peak memory and load time are those of a process of
their own that loads the engine and restores one face.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import torch

from panini.inference import at_every_level
from panini.inference.onnx import OnnxEngine
from panini.inference.torch import TorchEngine
from panini.weights import DEFAULT
from panini.weights.checkpoint import load_weights
from panini.weights.export import export_module

_ONE_FACE = """
import re, resource, sys
from pathlib import Path
from time import perf_counter
import numpy as np
from panini.inference.onnx import OnnxEngine
def peak():
    if sys.platform == "linux":  # where getrusage counts the process before exec too
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
bare, start = peak(), perf_counter()
engine = OnnxEngine(Path(sys.argv[1]), int(sys.argv[2]))
loaded, seconds = peak(), perf_counter() - start
faces = np.zeros((1, 3, engine.input_size, engine.input_size), np.float32)
for _ in range(2):
    own = engine.degradation(faces)
    engine.restore(faces, own[:, None].repeat(engine.levels + 1, 1), own)
print(f"load {seconds:.2f} s; peak memory {peak():.0f} MB ({bare:.0f} before, {loaded:.0f} after loading)")
"""


def synthesis(weights: Path, threads: int, folder: Path) -> Callable[[], object]:
    """The prior alone in ONNX Runtime: w+ of the mean face -> picture."""
    import onnxruntime  # after `panini`, which turns its telemetry off

    network = load_weights(weights)
    mean = network.lce.mean
    assert isinstance(mean, torch.Tensor)
    w = mean.expand(2, network.prior.latents, -1).contiguous()
    onnx.save(export_module(network.prior, {"w": w}, ["images"]), folder / "prior.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "prior.onnx", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"w": w[:1].numpy()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()

    engine = OnnxEngine(options.weights, options.threads)
    faces = np.random.default_rng(0).uniform(-1, 1, (1, 3, engine.input_size, engine.input_size)).astype(np.float32)
    own = engine.degradation(faces)
    v = at_every_level(own, engine.levels)
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[], object]] = {
            "prior's synthesis": synthesis(options.weights, options.threads, Path(folder)),
            "DRE": lambda: engine.degradation(faces),
            "restorer": lambda: engine.restore(faces, v, own),
        }
    if options.torch:
        other = TorchEngine(options.weights, threads=options.threads)
        runs["PyTorch, whole"] = lambda: other.restore(faces, v, other.degradation(faces))

    times = {name: [] for name in runs}
    for repetition in range(options.repetitions + 1):
        for name, run in runs.items():
            start = perf_counter()
            run()
            if repetition:  # the first one warms up
                times[name].append(perf_counter() - start)
    seconds = {name: np.array(values) for name, values in times.items()}
    seconds["whole"] = seconds["DRE"] + seconds["restorer"]

    base = seconds["prior's synthesis"]
    print(f"{options.threads} threads, {options.repetitions} repetitions in turns, ratio to the prior's synthesis")
    print(f"{'':20}{'minimum':>10}{'s':>8}{'median':>10}{'s':>8}")
    for name, values in seconds.items():
        row = [f(values) for f in (np.min, np.median)]
        ratio = [row[0] / base.min(), row[1] / np.median(base)]
        print(f"{name:20}{ratio[0]:10.2f}{row[0]:8.3f}{ratio[1]:10.2f}{row[1]:8.3f}")
    subprocess.run([sys.executable, "-c", _ONE_FACE, options.weights, str(options.threads)], check=True)
    for path in (options.weights, *(options.weights.with_name(n) for n in ("dre.onnx", "restorer.onnx"))):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
