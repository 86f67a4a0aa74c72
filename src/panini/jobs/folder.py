"""Restores folders of photos and videos. Keeps the tree, resumes stopped runs, and continues if a file fails.

A journal in the output folder records each finished file (`panini.jobs.journal`). The reports are made from it
(`panini.jobs.html_report`). Photos without a face are copied byte for byte, unless all photos are enlarged.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path, PurePath
from time import perf_counter
from typing import Any

from panini import __version__
from panini.api import Restoration, RestoreOptions, Restorer
from panini.errors import NoFaceError, PaniniError, one_line
from panini.files import copy_atomically, make_folder
from panini.jobs.html_report import report_paths, thumbnail, write_reports
from panini.jobs.journal import BEGUN, COPIED, FAILED, RESTORED, STATE, Entry, append, read
from panini.jobs.places import file_stamp
from panini.photo import io as photo_io
from panini.photo.own_results import kind_of_output

_LARGE = 24_000_000  # pixels: photos from this size on are processed one at a time, to save memory
_DEFAULTS = RestoreOptions()

_Loaded = photo_io.Photo | Exception | None
"""A photo, the error if it cannot be read, or None for a video."""
_Made = Restoration | photo_io.Photo | Restorer | Exception
"""A restored photo, a photo without a face, the restorer for a video, or an error."""


class FolderJob:
    """Restores a folder."""

    def __init__(
        self,
        source: Path,
        target: Path,
        options: RestoreOptions = _DEFAULTS,
        *,
        recursive: bool = False,
        overwrite: bool = False,
        maker: str = "",
        mark: bool = True,
        salvage: bool = False,
        again: bool = False,
    ) -> None:
        """Creates `target` if necessary. Raises PaniniError if `source` cannot be listed or `target` cannot be written.

        maker: identifies the network. Photos are restored again if the network or the `options` change.
        mark: see `Restoration.save`. salvage: see `panini.photo.io.load`. again: also restore files that Panini made.
        """
        self.source, self.target, self.overwrite, self.mark = source, target, overwrite, mark
        self._salvage, self._again = salvage, again
        options.check_for("a folder")
        self.options = options
        self._digest = settings_digest(options, maker, mark)
        try:
            if target.exists() and target.samefile(source):
                raise PaniniError(f"{target} is the folder of the originals; choose another one")
            there = next(filter(os.path.lexists, report_paths(target)), None)
            if there is not None and not (target / STATE).exists() and not overwrite:  # not ours
                raise PaniniError(f"{there} already exists (use --overwrite to replace it)")
        except (OSError, ValueError) as error:
            raise PaniniError(f"{target} cannot be used as a folder: {one_line(error)}") from error
        make_folder(target / STATE)
        self.entries = read(target)
        """The entry of every file processed so far, by its relative name."""
        for entry in self.entries.values():
            if entry.outcome == BEGUN:  # power failed
                for part in (target / entry.output).parent.glob(".panini-*.part"):
                    part.unlink(missing_ok=True)
        self.unreadable: list[Entry] = []
        """Folders that could not be listed."""
        self.others = 0
        """Number of other files, which are skipped. Hidden files are not counted."""
        self.ours = 0
        """Number of files that Panini made, which are skipped."""
        self.names = self._list(recursive)
        """The relative names of all pictures in the folder, in order."""
        self.todo = [name for name in self.names if not self._up_to_date(name)]

    @property
    def earlier(self) -> int:
        """Number of pictures that earlier runs finished."""
        return len(self.names) - len(self.todo)

    def run(self, restorer: Restorer, stop: Callable[[], bool] = lambda: False) -> Iterator[Entry]:
        """Restores the files in `todo` and yields the entry of each. Stops before the next file if `stop` returns True.

        Reads the next photo and writes the last result while the network runs. Raises PaniniError if the disk is full.
        """
        reading: Future[_Loaded] | None = None
        writing: Future[Entry] | None = None
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            for name, following in pairwise([*self.todo, ""]):
                if stop():
                    break
                start = perf_counter()
                loaded = (reading or reader.submit(self._load, name)).result()
                reading = None
                # Videos and large photos are processed alone, to save memory.
                alone = loaded is None or (isinstance(loaded, photo_io.Photo) and loaded.pixels.size > 3 * _LARGE)
                if writing is not None and alone:
                    yield writing.result()
                    writing = None
                if following and not alone:
                    reading = reader.submit(self._load, following)
                made = restorer if loaded is None else self._restore(restorer, name, loaded)
                del loaded
                if writing is not None:
                    yield writing.result()
                writing = writer.submit(self._finish, name, made, start)
                del made
                if alone:
                    yield writing.result()
                    writing = None
            if writing is not None:
                yield writing.result()

    def finished(self) -> list[Entry]:
        """The entries of all pictures that this run and earlier runs processed, in order."""
        entries = [e for name in self.names if (e := self.entries.get(name)) is not None and e.outcome != BEGUN]
        return [as_found(entry, file_stamp(self.target / entry.output)) for entry in entries]

    def summary(self, seconds: float) -> dict[str, Any]:
        """The totals for the reports. seconds: duration of this run."""
        pictures = len(self.names)
        entries = self.finished() + self.unreadable
        names = str(self.source), str(self.target)
        return summarize(*names, self.options, seconds, pictures, entries, self.others, self.ours)

    def write_reports(self, seconds: float) -> list[Path]:
        """Writes `report.json` and `report.html` into the output folder; returns their paths. Raises PaniniError."""
        return write_reports(self.source, self.target, self.summary(seconds), self.finished() + self.unreadable)

    def _list(self, recursive: bool) -> list[str]:
        """Relative names of the pictures. Does not follow links to folders, because they can form cycles."""

        def unreadable(error: OSError) -> None:
            folder = Path(error.filename)
            if folder == self.source:
                raise PaniniError(f"{folder} cannot be listed: {error.strerror}") from error
            self.unreadable.append(
                Entry(os.path.relpath(folder, self.source), error=f"cannot be listed: {error.strerror}")
            )

        names, videos = [], find_spec("av") is not None
        ours = self.target.resolve()
        for folder, folders, files in os.walk(self.source, onerror=unreadable):
            here = Path(folder)
            folders[:] = sorted(f for f in folders if recursive and f[0] != "." and (here / f).resolve() != ours)
            for file in sorted(f for f in files if f[0] != "."):
                if not self._again and self._is_ours(here / file, files):
                    self.ours += 1
                elif is_work(file, videos):
                    names.append(os.path.relpath(here / file, self.source))
                else:
                    self.others += 1
        return names

    def _is_ours(self, path: Path, among: list[str]) -> bool:
        """Whether Panini made a picture. Does not open files that were restored from this folder before."""
        if path.suffix.lower() not in photo_io.READABLE and not photo_io.is_video(path):
            return False
        entry = self.entries.get(os.path.relpath(path, self.source))
        if entry is not None and entry.outcome in (RESTORED, COPIED) and entry.source_stamp == file_stamp(path):
            return False
        return bool(kind_of_output(path, among))

    def _up_to_date(self, name: str) -> bool:
        entry = self.entries.get(name)
        if entry is None or entry.outcome in (FAILED, BEGUN) or entry.settings != self._digest:
            return False
        return entry.source_stamp == file_stamp(self.source / name) and (self.target / entry.output).exists()

    def _load(self, name: str) -> _Loaded:
        if photo_io.is_video(PurePath(name)):
            return None
        try:
            return photo_io.load(self.source / name, salvage=self._salvage)
        except Exception as error:  # any error of a decoder becomes an entry in the report
            return error

    def _restore(self, restorer: Restorer, name: str, photo: photo_io.Photo | Exception) -> _Made:
        """The restoration, or the photo itself if it has no face."""
        if isinstance(photo, Exception):
            return photo
        try:
            return restorer.restore(photo, self.options, keep=self.options.scale != 1)
        except NoFaceError:
            return photo
        except Exception as error:
            return error

    def _finish(self, name: str, made: _Made, start: float) -> Entry:
        """Writes a result and returns its entry. Restores a video if `made` is a restorer."""
        source, output = self.source / name, photo_io.output_name(name)
        stamp, faces, small, note = file_stamp(source), list[dict[str, Any]](), "", ""
        try:
            match made:
                case Exception():
                    raise made
                case Restoration():
                    path = self._begin(name, output)
                    made.save(path, overwrite=True, mark=self.mark)
                    note = "; ".join([*photo_io.not_kept(made.photo, path), *made.remarks])
                    small = thumbnail(made, self.target / STATE, name) if made.faces else ""
                    faces = made.as_dict()["faces"]
                case Restorer():
                    path = self._begin(name, output)
                    faces, note = self._restore_video(made, source, path)
            if not faces and not isinstance(made, Restoration):
                output = name
                path = self._begin(name, output)
                copy_atomically(source, path)
        except Exception as error:
            return self._failed(name, error, stamp)
        return self._note(
            Entry(
                source=name,
                output=output,
                outcome=RESTORED if faces else COPIED,
                note=note,
                faces=faces,
                seconds=round(perf_counter() - start, 2),
                thumbnail=small,
                source_stamp=stamp,
                output_stamp=file_stamp(path),
                settings=self._digest,
            )
        )

    def _failed(self, name: str, error: Exception, stamp: tuple[int, int]) -> Entry:
        """The entry of a failed file. Raises PaniniError if the disk is full, because all other files would fail."""
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PaniniError(
                f"the disk of {self.target} is full, {len(self.finished())} of {len(self.names)} are done; "
                "run the same command to resume"
            ) from error
        # A result from an earlier run, or one that this run started to write, still belongs to Panini.
        earlier = self.entries.get(name, Entry(name))
        begun = earlier.outcome == BEGUN
        return self._note(
            Entry(
                name,
                earlier.output,
                error=_words(error, self.source / name),
                source_stamp=stamp,
                output_stamp=file_stamp(self.target / earlier.output) if begun else earlier.output_stamp,
                settings=self._digest,
            )
        )

    def _begin(self, name: str, output: str) -> Path:
        """The path of a result. Records it in the journal first, to recognize the file after a power failure.

        Raises PaniniError if the path has a file that Panini did not write.
        """
        path = self.target / output
        if not self.overwrite and os.path.lexists(path):
            earlier = self.entries.get(name)
            if earlier is None or not earlier.output or self.target / earlier.output != path:
                raise PaniniError(f"{path} already exists (use --overwrite to replace it)")
            if earlier.outcome != BEGUN and earlier.output_stamp != file_stamp(path):
                raise PaniniError(f"{path} was edited since Panini wrote it (use --overwrite to replace it)")
        path.parent.mkdir(parents=True, exist_ok=True)
        photo_io.check_place(path, self.source / name, overwrite=True)
        self._note(Entry(name, output, BEGUN))
        return path

    def _restore_video(self, restorer: Restorer, source: Path, path: Path) -> tuple[list[dict[str, Any]], str]:
        """Restores a video. Returns a placeholder per face (none: nothing was written) and a note about losses."""
        from panini.jobs.video import restore_video

        lost: list[str] = []
        try:
            count = restore_video(
                restorer, source, path, self.options, overwrite=True, mark=self.mark, tell=lost.append
            )
        except NoFaceError:
            return [], ""
        return [{"imagined": None}] * count, "; ".join(lost)

    def _note(self, entry: Entry) -> Entry:
        """Adds an entry to the journal. Only the writing thread calls this."""
        self.entries[entry.source] = entry
        append(self.target, entry)
        return entry


def is_work(name: str, videos: bool) -> bool:
    """Whether a file has a picture suffix, or a video suffix if `videos` can be restored."""
    return PurePath(name).suffix.lower() in photo_io.READABLE or (videos and photo_io.is_video(PurePath(name)))


def settings_digest(options: RestoreOptions, maker: str, mark: bool) -> str:
    """Identifies how a result is made, for the journal; see `FolderJob`."""
    return json.dumps([options.as_dict(), maker, mark], sort_keys=True)


def as_found(entry: Entry, stamp: tuple[int, int]) -> Entry:
    """The entry for the report, with a note if the current `stamp` shows that someone edited the result."""
    changed = entry.output and stamp != entry.output_stamp
    return replace(entry, note="edited since Panini wrote it, and not replaced") if changed else entry


def summarize(
    source: str,
    target: str,
    options: RestoreOptions,
    seconds: float,
    pictures: int,
    entries: list[Entry],
    others: int,
    ours: int,
) -> dict[str, Any]:
    """The totals for the reports."""
    outcomes = [entry.outcome for entry in entries]
    return {
        "panini": __version__,
        "source": source,
        "output": target,
        "settings": options.as_dict(),
        "seconds": round(seconds, 1),
        "pictures": pictures,
        **{outcome: outcomes.count(outcome) for outcome in (RESTORED, COPIED, FAILED)},
        "other_files": others,
        "own_files": ours,
        "faces": sum(len(entry.faces) for entry in entries),
    }


def _words(error: Exception, source: Path) -> str:
    """The message of an error in one line, without the file name, which is printed before it."""
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    return one_line(error).removeprefix(f"{one_line(source)} ")
