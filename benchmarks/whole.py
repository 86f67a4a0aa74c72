"""Where the time of a whole photo goes: start-up, decode, detect, align, network, blend, report, encode.

    python benchmarks/whole.py [PHOTO...] [--repetitions N] [--min-face PIXELS]

The default photos show one face on 0.25 megapixels, and one on 3. Seconds are those of the processor, so that other
work on the machine does not count; set OMP_NUM_THREADS=1, or threads that wait for each other count as well. The best
of the repetitions is shown. Start-up is a process of its own, up to the loaded network; `imports` is a part of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time

import cv2
from PIL import Image
from skimage import data

from panini import api
from panini.faces.detect import CenterFace

_STARTS = {
    "imports": "import panini.cli.app, panini.api",
    "start-up": "import panini.cli.app, panini.api; panini.api.Restorer().detector",
}
STEPS = ("read", "detect", "align", "network", "blend", "report", "encode")


def start_up(repetitions: int) -> None:
    """Prints the seconds of a new process."""
    print("| new process | s |\n| --- | --- |")
    code = "import os; {}; print(sum(os.times()[:2]))"
    for name, statements in {"Python alone": "pass", **_STARTS}.items():
        runs = [
            float(subprocess.check_output([sys.executable, "-c", code.format(statements)])) for _ in range(repetitions)
        ]
        print(f"| {name} | {min(runs):.2f} |", flush=True)


def photos(folder: Path) -> list[Path]:
    """Writes the default photos."""
    face = data.astronaut()
    large = cv2.resize(data.coffee(), (2000, 1500), interpolation=cv2.INTER_CUBIC)
    large[:750, :750] = cv2.resize(face, (750, 750), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(face).save(folder / "small.jpg", quality=90)
    Image.fromarray(large).save(folder / "large.jpg", quality=90)
    return [folder / "small.jpg", folder / "large.jpg"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--min-face", type=float, default=24)
    arguments = parser.parse_args()
    start_up(arguments.repetitions)
    api.perf_counter = process_time  # the clock of `Restoration.timings`
    restorer = api.Restorer(detector=CenterFace(min_face=arguments.min_face))
    print(f"\n| photo | faces | {' | '.join(STEPS)} | whole |\n|{' --- |' * (len(STEPS) + 3)}")
    with tempfile.TemporaryDirectory() as scratch:
        for path in arguments.photos or photos(Path(scratch)):
            best: dict[str, float] = {}
            for _ in range(arguments.repetitions):
                result = restorer.restore(path, keep=True)
                start = process_time()
                result.save(Path(scratch) / f"out{path.suffix}", overwrite=True)
                seconds = {**result.timings, "encode": process_time() - start}
                best = {step: min(best.get(step, 1e9), seconds.get(step, 0.0)) for step in STEPS}
            name = f"{path.name}, {result.photo.pixels.size / 3e6:.2f} MP"
            cells = " | ".join(f"{best[step]:.2f}" for step in STEPS)
            print(f"| {name} | {len(result.faces)} | {cells} | {sum(best.values()):.2f} |", flush=True)


if __name__ == "__main__":
    main()
