"""One thread that owns the network, and the tasks that wait for it."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from enum import IntEnum
from heapq import heappop, heappush

_LOG = logging.getLogger("panini.server")


class Urgency(IntEnum):
    """In which order tasks are taken; within one kind, the first come is the first served."""

    REDRAW = 0
    """A person has moved a slider and waits. Such a task may also run in a pause of another one."""
    FIND = 1
    """Finding faces, so that each photo soon shows where they are."""
    RESTORE = 2


class Worker:
    """Runs one task at a time.

    Batches would not pay: on a CPU, two faces at once take as long as one after the other.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Urgency, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = self._in_pause = False
        self._thread = threading.Thread(target=self._run, name="panini-worker", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Takes no further task, and waits up to `seconds` for the present one."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def submit(self, urgency: Urgency, task: Callable[[], None]) -> None:
        """Adds a task, which must not raise."""
        with self._changed:
            if not self._closed:
                heappush(self._waiting, (urgency, next(self._numbers), task))
                self._changed.notify()

    def pause(self) -> None:
        """Called within a task: runs the redraws that wait."""
        if self._in_pause:
            return
        self._in_pause = True
        try:
            while (task := self._next(Urgency.REDRAW, wait=False)) is not None:
                _attempt(task)
        finally:
            self._in_pause = False

    def _next(self, least: Urgency, *, wait: bool) -> Callable[[], None] | None:
        """The next task that is as urgent as `least`; None if there is none, or if the worker is closed."""
        with self._changed:
            while wait and not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting or self._waiting[0][0] > least:
                return None
            return heappop(self._waiting)[2]

    def _run(self) -> None:
        while (task := self._next(Urgency.RESTORE, wait=True)) is not None:
            _attempt(task)
            del task  # it holds a photo until the next one comes


def _attempt(task: Callable[[], None]) -> None:
    try:
        task()
    except Exception:  # the thread must live on
        _LOG.exception("a task failed")
