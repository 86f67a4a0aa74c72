"""What the verbs for photos do and show: one photo, a folder with a progress bar, a video, faces as a table."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from panini.api import Restorer, Setting, check_grain, sharpness
from panini.errors import PaniniError, SomeFailedError, StoppedError
from panini.faces.blend import is_toned
from panini.faces.detect import Box, CenterFace, Face
from panini.inference import load_engine
from panini.jobs.folder import FAILED, Archive, Entry
from panini.jobs.html_report import write_reports
from panini.photo import io as images
from panini.photo.upscale import Upscaler
from panini.report.explanation import explanation, strip
from panini.report.face_report import describe, share_in_words

_EVERY = 30.0  # seconds between two lines where no bar can be drawn


class Bar(Progress):
    """How far the work is, with the time left: a bar on a terminal, a line now and then in a log."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self._told = perf_counter()
        self._first: dict[TaskID, tuple[float, int]] = {}

    def reached(self, task: TaskID, done: int, of: int) -> None:
        """`of`: 0 if not known."""
        self.update(task, completed=done, total=of or None)
        now = perf_counter()
        began, before = self._first.setdefault(task, (now, done))
        if self.disable and now - self._told >= _EVERY:
            self._told = now
            left = f", {(now - began) / (done - before) * (of - done) / 60:.1f} min left" if before < done < of else ""
            text = f"panini: {self.tasks[task].description}: {done} {f'of {of}' if of else 'so far'}{left}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def load_restorer(engine: str, min_face: float, looks: int | None = None) -> Restorer:
    """With the engine of that name and number of looks, for faces from `min_face` pixels across; raises PaniniError."""
    if not min_face >= 8:
        raise PaniniError(f"--min-face must be at least 8, not {min_face:g}")
    return Restorer(load_engine(engine, looks), None if min_face == 24 else CenterFace(min_face=min_face))


def _load_upscaler(background: Path | None, scale: int) -> Upscaler | None:
    if background is not None and scale == 1:
        raise PaniniError("--background goes with --scale 2 or 4")
    return None if background is None else Upscaler(background)


def refuse(what: str, **options: object) -> None:
    """Raises PaniniError if one of the options, which do not go with `what`, was given."""
    for name, value in options.items():
        if value:
            raise PaniniError(f"--{name} does not go with {what}")


def restore_photos(
    sources: list[Path],
    target: Path | None,
    engine: str,
    min_face: float,
    looks: int | None,
    *,
    background: Path | None,
    **options: Any,
) -> None:
    """Restores one photo to `target`, or several into the folder `target`, as `_restore_photo` does; beside them if it
    is None. One of several that fails does not stop the rest: SomeFailedError is raised at the end."""
    restorer = load_restorer(engine, min_face, looks)
    upscaler = _load_upscaler(background, options["scale"])
    if target is None:
        targets = [images.default_output(source) for source in sources]
    elif len(sources) == 1 and not images.is_folder(target):
        targets = [target]
    else:
        try:
            target.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise PaniniError(f"{target} is no folder to write several photos to: {reason}") from error
        targets = [target / images.output_name(source.name) for source in sources]
    if len(sources) == 1:
        return _restore_photo(restorer, sources[0], targets[0], background=upscaler, **options)
    taken = {os.path.realpath(source) for source in sources}
    for path in (*targets, *(map(_explained, targets) if options["explain"] else ())):
        if (place := os.path.realpath(path)) in taken:
            raise PaniniError(f"{path} is one of these photos, or would be written twice")
        taken.add(place)
    _check(restorer, **options)
    failed = 0
    for source, path in zip(sources, targets, strict=True):
        try:
            _restore_photo(restorer, source, path, background=upscaler, indent=None, **options)
        except PaniniError as error:
            failed += 1
            named = str(source) in str(error)
            print(f"panini: {'' if named else f'{one_line(source)}: '}{one_line(error)}", file=sys.stderr)
    if failed:
        raise SomeFailedError(f"{failed} of {len(sources)} failed")


def _explained(target: Path) -> Path:
    return target.with_name(f"{target.stem}-explained.png")


