"""`panini restore`: one function each for photos, folders, videos and strips of dial settings."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from panini.cli.common import Device, MinFace, Salvage, count, load_restorer, progress_bar
from panini.errors import NoFaceError, PaniniError, SomeFailedError, StoppedError, one_line
from panini.faces import MIN_FACE

if TYPE_CHECKING:
    from rich.console import Console

    from panini.api import Restoration, RestoreOptions, Restorer
    from panini.jobs.cluster import ClusterJob
    from panini.jobs.folder import FolderJob
    from panini.jobs.journal import Entry


class Execution(StrEnum):
    """How a folder is processed."""

    LOCAL = "local"
    RAY = "ray"


class Scale(StrEnum):
    """The factor by which the result is enlarged."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"


_NOT_FOR = {
    "a photo": ("recursive",),
    "several photos": ("recursive", "strip"),
    "a folder": ("strip", "explain", "json"),
    "a video": ("recursive", "strip", "explain", "json"),
    "--strip": ("recursive", "explain", "json"),
}
"""Command-line options that a kind of work does not support; `RestoreOptions` checks the others."""
_FINDING, _RESTORING = 1, 4  # relative durations of the two steps of a video


@dataclass(frozen=True)
class Output:
    """What to write and where."""

    target: Path | None  # None: next to the input
    overwrite: bool
    mark: bool
    explain: bool = False
    as_json: bool = False
    salvage: bool = False
    again: bool = False  # also restore files that Panini made


