"""The jobs of a server: admission, the worker that runs them, and how long results are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from time import monotonic

from panini.api import Restorer
from panini.server.job import Job, State
from panini.server.metrics import Metrics
from panini.server.problems import Problem
from panini.server.settings import ServerSettings
from panini.server.store import Store
from panini.server.uploads import Upload
from panini.server.worker import Urgency, Worker

_HELD_PIXELS = 200_000_000
"""Of photos in work, from which faces are no longer searched for ahead of the restorations before: memory."""
_USUAL = 5.0  # seconds that a photo is thought to take before the first is done


class Jobs:
    """All jobs of a server, by id."""

    def __init__(self, restorer: Restorer, settings: ServerSettings, metrics: Metrics) -> None:
        self._restorer, self._settings, self._metrics = restorer, settings, metrics
        self._worker = Worker()
        self._jobs: dict[str, Job] = {}
        self._unfinished: set[Job] = set()
        self.closed = False
        """Whether the server ends."""
        self._places: set[Place] = set()
        self._seconds = _USUAL
        self.store = None if settings.store is None else Store(settings.store, settings.keep_seconds)
        """Where results are kept as files; None: nowhere."""
        metrics.watch(lambda: len(self._places), lambda: sum(job.memory for job in self._jobs.values()))

    def start(self) -> None:
        """Starts the worker."""
        self._worker.start()

    def close(self) -> None:
        """Stops all work, and lets go of clients that wait for it."""
        self.closed = True
        for job in {*self._jobs.values(), *self._unfinished}:
            job.stop()
            for listener in tuple(job.listeners):
                listener()
        self._worker.close()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place in the queue while a photo is received; it passes to the job that takes it. Raises Problem."""
        if len(self._places) >= self._settings.queue:  # only the event loop adds places
            self._metrics.refused.inc()
            seconds = max(1, min(60, ceil(self._seconds)))  # until there may be a place again
            raise Problem(429, "queue-full", "the queue is full: try again later", {"Retry-After": str(seconds)})
        place = Place(self)
        self._places.add(place)
        try:
            yield place
        finally:
            if not place.taken:
                self._places.discard(place)

    def get(self, id: str) -> Job:
        """The job of that id. Raises Problem if there is none, or if it has expired."""
        job = self._jobs.get(id)
        if job is None:
            raise Problem(404, "not-found", "there is no such job, or it has expired")
        job.used = monotonic()
        return job

    def drop(self, id: str) -> None:
        """Stops a job and forgets it and its results. Raises Problem if there is none."""
        self.get(id).stop()
        self._jobs.pop(id, None)
        if self.store is not None:
            self.store.drop(id)

    def redraw(self, job: Job) -> None:
        """Lets a job be restored with its new settings."""
        self._worker.submit(Urgency.REDRAW, partial(job.restore, self._restorer, self._worker.pause))

    def sweep(self) -> None:
        """Forgets what has expired, and the oldest results if all take too much memory."""
        now = monotonic()
        finished = sorted((job for job in self._jobs.values() if job.state.is_final), key=lambda job: job.used)
        held = sum(job.memory for job in self._jobs.values())
        for number, job in enumerate(finished, 1):
            expired = now - job.used > self._settings.keep_seconds and not job.listeners
            if expired or (held > self._settings.keep_bytes and number < len(finished)):  # the last one is in use
                held -= job.memory
                self._jobs.pop(job.id, None)
        if self.store is not None:
            self.store.drop_expired()

    def _take(self, place: Place, upload: Upload, *, page: bool, keep: bool) -> Job:
        job, began = Job(upload, self._settings), monotonic()
        place.taken = True
        self._unfinished.add(job)
        if keep:
            self._jobs[job.id] = job

        def ended(job: Job) -> None:
            self._places.discard(place)
            self._unfinished.discard(job)
            self._metrics.finished(job)
            if job.state is State.DONE:
                self._seconds += 0.2 * (min(monotonic() - began, 600) / (len(self._places) + 1) - self._seconds)
                if keep and self.store is not None:
                    self.store.write(job)
            self.sweep()

        job.on_final = ended
        if page:
            ahead = self._held() < _HELD_PIXELS
            self._worker.submit(Urgency.FIND if ahead else Urgency.RESTORE, partial(self._find, job))
        else:
            self._worker.submit(Urgency.RESTORE, partial(job.whole, self._restorer, self._worker.pause))
        return job

    def _find(self, job: Job) -> None:
        job.find(self._restorer, self._worker.pause)
        if not job.state.is_final:
            self._worker.submit(Urgency.RESTORE, partial(job.restore, self._restorer, self._worker.pause))

    def _held(self) -> int:
        sizes = [job.size for job in tuple(self._jobs.values()) if not job.state.is_final]
        return sum(width * height for width, height in sizes)


class Place:
    """A place in the queue."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self.taken = jobs, False

    def take(self, upload: Upload, *, page: bool = False, keep: bool = True) -> Job:
        """A job for a photo, which has the place until it is finished.

        page: find the faces first, so that they can be shown. keep: let clients ask for it by its id.
        """
        return self._jobs._take(self, upload, page=page, keep=keep)