def _check(
    restorer: Restorer,
    *,
    dial: float,
    dial_level: int | None,
    strength: float,
    grain: float,
    like: Path | None = None,
    aligned: bool = False,
    **_: Any,
) -> None:
    """Raises PaniniError for choices that suit no photo: once, and not for each."""
    check_grain(grain)
    restorer.setting(dial, dial_level, strength, like, aligned=aligned)


def _restore_photo(
    restorer: Restorer,
    source: Path,
    target: Path,
    *,
    overwrite: bool,
    mark: bool,
    explain: bool,
    as_json: bool,
    indent: int | None = 1,
    **choices: Any,
) -> None:
    """Restores one photo; `choices` are those of `Restorer.restore`.

    mark: say in the result's metadata what was done. explain: write a picture of it beside, too. as_json: print JSON,
    on one line if `indent` is None.
    """
    start = perf_counter()
    explained = _explained(target)
    images.check_input(source)
    for path in (target, explained) if explain else (target,):
        images.check_output(path, source, overwrite=overwrite)  # before the work, not after
    result = restorer.restore(source, **choices)
    result.save(target, overwrite=overwrite, mark=mark)
    for words in images.not_kept(result.photo, target):
        print(f"panini: {one_line(source)}: {words}", file=sys.stderr)
    if explain and result.faces:
        page = images.load(explanation(result.faces))
        images.save(result.marked(page) if mark else page, explained, overwrite=overwrite)
    if as_json:
        print(json.dumps({"photo": str(source), "output": str(target)} | result.as_dict(), indent=indent))
        return
    share = "" if result.imagined is None else f", {share_in_words(result.imagined)} of the detail imagined"
    same = ", consistent with the photo" if result.consistent else ""
    print(f"{one_line(target)}: {count(len(result.faces))}{share}{same}, {perf_counter() - start:.1f} s")
    if explain and result.faces:
        print(f"{one_line(explained)}: {describe(result.faces[0].report)}")


def write_strip(
    source: Path,
    target: Path | None,
    engine: str,
    min_face: float,
    looks: int | None,
    settings: int,
    *,
    aligned: bool,
    overwrite: bool,
    mark: bool,
) -> None:
    """Writes the faces of one photo at `settings` settings of the dial side by side."""
    start = perf_counter()
    target = source.with_name(f"{source.stem}-strip.png") if target is None else target
    images.check_input(source)
    images.check_output(target, source, overwrite=overwrite)
    picture, shown = strip(load_restorer(engine, min_face, looks), source, settings, aligned=aligned)
    page = images.load(picture)
    images.save(shown.marked(page, dial="-1 to 1") if mark else page, target, overwrite=overwrite)
    print(f"{one_line(target)}: {settings} settings of the dial, {perf_counter() - start:.1f} s")


def restore_folder(
    source: Path,
    target: Path | None,
    engine: str,
    min_face: float,
    looks: int | None,
    settings: dict[str, Any],
    background: Path | None,
    **options: bool,
) -> None:
    """Restores a folder as `Archive` does, with a bar on stderr; Ctrl-C finishes the files in hand.

    Raises SomeFailedError at the end if files failed, StoppedError if it was stopped.
    """
    if target is None:
        raise PaniniError(f"{source} is a folder: name one for the results with -o")
    upscaler = _load_upscaler(background, settings["scale"])
    restorer = load_restorer(engine, min_face, looks)
    _check(restorer, **settings)
    start, stop = perf_counter(), threading.Event()
    network = restorer.engine.digest or engine  # new weights may have the name of others
    maker = (
        f"{network}, faces from {min_face:g}"
        + f", looks: {looks or 'as needed'}"
        + (f", background {background.resolve()}" if background else "")
    )
    archive = Archive(source, target, settings=settings, maker=maker, background=upscaler, **options)
    if not archive.names and not archive.unreadable:
        deeper = "" if options.get("recursive") else " (-r looks into its folders too)"
        raise PaniniError(f"there is no picture in {source}{deeper}")

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    console = Console(stderr=True)
    main_thread = threading.current_thread() is threading.main_thread()
    before = {s: signal.signal(s, on_interrupt) for s in (signal.SIGINT, signal.SIGTERM)} if main_thread else {}
    try:
        with Bar(console) as progress:
            bar = progress.add_task("restoring", total=len(archive.todo))
            for done, entry in enumerate(archive.run(restorer, stop.is_set), 1):
                progress.reached(bar, done, len(archive.todo))
                if entry.error or entry.note:
                    _tell(progress.console, entry)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for entry in archive.unreadable:
        _tell(console, entry)

    entries = archive.finished()
    report = write_reports(archive, perf_counter() - start)[-1]
    restored = [entry for entry in entries if entry.faces]
    earlier = len(archive.names) - len(archive.todo)
    failed = sum(entry.outcome == FAILED for entry in entries) + len(archive.unreadable)
    faces = sum(len(entry.faces) for entry in restored)
    print(
        f"{one_line(target)}: {len(restored)} of {len(archive.names)} restored ({faces} faces), "
        f"{len(entries) - len(restored) - failed + len(archive.unreadable)} without a face copied, {failed} failed, "
        f"{f'{archive.others} of other kinds left alone, ' if archive.others else ''}"
        f"{f'{earlier} of all that in earlier runs, ' if earlier else ''}"
        f"{perf_counter() - start:.1f} s; {one_line(report)}"
    )
    if stop.is_set():
        raise StoppedError(f"stopped with {len(archive.names) - len(entries)} to go; the same command goes on")
    if failed:
        raise SomeFailedError(f"{failed} of {len(archive.names)} failed: see {report}")