def restore(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…|VIDEO…|FOLDER", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Output file, or folder for several files. Default: NAME-restored next to each file.",
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders of FOLDER.")] = False,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Treat PHOTO as an aligned square face crop of any size.")
    ] = False,
    scale: Annotated[Scale, typer.Option(help="Enlarge the whole photo.")] = Scale.ONE,
    only: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Restore only the face with this number; see `panini inspect`. Repeatable."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,W,H", help="Restore only faces centered in this box. Repeatable."),
    ] = None,
    min_face: MinFace = MIN_FACE,
    grain: Annotated[
        float, typer.Option(metavar="0…1", help="How much photo grain to add to the restored faces.")
    ] = 0.0,
    background: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ONNX super-resolution network for --scale, such as Real-ESRGAN."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the photo even if it has no face.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    dial: Annotated[
        float, typer.Option(metavar="-1…1", help="From faithful to the photo (-1) to realistic (1); 0 is neutral.")
    ] = 0.0,
    dial_level: Annotated[
        int | None, typer.Option(metavar="4|8|…", help="Apply --dial at only one resolution of the network.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Assume the same damage as in another photo.")
    ] = None,
    strength: Annotated[
        float, typer.Option(metavar="0…1", help="Blend with the photo: 0 is the original, 1 is fully restored.")
    ] = 1.0,
    passes: Annotated[int, typer.Option(metavar="1…8", help="Passes to average per face: smoother but slower.")] = 1,
    consistent: Annotated[
        bool | None,
        typer.Option(
            "--consistent/--no-consistent",
            help="Make the result match the photo when downsampled. Default: only for small, clean face crops.",
        ),
    ] = None,
    strip: Annotated[
        int | None,
        typer.Option(metavar="N", help="Write only a picture of N dial settings side by side, to PHOTO-strip.png."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Also write OUT-explained.png with before, after and a map of likely errors."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the face reports as JSON; with several photos, one line per photo.")
    ] = False,
    salvage: Salvage = False,
    again: Annotated[
        bool, typer.Option("--again", help="In lists and folders, also restore files that Panini made.")
    ] = False,
    no_mark: Annotated[bool, typer.Option("--no-mark", help="Do not record the restoration in the metadata.")] = False,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use a weights file written by `panini export`.")
    ] = None,
    device: Device = "auto",
    engine: Annotated[
        Execution,
        typer.Option(help="Process FOLDER in this process (local), or with Ray on one or more machines."),
    ] = Execution.LOCAL,
    workers: Annotated[
        int, typer.Option(metavar="N", help="With --engine ray: number of workers; 0 for as many as fit.")
    ] = 0,
    worker_cpus: Annotated[float, typer.Option(metavar="N", help="With --engine ray: CPU cores per worker.")] = 1.0,
    worker_gpus: Annotated[
        float, typer.Option(metavar="N", help="With --engine ray: GPUs per worker, such as 0.25.")
    ] = 0.0,
    network: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore the faces in photos, in videos or in a folder of both. Never changes the originals."""
    # Long, because each option of the command line is an argument. `api.RestoreOptions` and `server/options.py`
    # have the same options.
    from panini.api import RestoreOptions, parse_box
    from panini.jobs.places import url_of

    if weights is not None:
        if weights.suffix != ".safetensors":
            raise PaniniError(f"--weights needs a .safetensors file, not {weights}")
        network = str(weights)
    options = RestoreOptions(
        scale=int(scale.value),
        background=background,
        grain=grain,
        dial=dial,
        dial_level=dial_level,
        strength=strength,
        like=like,
        passes=passes,
        only=tuple(only or ()),
        boxes=tuple(map(parse_box, box or ())),
        aligned=aligned,
        keep=keep,
        consistent=consistent,
    )
    to = Output(output, overwrite, not no_mark, explain, as_json, salvage, again)
    extras = {"recursive": recursive, "strip": strip is not None, "explain": explain, "json": as_json}
    load = Loader(network, min_face, device)
    if engine is Execution.RAY:
        from panini.cli.cluster import restore_on_cluster
        from panini.jobs.cluster import WorkerPool

        if len(photos) > 1:
            raise PaniniError("--engine ray takes exactly one folder")
        _refuse("a folder", extras, options)
        restore_on_cluster(load, photos[0], to, options, WorkerPool(workers, worker_cpus, worker_gpus), recursive)
    else:
        for path in (*photos, *([] if output is None else [output])):
            if (address := url_of(path)) is not None:
                raise PaniniError(f"{address}: URLs need --engine ray")
        _restore_here(load, photos, to, options, extras, strip)


@dataclass(frozen=True)
class Loader:
    """Creates a restorer."""

    network: str
    min_face: float
    device: str

    def __call__(self) -> Restorer:
        """A restorer. Raises PaniniError."""
        return load_restorer(self.network, self.min_face, self.device)

    def __str__(self) -> str:
        return f"{self.network}, faces from {self.min_face:g}"


def _restore_here(
    load: Loader,
    photos: list[Path],
    to: Output,
    options: RestoreOptions,
    extras: Mapping[str, bool],
    strip: int | None,
) -> None:
    """Restores photos, a folder or a video in this process."""
    from panini.photo import io as photo_io

    photo, *others = photos
    if others:
        _refuse("several photos", extras)
        for path in photos:
            if photo_io.is_folder(path):
                raise PaniniError(f"{path} is a folder: it must be the only input")
        if any(map(photo_io.is_video, photos)):
            _refuse("a video", extras, options)
        restore_several(load(), photos, to, options)
    elif photo_io.is_folder(photo):
        _refuse("a folder", extras, options)
        restore_folder(load(), photo, to, options, str(load), extras["recursive"])
    elif photo_io.is_video(photo):
        _refuse("a video", extras, options)
        restore_clip(load(), photo, to, options)
    elif strip is not None:
        _refuse("--strip", extras, options)
        write_strip(load(), photo, to, strip, options.aligned)
    else:
        _refuse("a photo", extras)
        restore_photo(load(), photo, _targets(photos, to)[0], to, options)


def _refuse(work: str, extras: Mapping[str, bool], options: RestoreOptions | None = None) -> None:
    """Raises PaniniError if the kind of work does not support an option."""
    for name in _NOT_FOR[work]:
        if extras[name]:
            raise PaniniError(f"--{name} does not work with {work}")
    if options is not None:
        options.check_for(work)


def restore_several(restorer: Restorer, sources: list[Path], to: Output, options: RestoreOptions) -> None:
    """Restores photos and videos into the folder `to.target`, or next to the originals.

    Skips finished files and files that Panini made. Copies photos without a face into the folder. If a file fails, the
    others are still restored, and SomeFailedError is raised at the end.
    """
    from panini.photo import io as photo_io
    from panini.photo.own_results import kind_of_output

    names = [source.name for source in sources]
    chosen = [source for source in sources if to.again or not kind_of_output(source, names)]
    targets = _targets(chosen, to)
    restorer.prepare(options)  # fails once, not for each photo
    done = failed = 0
    for source, path in zip(chosen, targets, strict=True):
        try:
            if not to.overwrite and _is_done(source, path, restorer, options, to):
                done += 1
            elif photo_io.is_video(source):
                restore_clip(restorer, source, replace(to, target=path), options)
            else:
                restore_photo(restorer, source, path, to, options, indent=None)
        except NoFaceError as error:
            _copy(source, None if to.target is None else to.target / source.name, to, str(error))
        except PaniniError as error:
            failed += 1
            named = str(source) in str(error)
            print(f"panini: {'' if named else f'{one_line(source)}: '}{one_line(error)}", file=sys.stderr)
    if ours := len(sources) - len(chosen):
        files = "1 file" if ours == 1 else f"{ours} files"
        print(f"panini: skipped {files} made by Panini (use --again to restore them)", file=sys.stderr)
    if done:
        print(f"panini: skipped {done} of {len(sources)}, already done", file=sys.stderr)
    if failed:
        raise SomeFailedError(f"{failed} of {len(sources)} failed")


def _is_done(source: Path, target: Path, restorer: Restorer, options: RestoreOptions, to: Output) -> bool:
    """Whether `target` is the result of the unchanged `source` with the same options, or a copy of it.

    The mark tells the options. Without one (BMP, no face, or `to.mark` is False), a file counts if it is newer
    than the source.
    """
    try:
        copy = target.with_name(source.name)
        if not target.exists() and copy.exists() and not copy.samefile(source):
            return filecmp.cmp(source, copy, shallow=False)
        if not target.exists() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            return False
        if filecmp.cmp(source, target, shallow=False):  # a copy with the name of a result
            return not target.samefile(source)
    except (OSError, ValueError):
        return False
    return (not to.explain or _explained(target).exists()) and _has_options(source, target, restorer, options, to)


def _has_options(source: Path, target: Path, restorer: Restorer, options: RestoreOptions, to: Output) -> bool:
    """Whether the mark of a result, if it has one, tells the same options."""
    from panini.photo.own_results import mark_of

    if target.suffix.lower() == ".bmp":
        return True
    mark = mark_of(target)
    if not to.mark:
        return mark == mark_of(source)
    asked = {"Dial": f"{options.dial:g}", "Strength": f"{options.strength:g}"}
    asked |= {"Weights": restorer.engine.digest or "none", "Options": restorer.options_in_words(options)}
    if not mark:
        return options.keep  # a photo without a face has none
    return all(mark.get(name, "") == value for name, value in asked.items())


def _copy(source: Path, target: Path | None, to: Output, why: str) -> None:
    """Copies a photo without a face, as in a folder, and prints why. target: None leaves it where it is."""
    from panini.files import copy_atomically
    from panini.photo import io as photo_io

    if target is not None:
        photo_io.check_place(target, source, overwrite=to.overwrite)
        copy_atomically(source, target)
    what = "left unchanged" if target is None else "copied"
    if to.as_json:
        print(json.dumps({"photo": str(source), "output": None if target is None else str(target), "faces": []}))
    else:
        print(f"{one_line(target or source)}: {one_line(why.removeprefix(f'{source}: '))}, {what}")


def _targets(sources: list[Path], to: Output) -> list[Path]:
    """The path of each result. Raises PaniniError if two results, or a result and a photo, have the same path."""
    from panini.files import make_folder
    from panini.photo import io as photo_io

    if to.target is None:
        targets = [photo_io.default_output(source) for source in sources]
    elif len(sources) == 1 and not photo_io.is_folder(to.target):
        targets = [to.target]
    else:
        make_folder(to.target)
        targets = [to.target / photo_io.output_name(source.name) for source in sources]
    if len(sources) > 1:
        taken = {os.path.realpath(source) for source in sources}
        for path in (*targets, *(map(_explained, targets) if to.explain else ())):
            if (place := os.path.realpath(path)) in taken:
                raise PaniniError(f"{path} is one of the inputs, or would be written twice")
            taken.add(place)
    return targets


def restore_photo(
    restorer: Restorer, source: Path, target: Path, to: Output, options: RestoreOptions, indent: int | None = 1
) -> None:
    """Restores one photo and prints a line about it, or JSON with this `indent` (None: on one line)."""
    from panini.photo import io as photo_io
    from panini.photo.provenance import EXPLANATION
    from panini.report.explanation import explanation

    start = perf_counter()
    explained = _explained(target)
    photo_io.check_input(source)
    for path in (target, explained) if to.explain else (target,):
        photo_io.check_output(path, source, overwrite=to.overwrite)  # before the work
    photo = photo_io.load(source, salvage=to.salvage)
    with progress_bar(transient=True) as show:
        restorer.progress = show
        try:
            result = restorer.restore(photo, options)
        finally:
            restorer.progress = lambda step, done, of: None
    result.save(target, overwrite=to.overwrite, mark=to.mark)
    for words in (*photo_io.not_kept(result.photo, target), *result.remarks):
        print(f"panini: {one_line(source)}: {words}", file=sys.stderr)
    if to.explain and result.faces:
        page = photo_io.load(explanation(result.faces))
        photo_io.save(result.marked(page, shows=EXPLANATION) if to.mark else page, explained, overwrite=to.overwrite)
    if to.as_json:
        print(json.dumps({"photo": str(source), "output": str(target)} | result.as_dict(), indent=indent))
    else:
        _print_result(result, target, explained if to.explain else None, perf_counter() - start)


def _print_result(result: Restoration, target: Path, explained: Path | None, seconds: float) -> None:
    from panini.report.face_report import describe, share_in_words

    share = "" if result.imagined is None else f", {share_in_words(result.imagined)} of the detail imagined"
    same = ", consistent with the photo" if result.consistent else ""
    outcome = count(len(result.faces)) if result.faces else "no face, kept unchanged"
    print(f"{one_line(target)}: {outcome}{share}{same}, {seconds:.1f} s")
    if explained is not None and result.faces:
        print(f"{one_line(explained)}: {describe(result.faces[0].report)}")


def _explained(target: Path) -> Path:
    return target.with_name(f"{target.stem}-explained.png")


def write_strip(restorer: Restorer, source: Path, to: Output, settings: int, aligned: bool) -> None:
    """Writes a picture of the faces of one photo at `settings` dial settings."""
    from panini.jobs.strip import strip
    from panini.photo import io as photo_io
    from panini.photo.provenance import STRIP

    start = perf_counter()
    target = source.with_name(f"{source.stem}-strip.png") if to.target is None else to.target
    photo_io.check_input(source)
    photo_io.check_output(target, source, overwrite=to.overwrite)
    picture, shown = strip(restorer, source, settings, aligned=aligned)
    page = photo_io.load(picture)
    photo_io.save(shown.marked(page, dial="-1 to 1", shows=STRIP) if to.mark else page, target, overwrite=to.overwrite)
    print(f"{one_line(target)}: {settings} settings of the dial, {perf_counter() - start:.1f} s")


def restore_folder(
    restorer: Restorer, source: Path, to: Output, options: RestoreOptions, maker: str, recursive: bool
) -> None:
    """Restores a folder with a progress bar on stderr. Ctrl-C finishes the current files.

    Raises SomeFailedError at the end if files failed, StoppedError if the user stopped it.
    """
    from panini.jobs.folder import FolderJob

    if to.target is None:
        raise PaniniError(f"{source} is a folder: choose an output folder with -o")
    restorer.prepare(options)
    start = perf_counter()
    job = FolderJob(
        source,
        to.target,
        options,
        recursive=recursive,
        overwrite=to.overwrite,
        maker=f"{restorer.engine.digest}, {maker}",  # new weights may have an old name
        mark=to.mark,
        salvage=to.salvage,
        again=to.again,
    )
    run_folder(job, partial(job.run, restorer), str(source), recursive, start)


def run_folder(
    job: FolderJob | ClusterJob,
    run: Callable[[Callable[[], bool]], Iterable[Entry]],
    source: str,
    recursive: bool,
    start: float,
) -> None:
    """Runs a job with a progress bar on stderr, then prints the totals.

    run: starts the job, given a function that returns whether the user pressed Ctrl-C. start: `perf_counter` at the
    start. Raises PaniniError if the folder `source` has no picture, and the errors of `print_folder`.
    """
    from rich.console import Console

    from panini.progress import Bar

    if not job.names and not job.unreadable:
        deeper = "" if recursive else " (use -r to include subfolders)"
        ours = f" except {job.ours} that Panini made (--again also restores those)" if job.ours else ""
        raise PaniniError(f"no pictures in {source}{ours}{deeper}")
    console = Console(stderr=True)
    with stop_gently() as stopped, Bar(console) as progress:
        bar = progress.add_task("restoring", total=len(job.todo))
        for done, entry in enumerate(run(stopped), 1):
            progress.reached(bar, done, len(job.todo))
            if entry.error or entry.note:
                tell_entry(progress.console, entry)
    for entry in job.unreadable:
        tell_entry(console, entry)
    print_folder(job, perf_counter() - start, stopped())


@contextmanager
def stop_gently() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM sets a flag, which the yielded function returns. A second one interrupts."""
    stop = threading.Event()

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    main_thread = threading.current_thread() is threading.main_thread()
    before = {s: signal.signal(s, on_interrupt) for s in (signal.SIGINT, signal.SIGTERM)} if main_thread else {}
    try:
        yield stop.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_folder(job: FolderJob | ClusterJob, seconds: float, stopped: bool) -> None:
    """Writes the reports and prints the totals. Raises StoppedError or SomeFailedError if files are missing."""
    from panini.jobs.journal import COPIED, FAILED, RESTORED

    total, report = job.summary(seconds), job.write_reports(seconds)[-1]
    print(
        f"{one_line(job.target)}: {total[RESTORED]} of {len(job.names)} restored ({count(total['faces'])}), "
        f"{total[COPIED]} without a face copied, {total[FAILED]} failed, "
        f"{f'{job.ours} made by Panini skipped, ' if job.ours else ''}"
        f"{f'{job.others} of other types skipped, ' if job.others else ''}"
        f"{f'{job.earlier} done in earlier runs, ' if job.earlier else ''}"
        f"{seconds:.1f} s; {one_line(report)}"
    )
    if stopped:
        raise StoppedError(f"stopped with {len(job.names) - len(job.finished())} left; run the same command to resume")
    if total[FAILED]:
        raise SomeFailedError(f"{total[FAILED]} of {len(job.names)} failed: see {report}")


