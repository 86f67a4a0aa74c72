"""The work on one photo: finding its faces, restoring them, and restoring them again with other settings.

Crops and v_DR are kept, so that new settings cost one run of the restorer for each face that they change.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from panini.api import FaceSettings, FoundFaces, Restoration, RestoredFace, RestoreOptions, Restorer
from panini.errors import PaniniError, StoppedError, one_line
from panini.faces import align
from panini.faces.by_hand import face_in_box
from panini.faces.detect import Box, Face, overlap
from panini.photo import io as photo_io
from panini.photo.color import is_monochrome
from panini.report.face_report import as_dict
from panini.server.options import Changes, FaceChange
from panini.server.pictures import Region, preview_scale
from panini.server.problems import Problem, TooSlowError, check_size, problem_of
from panini.server.settings import ServerSettings
from panini.server.uploads import Upload

_LOG = logging.getLogger("panini.server")
_SOON = 0.8  # seconds after which a person who waits is shown what there is
_SAME = 0.5  # intersection over union from which a box drawn by hand is that of a face that is known


class State(StrEnum):
    """What a job is at."""

    WAITING = "waiting"
    FINDING = "finding faces"
    FOUND = "found faces"
    RESTORING = "restoring faces"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens, unless the settings change."""
        return self in (State.DONE, State.FAILED, State.STOPPED)


@dataclass
class FaceWork:
    """One face of a job."""

    face: Face
    transform: align.Transform
    dial: float
    strength: float
    wanted: bool = True
    """Whether it is to be restored."""
    by_hand: bool = False
    restored: RestoredFace | None = None
    made_with: tuple[float, float, int] | None = None
    """Dial, strength and passes of `restored`."""
    shown_with: object = None
    """What of the settings the newest result of the job shows the face with."""
    version: int = 0
    """That of the job when the face last changed."""

    def take(self, change: Changes | FaceChange) -> None:
        """Takes the new dial and strength of a change, if it has them."""
        self.dial = self.dial if change.dial is None else change.dial
        self.strength = self.strength if change.strength is None else change.strength

    def needs_only_blending(self, dial: float, passes: int) -> bool:
        """Whether its strength is all that may differ from what is wanted; the network need not run again then."""
        return self.made_with is not None and self.made_with[::2] == (dial, passes)


