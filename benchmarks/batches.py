"""Whether batches of faces are faster than single faces, in ONNX Runtime on CPUs.

    python benchmarks/batches.py [--repetitions N] [--threads N]

Seconds of the processor for each face, the least of all repetitions, so that other work on the machine hardly counts.
"""

from __future__ import annotations

import argparse
from time import process_time

import numpy as np

from panini.onnx_session import CPU, open_network
from panini.weights import DEFAULT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    session = open_network(DEFAULT.with_name("restorer.onnx"), options.threads, CPU)
    rng, best = np.random.default_rng(0), dict.fromkeys((1, 2, 3, 4), np.inf)
    for _ in range(options.repetitions):
        for size in best:
            shapes = {given.name: (size, *given.shape[1:]) for given in session.get_inputs()}
            given = {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
            start = process_time()
            session.run(None, given)
            best[size] = min(best[size], (process_time() - start) / size)
    for size, seconds in best.items():
        print(f"{size} at once: {seconds:.3f} s of CPU time for each face")


if __name__ == "__main__":
    main()