def restore_clip(restorer: Restorer, source: Path, to: Output, options: RestoreOptions) -> None:
    """Restores a video with a progress bar on stderr."""
    from panini.jobs.video import restore_video
    from panini.photo import io as photo_io

    photo_io.check_input(source)
    (target,) = _targets([source], to)
    start = perf_counter()
    with progress_bar() as show:

        def show_whole(step: str, done: int, of: int) -> None:
            # One bar covers both steps, so that it shows the total remaining time.
            before, weight = (0, _FINDING) if step == "finding faces" else (_FINDING * of, _RESTORING)
            show(step, (before + weight * done) // (_FINDING + _RESTORING) if of else done, of)

        def tell(words: str) -> None:
            print(f"panini: {one_line(source)}: {words}", file=sys.stderr)

        faces = restore_video(
            restorer, source, target, options, overwrite=to.overwrite, mark=to.mark, progress=show_whole, tell=tell
        )
    print(f"{one_line(target)}: {count(faces)}, {perf_counter() - start:.1f} s")


def tell_entry(console: Console, entry: Entry) -> None:
    """Prints an error or a note in one line above the progress bar."""
    words = f"panini: {one_line(entry.source)}: {one_line(entry.error or entry.note)}"
    console.print(words, markup=False, highlight=False, emoji=False, soft_wrap=True)
