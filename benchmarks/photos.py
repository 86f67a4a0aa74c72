"""What holds around the network: `photos.py find|align|memory|large [--faces FOLDER]`.

find: recall, doubles and false faces by size and angle. align: how exactly crops are recovered. memory: resident memory
over many files. large: time and memory of a picture of 100 megapixels.

FOLDER holds faces aligned by construction (samples of the GAN prior); by default the six of the tests.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from PIL import Image
from skimage import data

from panini.api import Restorer
from panini.faces import align
from panini.faces.aligner import Aligner
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine
from panini.jobs.folder import FolderJob

FACES = Path(__file__).parents[1] / "tests/data/prior"
TEXTURES = (
    "brick grass gravel coins page text moon clock chelsea coffee rocket retina hubble_deep_field immunohistochemistry"
)
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
GRID = (np.stack(np.meshgrid(*2 * [np.arange(16)]), -1).reshape(-1, 2) + 0.5) / 16
POINTS = np.array([[0.375, 0.475], [0.625, 0.475], [0.5, 0.605], [0.402, 0.728], [0.598, 0.728]])


def onto(canvas: np.ndarray, face: np.ndarray, middle: np.ndarray, side: float, turn: float) -> np.ndarray:
    """Blends a square face into `canvas`, in place; returns the transform from its crop (side 1) to there."""
    linear = side * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    there = np.hstack([linear, (middle - linear @ [0.5, 0.5])[:, None]])
    from_pixels = align.scaled(there, source=face.shape[0])
    edge = np.abs(np.mgrid[: face.shape[0], : face.shape[0]] / face.shape[0] - 0.5).max(0)
    fade = np.clip((0.49 - edge) / 0.04, 0, 1).astype(np.float32)
    size = canvas.shape[1::-1]
    moved = align.warp(face, from_pixels, size, border=cv2.BORDER_CONSTANT).astype(np.float32)
    weight = align.warp(fade, from_pixels, size, border=cv2.BORDER_CONSTANT)[..., None]
    canvas[:] = np.rint(canvas + weight * (moved - canvas))
    return there


def find(faces: list[np.ndarray]) -> None:
    detector, grid = CenterFace(), 4
    print("width  angle  recall  doubles  false  angle error, degrees (median)")
    for width in (24, 32, 48, 96, 200):
        for angle in (0, 30, 45, 90, 135, 180):
            step = int(1.9 * width)
            canvas = cv2.cvtColor(cv2.resize(data.brick(), (grid * step, grid * step)), cv2.COLOR_GRAY2RGB)
            middles = [(np.array([i % grid, i // grid]) + 0.5) * step for i in range(grid * grid)]
            for i, middle in enumerate(middles):
                part = canvas[int(middle[1] - step / 2) :][:step, int(middle[0] - step / 2) :][:, :step]
                onto(part, faces[i % len(faces)], np.array([step / 2, step / 2]), width / 0.58, np.deg2rad(angle))
            found = detector(canvas)
            near = [[f for f in found if np.hypot(*(f.center - m)) < width / 2] for m in middles]
            off = [abs((f[0].angle - angle + 180) % 360 - 180) for f in near if f] or [np.nan]
            print(
                f"{width:5}  {angle:5}  {sum(map(bool, near)):3}/{len(middles)}  {sum(len(f) > 1 for f in near):7}"
                f"  {len(found) - sum(map(len, near)):5}  {np.median(off):5.1f}",
                flush=True,
            )
    for name in TEXTURES.split():
        picture = getattr(data, name)()
        picture = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        print(f"{name}: {len(detector(picture))} faces", flush=True)


def alignment(faces: list[np.ndarray]) -> None:
    detector, aligner, rng = CenterFace(), Aligner(), np.random.default_rng(0)
    errors = {"detector": ([], [], []), "refined": ([], [], [])}
    for face in faces:
        side = rng.choice([60, 120, 240]) / 0.58
        canvas = cv2.resize(data.coffee(), (int(1.8 * side), int(1.6 * side)))
        middle = np.array(canvas.shape[1::-1]) / 2 + rng.uniform(-0.05, 0.05, 2) * side
        truth = onto(canvas, face, middle, side, rng.uniform(-np.pi, np.pi))
        near = [f for f in detector(canvas) if np.hypot(*(f.center - middle)) < side / 3]
        if not near:
            print("a face was missed")
            continue
        start = align.ffhq_transform(near[0].landmarks, 1, align.DETECTED_ZOOM)
        for name, found in (("detector", start), ("refined", aligner(canvas, start, 1))):
            for list_, where in zip(errors[name], (POINTS, GRID, CORNERS), strict=True):
                seen = where @ truth[:, :2].T + truth[:, 2]
                list_.append(400 * np.hypot(*(seen @ found[:, :2].T + found[:, 2] - where).T).mean())
    for name, lists in errors.items():
        print(f"{name}: {len(lists[0])} faces, % of the eyes' distance, median and p95:", end="")
        for where, list_ in zip(("eyes, nose and mouth", "all over the crop", "its corners"), lists, strict=True):
            print(f" {where} {np.median(list_):.1f} {np.quantile(list_, 0.95):.1f};", end="")
        print()


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        face, wall = Image.fromarray(data.astronaut()[:200, 120:320]), Image.fromarray(data.brick()[:100, :100])
        for i in range(count):
            (face if i % 20 == 0 else wall).save(source / f"{i:05}.jpg")
        start = perf_counter()
        archive = FolderJob(source, Path(folder) / "out")
        for i, _ in enumerate(archive.run(Restorer(BicubicEngine())), 1):
            if i % max(1, count // 10) == 0:
                print(f"{i} files, {resident():.0f} MB, {perf_counter() - start:.0f} s", flush=True)


def large() -> None:
    picture = cv2.resize(data.coffee(), (11600, 8700), interpolation=cv2.INTER_CUBIC)
    picture[:4000, :4000] = cv2.resize(data.astronaut(), (4000, 4000), interpolation=cv2.INTER_CUBIC)
    rng, face = np.random.default_rng(0), data.astronaut()[20:220, 120:320]
    for i in range(30):
        side = int(rng.choice([60, 140, 300, 600]))
        x, y = 4200 + 1200 * (i % 6), 100 + 1400 * (i // 6)
        picture[y : y + side, x : x + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    before = resident()
    result = Restorer(BicubicEngine()).restore(picture)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in result.timings.items())
    print(f"{len(result.faces)} of 31 faces; {steps}; peak {peak:.0f} MB, {before:.0f} MB of it the picture and Python")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["find", "align", "memory", "large"])
    parser.add_argument("--faces", type=Path, default=FACES)
    parser.add_argument("--count", type=int, default=10_000, help="files of `memory`, most faces of the others")
    arguments = parser.parse_args()
    files = sorted(arguments.faces.glob("*.webp"))[: arguments.count]
    faces = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    match arguments.what:
        case "find":
            find(faces)
        case "align":
            alignment(faces)
        case "memory":
            memory(arguments.count)
        case "large":
            large()


if __name__ == "__main__":
    sys.exit(main())
