"""What the longer verbs of the command line do and show: folders with a progress bar, faces as a table."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from panini import images
from panini.archive import FAILED, Archive
from panini.errors import PaniniError, SomeFailedError, StoppedError
from panini.faces import align
from panini.faces.detect import Face
from panini.report import write_reports
from panini.restorer import Restorer, sharpness


def restore_folder(restorer: Restorer, source: Path, target: Path | None, **options: Any) -> None:
    """Restores a folder as `Archive` does, with a bar on stderr; Ctrl-C finishes the files in hand.

    Raises SomeFailedError at the end if files failed, StoppedError if it was stopped.
    """
    if target is None:
        raise PaniniError(f"{source} is a folder: name one for the results with -o")
    start, stop = perf_counter(), threading.Event()
    archive = Archive(source, target, **options)
    if not archive.names and not archive.unreadable:
        deeper = "" if options.get("recursive") else " (-r looks into its folders too)"
        raise PaniniError(f"there is no picture in {source}{deeper}")

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    console = Console(stderr=True)
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, on_interrupt) if main_thread else None
    try:
        with Progress(*_columns(), console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("restoring", total=len(archive.todo))
            for entry in archive.run(restorer, stop.is_set):
                progress.advance(bar)
                if entry.outcome == FAILED:
                    progress.console.file.write(f"panini: {one_line(entry.source)}: {one_line(entry.error)}\n")
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, before)
    for entry in archive.unreadable:
        console.file.write(f"panini: {one_line(entry.source)}: {one_line(entry.error)}\n")

    entries = [archive.entries[name] for name in archive.names if name in archive.entries]
    report = write_reports(archive, perf_counter() - start)[-1]
    restored = [entry for entry in entries if entry.faces]
    failed = sum(entry.outcome == FAILED for entry in entries) + len(archive.unreadable)
    faces = sum(len(entry.faces) for entry in restored)
    print(
        f"{one_line(target)}: {len(restored)} of {len(archive.names)} restored ({faces} faces), "
        f"{len(entries) - len(restored) - failed + len(archive.unreadable)} without a face copied, {failed} failed, "
        f"{perf_counter() - start:.1f} s; {one_line(report)}"
    )
    if stop.is_set():
        raise StoppedError(f"stopped with {len(archive.names) - len(entries)} to go; the same command goes on")
    if failed:
        raise SomeFailedError(f"{failed} of {len(archive.names)} failed: see {report}")


def restore_clip(restorer: Restorer, source: Path, target: Path, *, overwrite: bool) -> None:
    """Restores a video as `panini.video` does, with a bar on stderr."""
    from panini.video import restore_video

    start, console = perf_counter(), Console(stderr=True)
    with Progress(*_columns(), console=console, disable=not console.is_terminal) as progress:
        bars = {step: progress.add_task(step, total=None) for step in ("finding faces", "restoring")}

        def show(step: str, done: int, of: int) -> None:
            progress.update(bars[step], completed=done, total=of or None)

        faces = restore_video(restorer, source, target, overwrite=overwrite, progress=show)
    print(f"{one_line(target)}: {faces} {'face' if faces == 1 else 'faces'}, {perf_counter() - start:.1f} s")


def inspect(restorer: Restorer, path: Path, drawing: Path | None, overwrite: bool) -> None:
    """Prints a line for each face in a photo, largest first, and draws them into `drawing`."""
    images.check_input(path)
    if drawing is not None:
        images.check_output(drawing, path, overwrite=overwrite)
    photo = images.load(path)
    faces = restorer.detector(photo.pixels)
    height, width = photo.pixels.shape[:2]
    print(f"{one_line(path)}: {width}x{height}, {len(faces)} {'face' if len(faces) == 1 else 'faces'}")
    for number, face in enumerate(faces, 1):
        x, y, w, h = (round(v) for v in face.box)
        crop = align.warp(photo.pixels, restorer.transform(photo.pixels, face), 2 * (restorer.engine.input_size,))
        print(
            f"{number:3}: box {x},{y},{w},{h}  score {face.score:.2f}  points within {face.spread:.0%} of the eyes' "
            f"distance  turned {face.angle:+.0f} degrees  sharpness {sharpness(np.asarray(crop, np.uint8)):.0f}"
        )
    if drawing is not None:
        images.save(images.load(draw(photo, faces)), drawing, overwrite=overwrite)


def draw(photo: images.Photo, faces: list[Face]) -> Image.Image:
    """The photo with the faces' boxes, numbers and landmarks drawn in."""
    image = Image.fromarray(photo.pixels)
    pen = ImageDraw.Draw(image)
    for number, face in enumerate(faces, 1):
        x, y, w, h = face.box
        line = max(1, round(w / 60))
        pen.rectangle((x, y, x + w, y + h), outline=(255, 220, 0), width=line)
        pen.text((x + 2 * line, y + line), str(number), fill=(255, 220, 0), font_size=max(10, w / 6))
        for px, py in face.landmarks.tolist():
            r = max(1.0, w / 40)
            pen.ellipse((px - r, py - r, px + r, py + r), fill=(0, 230, 255))
    return image


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip


def one_line(text: object) -> str:
    """Without newlines, which names of files may have."""
    return " ".join(str(text).split())
