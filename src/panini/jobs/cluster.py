"""Restores folders and object stores on many machines, with Ray: the same results and reports as `FolderJob`.

The driver lists the files and splits the remaining work into shards. Ray Data distributes the shards to a pool of
actors. Each actor holds one network and restores file by file. It writes each result and then the journal of the shard,
so another actor can take over the shard and continue. At the end, the driver merges the journals and writes the
reports.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from threading import Event, Thread
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

from panini.api import RestoreOptions, Restorer
from panini.errors import PaniniError, how_to_get, one_line
from panini.jobs.folder import FolderJob, as_found, is_work, settings_digest, summarize
from panini.jobs.html_report import report_paths, thumbnail_name, write_reports
from panini.jobs.journal import BEGUN, COPIED, FAILED, RESTORED, STATE, Entry, as_entry, merge, read_shard, write_shard
from panini.jobs.places import Folder, Place, Stamp, place
from panini.photo import io as photo_io
from panini.photo.own_results import has_result_name, mark_of

OWN = "own"
"""The outcome of a file that Panini made, which is skipped. It does not appear in the reports."""
_OURS = f"{PaniniError.__module__}.{PaniniError.__name__}: "  # as a traceback names it
_EXCEPTION = re.compile(r"(\w+\.)*\w+(Error|Exception|Interrupt): ")
_DEATHS = 2  # a file fails after this many workers crash while restoring it
_LARGEST_SHARD = 128
_SHARDS_PER_WORKER = 8  # at least, so that all workers finish at about the same time
_HEAD_GONE = 30.0  # seconds without the head after which the command ends; Ray ends it after 60, without a message


@dataclass(frozen=True)
class Plan:
    """Everything that a worker needs. All machines must be able to access it."""

    source: Place
    target: Place
    load: Callable[[], Restorer]
    """Creates the restorer of a worker."""
    options: RestoreOptions
    maker: str = ""
    mark: bool = True
    salvage: bool = False
    again: bool = False


@dataclass(frozen=True)
class WorkerPool:
    """The number of workers, and the resources that Ray reserves for each."""

    workers: int = 0
    """0: as many as fit in the cluster at the start."""
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus <= 0 or self.gpus < 0:
            raise PaniniError("workers need more than 0 cores, and at least 0 GPUs")


class Worker:
    """Restores the files of shards, one by one. Ray creates one per actor. It also works without Ray."""

    def __init__(self, plan: Plan) -> None:
        import cv2

        from panini.onnx_session import cores

        cv2.setNumThreads(cores())  # Ray sets OMP_NUM_THREADS to the actor's cores
        self.plan, self.restorer = plan, plan.load()

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        """Restores shards for Ray Data: takes JSON texts and yields one JSON text per file."""
        for text in batch["shard"]:
            shard = json.loads(str(text))
            for entry in self.restore(shard["name"], [as_entry(values) for values in shard["files"]]):
                # Small, because it goes through the driver; the journal has everything.
                yield {"entry": [json.dumps(asdict(replace(entry, faces=[])))]}

    def restore(self, shard: str, files: Sequence[Entry]) -> Iterator[Entry]:
        """Restores the files of a shard that are missing in its journal. Yields the entries of all files.

        files: `source` and `source_stamp` of each file, and the output of an earlier run, if any.
        """
        target = self.plan.target
        journal = read_shard(target, shard)  # from a worker that crashed
        done = {entry.source: entry for entry in journal if entry.outcome != BEGUN}
        deaths = [entry.source for entry in journal if entry.source not in done]
        digest = settings_digest(self.plan.options, self.plan.maker, self.plan.mark)
        begun = [Entry(f.source, photo_io.output_name(f.source), BEGUN) for f in files if f.source not in done]
        if begun:
            write_shard(target, shard, [*journal, begun[0]])
        for file in files:
            name = file.source
            if name not in done:
                if deaths.count(name) >= _DEATHS:
                    entry = replace(file, error=f"{_DEATHS} workers crashed while restoring it")
                else:
                    entry = self._restore_one(file)
                done[name] = replace(entry, settings=digest)
                journal.append(done[name])
                del begun[0]
                write_shard(target, shard, [*journal, *begun[:1]])  # the finished files and the next one
            yield done[name]

    def _restore_one(self, file: Entry) -> Entry:
        """Restores one file with a folder job in a scratch folder, and copies the results to the target.

        Raises PaniniError if the disk is full, because all other files would fail.
        """
        plan, start, name = self.plan, perf_counter(), file.source
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory(prefix="panini-") as scratch:
            inside, out = Path(scratch, "in"), Path(scratch, "out")
            inside.mkdir()
            here = inside / path.name
            try:
                plan.source.fetch(name, here)
                if not plan.again and mark_of(here):
                    return replace(file, outcome=OWN)
                job = FolderJob(
                    inside, out, plan.options, maker=plan.maker, mark=plan.mark, salvage=plan.salvage, again=True
                )
                (entry,) = job.run(self.restorer)
                if entry.outcome == FAILED:
                    return replace(file, error=entry.error)
                output = str(path.with_name(entry.output))
                self._check_place(name, output)
                thumbnail = f"{STATE}/{thumbnail_name(name)}" if entry.thumbnail else ""
                if thumbnail:
                    plan.target.put(out / entry.thumbnail, thumbnail)
                written = plan.target.put(out / entry.output, output)
            except Exception as error:  # stores and decoders have their own exceptions; only this file fails
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise PaniniError(f"the disk of {plan.target.name} is full") from error
                return replace(file, error=one_line(error).replace(f"{inside}/", ""))
        seconds = round(perf_counter() - start, 2)
        return replace(
            entry,
            source=name,
            output=output,
            thumbnail=thumbnail,
            source_stamp=file.source_stamp,
            output_stamp=written,
            seconds=seconds,
        )

    def _check_place(self, name: str, output: str) -> None:
        """Raises PaniniError if the output links to the photo itself."""
        source, target = self.plan.source, self.plan.target
        if isinstance(source, Folder) and isinstance(target, Folder):
            path = target.path / output
            path.parent.mkdir(parents=True, exist_ok=True)
            photo_io.check_place(path, source.path / name, overwrite=True)


class ClusterJob:
    """Restores a folder or an object store on many machines."""

    def __init__(
        self,
        plan: Plan,
        pool: WorkerPool = WorkerPool(),
        *,
        recursive: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Raises PaniniError if the source cannot be listed, or the target cannot be written."""
        plan.options.check_for("a folder")
        self.plan, self.pool = plan, pool
        self._digest = settings_digest(plan.options, plan.maker, plan.mark)
        source, target = plan.source, plan.target
        if source.name.rstrip("/") == target.name.rstrip("/") or _same_folder(source, target):
            raise PaniniError(f"{target.name} is the folder of the originals; choose another one")
        self._there = dict(target.files())
        self.entries = merge(target)
        _sweep(target)
        reports = [path.name for path in report_paths(Path())]
        if not self.entries and not overwrite and (found := [name for name in reports if name in self._there]):
            raise PaniniError(f"{target.name}/{found[0]} already exists (use --overwrite to replace it)")
        self.others = 0
        """Number of other files, which are skipped. Hidden files are not counted."""
        self._own_by_name = 0
        self._stamps = self._list(recursive)
        self.unreadable = [Entry(name, error=why) for name, why in source.unreadable.items()]
        """Folders that could not be listed."""
        self.todo = [name for name in self._stamps if not self._up_to_date(name)]
        """The names of the unfinished files."""
        self.earlier = len(self.names) - len(self.todo)
        """Number of pictures that earlier runs finished."""
        self._refused = {} if overwrite else self._conflicts()

    def run(self, stop: Callable[[], bool] = lambda: False, execute: Execute | None = None) -> Iterator[Entry]:
        """Restores the files in `todo` and yields the entry of each, without its faces, in any order.

        stop: called for each entry; True stops the work. execute: `on_ray`, the default, or `in_this_process`.
        Raises PaniniError if Ray is missing or the work cannot continue.
        """
        refused = [self._refused[name] for name in self.todo if name in self._refused]
        run = uuid4().hex[:8]
        if refused:
            write_shard(self.plan.target, f"{run}-refused", refused)
        yield from refused
        left = [name for name in self.todo if name not in self._refused]
        if left and not stop():
            shards = partial(self._shards, run, left)
            for entry in (execute or on_ray)(self.plan, self.pool, shards):
                if entry.outcome != OWN:
                    yield entry
                if stop():
                    break
        self.entries = merge(self.plan.target)
        _sweep(self.plan.target)
        self._there = dict(self.plan.target.files())

    @property
    def target(self) -> str:
        """The folder or URL of the results."""
        return self.plan.target.name

    @property
    def names(self) -> list[str]:
        """The relative names of all pictures, in order, without files that are known to be made by Panini."""
        return [name for name in self._stamps if not self._is_own(name)]

    @property
    def ours(self) -> int:
        """Number of files that Panini made, which are skipped."""
        return self._own_by_name + sum(self._is_own(name) for name in self._stamps)

    def finished(self) -> list[Entry]:
        """The entries of all pictures that this run and earlier runs processed, in order."""
        entries = [self.entries[name] for name in self.names if name in self.entries]
        return [as_found(e, self._there.get(e.output, (0, 0))) for e in entries if e.outcome != BEGUN]

    def summary(self, seconds: float) -> dict[str, Any]:
        """The totals for the reports. seconds: duration of this run."""
        source, target = self.plan.source.name, self.plan.target.name
        pictures, entries = len(self.names), self._reported()
        return summarize(source, target, self.plan.options, seconds, pictures, entries, self.others, self.ours)

    def write_reports(self, seconds: float) -> list[str]:
        """Writes `report.json` and `report.html` into the target. Returns their names. Raises PaniniError."""
        source, target = self.plan.source, self.plan.target
        if isinstance(source, Folder) and isinstance(target, Folder):
            written = write_reports(source.path, target.path, self.summary(seconds), self._reported())
        else:
            with tempfile.TemporaryDirectory(prefix="panini-") as scratch:
                address = source.path.as_uri() if isinstance(source, Folder) else source.name
                written = write_reports(address, Path(scratch), self.summary(seconds), self._reported())
                for path in written:
                    target.put(path, path.name)
        return [f"{target.name}/{path.name}" for path in written]

    def _reported(self) -> list[Entry]:
        return self.finished() + self.unreadable

    def _list(self, recursive: bool) -> dict[str, Stamp]:
        """The stamps of the pictures, by relative name. Skips files in the target."""
        source, target = self.plan.source, self.plan.target
        inside = _inside(source, target)
        videos, stamps = find_spec("av") is not None, dict[str, Stamp]()
        for name, stamp in source.files(recursive):
            if inside and name.startswith(inside):
                continue
            if is_work(name, videos):
                stamps[name] = stamp
            else:
                self.others += 1
        if not self.plan.again:
            stems = {str(PurePosixPath(name).with_suffix("")) for name in stamps}
            ours = [n for n in stamps if has_result_name(str(PurePosixPath(n).with_suffix("")), stems)]
            for name in ours:
                if not self._is_known(name, stamps[name]):
                    del stamps[name]
                    self._own_by_name += 1
        return stamps

    def _is_known(self, name: str, stamp: Stamp) -> bool:
        """Whether a file was restored or copied before, and has not changed since."""
        entry = self.entries.get(name)
        return entry is not None and entry.outcome in (RESTORED, COPIED) and entry.source_stamp == stamp

    def _is_own(self, name: str) -> bool:
        entry = None if self.plan.again else self.entries.get(name)
        return entry is not None and entry.outcome == OWN and entry.source_stamp == self._stamps[name]

    def _up_to_date(self, name: str) -> bool:
        entry, stamp = self.entries.get(name), self._stamps[name]
        if entry is None or entry.settings != self._digest:
            return False
        return (self._is_known(name, stamp) and entry.output in self._there) or self._is_own(name)

    def _conflicts(self) -> dict[str, Entry]:
        """The failed entries of files that cannot be written: another file or result has the path of the output."""
        refused, taken = dict[str, Entry](), dict[str, str]()
        for name in self._stamps:
            output, earlier = photo_io.output_name(name), self.entries.get(name)
            places = [output] if output == name else [output, name]
            first = taken.setdefault(output, name)
            words = ""
            if any(part in ("", ".", "..") for part in name.split("/")):
                words = "its name is not a valid path"
            elif first != name:
                words = f"its result would have the same name as the result for {first}"
            for path in places:
                if path not in self._there or (earlier is not None and earlier.outcome == BEGUN):
                    continue  # a worker that crashed checked the path, and may have written the result
                if earlier is None or earlier.output != path:
                    words = f"{path} already exists (use --overwrite to replace it)"
                elif earlier.output_stamp != self._there[path]:
                    words = f"{path} was edited since Panini wrote it (use --overwrite to replace it)"
            if words:
                entry = Entry(name, error=words, source_stamp=self._stamps[name], settings=self._digest)
                kept = earlier if earlier is not None and earlier.output else entry
                refused[name] = replace(entry, output=kept.output, output_stamp=kept.output_stamp)
        return refused

    def _file(self, name: str) -> Entry:
        """The data about a file that a worker needs."""
        earlier = self.entries.get(name, Entry(name))
        return Entry(name, earlier.output, source_stamp=self._stamps[name], output_stamp=earlier.output_stamp)

    def _shards(self, run: str, names: list[str], workers: int) -> list[str]:
        """Splits the files into shards: JSON texts for `Worker`."""
        size = max(1, min(_LARGEST_SHARD, len(names) // (workers * _SHARDS_PER_WORKER)))
        return [
            json.dumps(
                {
                    "name": f"{run}-{start // size:07}",
                    "files": [asdict(self._file(name)) for name in names[start : start + size]],
                }
            )
            for start in range(0, len(names), size)
        ]


Execute = Callable[[Plan, WorkerPool, Callable[[int], list[str]]], Iterator[Entry]]
"""Restores the shards, created by a function of the number of workers. Yields the entries as they arrive."""


def in_this_process(plan: Plan, pool: WorkerPool, shards: Callable[[int], list[str]]) -> Iterator[Entry]:
    """Restores the shards one after the other, without Ray."""
    worker = Worker(plan)
    for part in worker({"shard": shards(1)}):
        yield from (as_entry(json.loads(text)) for text in part["entry"])


def on_ray(plan: Plan, pool: WorkerPool, shards: Callable[[int], list[str]]) -> Iterator[Entry]:
    """Restores the shards with a pool of Ray actors. Raises PaniniError if Ray is missing or the cluster fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the error itself is reported
    except ModuleNotFoundError as error:
        raise PaniniError(f"--engine ray needs {error.name}: {how_to_get('ray')}") from error
    started = not ray.is_initialized()
    try:
        if started:
            _start(ray.init)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False  # type: ignore[attr-defined]
        workers = pool.workers or _room(ray.cluster_resources(), pool)
        work = shards(workers)
        dataset = ray.data.from_items([{"shard": shard} for shard in work], override_num_blocks=len(work))
        restored = dataset.map_batches(
            Worker,  # type: ignore[arg-type]
            fn_constructor_args=(plan,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(work))),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
        )
        with _watch_head(ray.get_runtime_context().gcs_address):
            for row in restored.iter_rows():
                yield as_entry(json.loads(row["entry"]))
    except ray.exceptions.RayError as error:
        cause = _cause(getattr(error, "cause", None) or error)
        if cause.startswith(_OURS):  # for example, the disk is full
            raise PaniniError(cause.removeprefix(_OURS)) from error
        raise PaniniError(f"the cluster failed: {cause}; run the same command to resume") from error
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _watch_head(address: str) -> Iterator[None]:
    """Ends the process with a message if the head of the cluster is gone. address: HOST:PORT of its control service.

    A thread does it, because the main thread waits for Ray. Does nothing if the head cannot be reached to begin with.
    """
    over = Event()
    if _answers(address):
        Thread(target=_wait_for_loss, args=(address, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _wait_for_loss(address: str, over: Event) -> None:
    seen = monotonic()
    while not over.wait(2):
        if _answers(address):
            seen = monotonic()
        elif monotonic() - seen > _HEAD_GONE and not over.is_set():
            told = "panini: the head of the cluster is gone; run the same command to resume"
            print(told, file=sys.stderr, flush=True)
            os._exit(PaniniError.exit_code)


def _answers(address: str) -> bool:
    """Whether a program listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def _cause(error: BaseException) -> str:
    """The last line of an error's message that names an exception, or else the last one. Ray puts the cause there, and
    sometimes advice after it."""
    lines = [type(error).__name__, *filter(str.strip, str(error).splitlines())]
    return one_line(next(filter(_EXCEPTION.match, reversed(lines)), lines[-1]))


def _sweep(target: Place) -> None:
    if isinstance(target, Folder):
        target.sweep()


def _start(init: Callable[..., object]) -> None:
    """Connects to the cluster of `RAY_ADDRESS` or of `ray start` on this machine, or starts one on this machine."""
    try:
        init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as error:  # of many kinds
        raise PaniniError(f"Ray cannot start: {one_line(error)}") from error


def _room(resources: dict[str, float], pool: WorkerPool) -> int:
    """The number of workers that fit in the cluster. Raises PaniniError if none fits."""
    room = resources.get("CPU", 0) / pool.cpus
    if pool.gpus:
        room = min(room, resources.get("GPU", 0) / pool.gpus)
    if room < 1:
        raise PaniniError(f"the cluster cannot fit a worker with {pool.cpus:g} cores and {pool.gpus:g} GPUs")
    return int(room)


def _same_folder(source: Place, target: Place) -> bool:
    """Whether both are the same folder on a disk."""
    if not (isinstance(source, Folder) and isinstance(target, Folder)):
        return False
    return target.path.exists() and source.path.exists() and target.path.samefile(source.path)


def _inside(source: Place, target: Place) -> str:
    """The path of `target` relative to `source`, with a slash at the end. Empty if it is not inside."""
    if isinstance(source, Folder) and isinstance(target, Folder):
        outer, inner = f"{source.path.resolve()}/", f"{target.path.resolve()}/"
    else:
        outer, inner = f"{source.name.rstrip('/')}/", f"{target.name.rstrip('/')}/"
    return inner.removeprefix(outer) if inner.startswith(outer) else ""


def open_places(source: Path | str, target: Path | str) -> tuple[Place, Place]:
    """Opens the places of the originals and the results. Raises PaniniError if one cannot be opened."""
    given = place(source)
    if isinstance(given, Folder) and not given.path.is_dir():
        raise PaniniError(f"{source} is not a folder")
    return given, place(target)