class Job:
    """The work on one photo. Its methods `find`, `restore` and `whole` run on the worker's thread."""

    def __init__(self, upload: Upload, settings: ServerSettings) -> None:
        self.id = secrets.token_urlsafe(18)
        self.upload = upload
        self.options = upload.options
        self.state = State.WAITING
        self.done, self.of = 0, 0
        """Parts of the present step that are done, and of how many."""
        self.problem: Problem | None = None
        self.note = ""
        """Why the last change could not be made, in one line."""
        self.faces: list[FaceWork] = []
        self.result: Restoration | None = None
        self.remarks: list[str] = []
        """On the newest result: what it lacks of the file that was sent, and what a person should know."""
        self.version = 0
        """Grows with each result."""
        self.tick = 0
        """Grows with each change of the status, so that clients can tell an old one from a new one."""
        self.used = monotonic()
        """When a client last asked for it."""
        self.listeners: set[Callable[[], None]] = set()
        """Called, on any thread, when the status changes."""
        self.on_final: Callable[[Job], None] = lambda job: None
        """Called once, when the job first is done, failed or stopped."""
        self._settings = settings
        self._face_settings = FaceSettings()
        self._photo: photo_io.Photo | None = None
        self._monochrome = False
        self._smaller = 0
        self._boxes: list[Box] = []
        self._timings: dict[str, float] = {}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._told_final = self._busy = False
        self._has_dial, self._crop_side = True, 512

    # What clients ask for, on any thread.

    def stop(self) -> None:
        """Ends the work at the next pause."""
        self._stopping.set()
        if self.state in (State.WAITING, State.FOUND):
            self._fail(StoppedError("the job was stopped"))

    def change(self, changes: Changes) -> None:
        """Takes new settings, which the next `restore` heeds. Raises PaniniError, and then changes nothing."""
        with self._lock:
            if self.upload.options.aligned and (changes.faces or changes.boxes):
                raise PaniniError("the photo is one face: change the whole")
            for change in changes.faces:
                if change.number > len(self.faces):
                    raise PaniniError(f"there is no face {change.number}: {len(self.faces)} found")
            options = replace(self.options, **changes.options())
            check_size(self.size, self._settings.max_pixels, options.scale)
            self.options = options
            for face in self.faces:
                face.take(changes)
            for change in changes.faces:
                face = self.faces[change.number - 1]
                face.take(change)
                face.wanted = face.wanted if change.restore is None else change.restore
            self._boxes += changes.boxes
            self.note = ""
            self.tick += 1
            if self.state is State.DONE:  # not any more
                self.state, self.done, self.of = State.RESTORING, 0, 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo."""
        if self._photo is None:
            return self.upload.size
        return self._photo.pixels.shape[1], self._photo.pixels.shape[0]

    @property
    def photo(self) -> photo_io.Photo:
        """The photo as it was sent. Raises Problem if it is not read yet."""
        if self._photo is None:
            raise self.problem or Problem(409, "not-done", f"the photo is not read yet: {self.state}")
        return self._photo

    def finished(self) -> Restoration:
        """The newest result. Raises Problem if there is none yet, or if the job failed."""
        if self.result is None:
            raise self.problem or Problem(409, "not-done", f"the job is not done yet: {self.state}")
        return self.result

    def face(self, number: int) -> RestoredFace:
        """A face of the job, from 1, as it was last restored. Raises Problem."""
        if self.upload.options.aligned and self.result is not None and number == 1:
            return self.result.faces[0]
        made = self.faces[number - 1].restored if 0 < number <= len(self.faces) else None
        if made is None:
            raise Problem(404, "not-found", f"there is no restored face {number}")
        return made

    def encoded(self, format: str | None = None) -> bytes:
        """The newest result as a file with the photo's metadata and, if wanted, the mark.

        format: as Pillow calls it; None: the one that suits the photo. Raises Problem or ImageError.
        """
        result, file = self.finished(), BytesIO()
        picture = result.photo
        if self.upload.mark:
            dials = sorted({face.report.dial for face in result.faces})
            picture = result.marked(picture, dial=f"{dials[0]:g} to {dials[-1]:g}" if len(dials) > 1 else "")
        photo_io.save(picture, file, format or self.upload.format)
        return file.getvalue()

    def report(self) -> dict[str, Any]:
        """What is known of the newest result. Raises Problem."""
        result = self.finished()
        lost = photo_io.not_kept(result.photo, Path(self.upload.result_name))
        return {"photo": self.upload.name} | result.as_dict() | {"not_kept": lost}

    def status(self) -> dict[str, Any]:
        """All that the page shows of the job, as plain values for JSON."""
        width, height = self.size
        result = self.result
        scale = self.options.scale if result is None else result.photo.pixels.shape[1] // max(width, 1)
        return {
            "id": self.id,
            "name": self.upload.name,
            "tick": self.tick,
            "state": self.state.value,
            "done": self.done,
            "of": self.of,
            "version": self.version,
            "width": width,
            "height": height,
            "scale": self.options.scale,
            "result_scale": scale,
            "preview_scale": preview_scale(max(width * scale, 1), max(height * scale, 1)),
            "grain": self.options.grain,
            "dial": self.options.dial,
            "strength": self.options.strength,
            "has_dial": self._has_dial,
            "faces": [self._face_status(number, face) for number, face in enumerate(self.faces, 1)],
            "smaller_faces": self._smaller,
            "imagined": None if result is None or result.imagined is None else round(result.imagined, 3),
            "remarks": self.remarks,
            "result_name": self.upload.result_name,
            "problem": None if self.problem is None else self.problem.as_dict(),
            "note": self.note,
        }

    @property
    def memory(self) -> int:
        """Bytes that the job holds, about."""
        held = len(self.upload.data)
        for photo in (self._photo, None if self.result is None else self.result.photo):
            if photo is not None:
                arrays = (photo.pixels, photo.alpha, photo.pixels16)
                held += sum(array.nbytes for array in arrays if array is not None)
        for face in self.faces:
            if face.restored is not None:
                made = face.restored
                parts = {id(part): part.nbytes for part in (made.before, made.after, made.made.image, made.made.crop)}
                held += made.inside.nbytes + sum(parts.values())
        return held

    def _face_status(self, number: int, face: FaceWork) -> dict[str, Any]:
        back = align.invert(face.transform)  # from the crop to the photo
        known: dict[str, Any] = {"imagined": None, "summary": "", "nearly_all_imagined": False}
        if face.restored is not None:
            told = as_dict(face.restored.report)
            known = {name: told[name] for name in known}
        return {
            "number": number,
            "box": [round(float(v), 1) for v in face.face.box],
            "crop": [round(float(v), 4) for v in back.T.ravel()],
            "region": list(self._region(face)),
            "score": round(face.face.score, 3),
            "by_hand": face.by_hand,
            "restore": face.wanted,
            "dial": face.dial,
            "strength": face.strength,
            "ready": face.restored is not None,
            "version": face.version,
        } | known

    def _region(self, face: FaceWork) -> Region:
        """What of the photo the crop of a face covers, in whole pixels."""
        side = self._crop_side
        corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ align.invert(face.transform).T
        limits = np.array(self.size)
        x0, y0 = np.clip(np.floor(corners.min(0)), 0, limits).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(corners.max(0)), 0, limits).astype(int).tolist()
        return x0, y0, x1 - x0, y1 - y0

    # The work, on the worker's thread.

    def whole(self, restorer: Restorer, pause: Callable[[], None]) -> None:
        """`find`, then `restore`."""
        self.find(restorer, pause)
        self.restore(restorer, pause)

    def find(self, restorer: Restorer, pause: Callable[[], None]) -> None:
        """Reads the photo and finds its faces. A failure becomes the job's problem."""
        if self.state.is_final:
            return
        with self._working(restorer, pause, State.FINDING, State.FOUND):
            self._has_dial, self._crop_side = restorer.engine.calibration is not None, restorer.engine.input_size
            self._face_settings = restorer.prepare(self.options)
            photo = photo_io.load(self.upload.data, salvage=self.upload.salvage)
            check_size((photo.pixels.shape[1], photo.pixels.shape[0]), self._settings.max_pixels, self.options.scale)
            self._monochrome = is_monochrome(photo.pixels)
            if not self.options.aligned:
                found = restorer.find(photo, self.options, self._timings)
                self._smaller = found.smaller
                self.faces = [
                    FaceWork(face, transform, self.options.dial, self.options.strength)
                    for face, transform in zip(found.faces, found.transforms, strict=True)
                ]
            self._photo = photo
            self.upload = replace(self.upload, data=b"")

    def restore(self, restorer: Restorer, pause: Callable[[], None]) -> None:
        """Restores what the settings ask for and is not made yet. A failure becomes the job's problem."""
        if self.state in (State.FAILED, State.STOPPED) or self._photo is None or self._busy:
            return  # a job that is busy takes new settings before it ends
        with self._working(restorer, pause, State.RESTORING, State.DONE):
            if self.options.aligned:
                self._show(restorer.restore(self._photo, self.options))
            else:
                self._restore_faces(restorer)
                self._show(self._composed(restorer))

    @contextmanager
    def _working(self, restorer: Restorer, pause: Callable[[], None], now: State, then: State) -> Iterator[None]:
        """One step of the work, from the state `now` to the state `then`. An error becomes the job's problem.

        Meanwhile, the restorer tells this job of its progress; within a pause, another one.
        """
        before = restorer.progress
        restorer.progress = partial(self._checkpoint, monotonic() + self._settings.seconds, pause)
        try:
            try:
                self._busy = True
                self._enter(now)
                yield
            finally:
                restorer.progress, self._busy = before, False
            self._enter(then)
        except Exception as error:
            self._fail(error)

    def _options_of_the_mark(self) -> RestoreOptions:
        """The options, with the faces that are restored, as `only` of the command line would name them."""
        chosen = tuple(number for number, face in enumerate(self.faces, 1) if face.wanted)
        named = self.options.only or any(face.by_hand for face in self.faces)
        return self.options if named or len(chosen) == len(self.faces) else replace(self.options, only=chosen)

    def _composed(self, restorer: Restorer) -> Restoration:
        assert self._photo is not None
        chosen = [face for face in self.faces if face.wanted and face.restored is not None]
        found = FoundFaces(self._photo, [f.face for f in chosen], [f.transform for f in chosen], self._smaller)
        restored = [face.restored for face in chosen if face.restored is not None]
        result = restorer.compose(found, restored, self._options_of_the_mark(), dict(self._timings))
        for face in self.faces:
            shown = (face.wanted and face.made_with, self.options.grain)
            face.version = face.version if face.shown_with == shown else self.version + 1
            face.shown_with = shown
        return result

    def _show(self, result: Restoration) -> None:
        self.remarks = photo_io.not_kept(result.photo, Path(self.upload.result_name)) + result.remarks
        self.result = result
        self.version += 1

    def _restore_faces(self, restorer: Restorer) -> None:
        """Restores every face that is not as the settings want it.

        Where a person waits for new settings and each face takes several passes, faces with a single pass are shown
        first, and each soon after it is made.
        """
        drafts, shown = False, monotonic()
        self._add_boxes(restorer)
        while (stale := self._stale()) is not None:
            work, passes = stale
            if drafts and (passes == self.options.passes or monotonic() - shown > _SOON):
                self._show(self._composed(restorer))
                shown = monotonic()
            drafts = passes != self.options.passes
            self._restore_face(restorer, work, passes)
            self._add_boxes(restorer)

    def _stale(self) -> tuple[FaceWork, int] | None:
        """The next face that is not as the settings want it, and the passes that it is to have now; drafts first."""
        passes = self.options.passes
        with self._lock:
            wanted = [face for face in self.faces if face.wanted]
            stale = [face for face in wanted if face.made_with != (face.dial, face.strength, passes)]
        self.done, self.of = len(wanted) - len(stale), len(wanted)
        for face in stale:
            several = passes > 1 and face.restored is not None
            drafted = face.needs_only_blending(face.dial, passes) or face.made_with == (face.dial, face.strength, 1)
            if several and self.result is not None and not drafted:
                return face, 1
        return (stale[0], passes) if stale else None

    def _restore_face(self, restorer: Restorer, work: FaceWork, passes: int) -> None:
        assert self._photo is not None
        restorer.progress(State.RESTORING, self.done, self.of)
        key = (work.dial, work.strength, passes)
        settings = FaceSettings(replace(self._face_settings.edit, dial=key[0]), key[1], passes)
        if work.restored is not None and work.needs_only_blending(key[0], passes):
            work.restored = restorer.blend_face(work.restored, work.transform, settings, self._timings)
        else:
            work.restored = restorer.restore_face(
                self._photo.pixels, work.face, work.transform, self._monochrome, settings, self._timings, work.restored
            )
        work.made_with = key

    def _add_boxes(self, restorer: Restorer) -> None:
        """Adds the faces that were boxed by hand, or chooses those that are known. One that fails becomes the note."""
        assert self._photo is not None
        while self._boxes:
            try:
                face = face_in_box(restorer.detector, self._photo.pixels, self._boxes.pop(0))
                same = [work for work in self.faces if overlap(work.face, face)[0] > _SAME]
                if same:
                    same[0].wanted = True
                    continue
                transform = restorer.transform(self._photo.pixels, face)
            except (PaniniError, ValueError) as error:
                self.note = one_line(error)
                continue
            with self._lock:
                work = FaceWork(face, transform, self.options.dial, self.options.strength, by_hand=True)
                self.faces.append(work)

    def _checkpoint(self, deadline: float, pause: Callable[[], None], step: str, done: int, of: int) -> None:
        """Where the work can end, and where it lets others run. Raises StoppedError or TooSlowError."""
        self.done, self.of = done, of
        self._tell()
        if self._stopping.is_set():
            raise StoppedError("the job was stopped")
        if monotonic() > deadline:
            raise TooSlowError(f"{step} took longer than {self._settings.seconds:g} s, the limit of this server")
        pause()

    def _enter(self, state: State) -> None:
        self.state = state
        self.used = monotonic()
        self._tell()

    def _fail(self, error: BaseException) -> None:
        problem = problem_of(error)
        if problem.status == 500:
            _LOG.error("a job failed", exc_info=error)
        if self.result is not None and not self._stopping.is_set():  # the last result is still good
            self.note = problem.detail
            self._enter(State.DONE)
            return
        self.problem = problem
        self._photo, self.faces, self.result = None, [], None
        self._enter(State.STOPPED if isinstance(error, StoppedError) else State.FAILED)

    def _tell(self) -> None:
        self.tick += 1
        if self.state.is_final and not self._told_final:
            self._told_final = True
            self.on_final(self)
        for listener in tuple(self.listeners):
            listener()