def restore_clip(
    source: Path,
    target: Path | None,
    engine: str,
    min_face: float,
    looks: int | None,
    *,
    overwrite: bool,
    mark: bool,
    grain: float,
    **choices: Any,
) -> None:
    """Restores a video as `panini.jobs.video` does, with a bar on stderr; `choices` are those of `Restorer.setting`."""
    images.check_input(source)
    from panini.jobs.video import restore_video

    target = source.with_name(f"{source.stem}-restored.mp4") if target is None else target
    start, console = perf_counter(), Console(stderr=True)
    restorer = load_restorer(engine, min_face, looks)
    setting = restorer.setting(**choices)
    with Bar(console) as progress:
        bars = {step: progress.add_task(step, total=None) for step in ("finding faces", "restoring")}

        def show(step: str, done: int, of: int) -> None:
            progress.reached(bars[step], done, of)

        faces = restore_video(
            restorer, source, target, setting=setting, grain=grain, overwrite=overwrite, mark=mark, progress=show
        )
    print(f"{one_line(target)}: {count(faces)}, {perf_counter() - start:.1f} s")


def inspect(path: Path, drawing: Path | None, min_face: float, *, overwrite: bool) -> None:
    """Prints of each face in a photo, largest first, where it is and what `describe` says of it; draws them all into
    `drawing`."""
    images.check_input(path)
    if drawing is not None:
        images.check_output(drawing, path, overwrite=overwrite)
    restorer, photo = load_restorer("default", min_face), images.load(path)
    faces, toned = restorer.detector(photo.pixels), is_toned(photo.pixels)
    height, width = photo.pixels.shape[:2]
    print(f"{one_line(path)}: {width}x{height}, {len(faces)} {'face' if len(faces) == 1 else 'faces'}")
    for number, face in enumerate(faces, 1):
        x, y, w, h = (round(v) for v in face.box)
        transform = restorer.transform(photo.pixels, face)
        made = restorer.restore_at(photo.pixels, face, transform, toned, Setting(), {})
        print(
            f"{number:3}: box {x},{y},{w},{h}  score {face.score:.2f}  points within {face.spread:.0%} of the eyes' "
            f"distance  turned {face.angle:+.0f} degrees  sharpness {sharpness(made.before):.0f}"
        )
        print(f"     {describe(made.report)}")
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


def _tell(console: Console, entry: Entry) -> None:
    """What went wrong, or is not in the result, in one line above the bar."""
    words = f"panini: {one_line(entry.source)}: {one_line(entry.error or entry.note)}"
    console.print(words, markup=False, highlight=False, emoji=False, soft_wrap=True)


def parse_box(text: str) -> Box:
    """`x,y,w,h` in pixels; raises PaniniError."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise PaniniError(f"a box is x,y,width,height in pixels, not {text!r}") from None
    return x, y, w, h


def count(faces: int) -> str:
    """In words, for a result."""
    return f"{faces} face" if faces == 1 else f"{faces} faces" if faces else "no face, kept as it is"


def one_line(text: object) -> str:
    """Without newlines, which names of files may have."""
    return " ".join(str(text).split())
