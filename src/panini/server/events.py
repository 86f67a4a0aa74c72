"""Waiting for jobs, and telling of them as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import Request
from fastapi.responses import StreamingResponse

from panini.server.job import Job
from panini.server.jobs import Jobs
from panini.server.problems import Problem

_ALIVE = 15.0  # seconds after which a silent stream says that it is still there
_LOOK = 1.0  # seconds between two looks whether a client still waits


class Listener:
    """Wakes a coroutine when one of its jobs changes."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs, self._event, self._loop = jobs, asyncio.Event(), asyncio.get_running_loop()

    def __enter__(self) -> Listener:
        for job in self._jobs:
            job.listeners.add(self._wake)
        return self

    def __exit__(self, *_: object) -> None:
        for job in self._jobs:
            job.listeners.discard(self._wake)

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed when the server ends
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float) -> None:
        """Returns when a job has changed since the last call, or after `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()


async def finished(job: Job, jobs: Jobs, request: Request) -> None:
    """Waits for the end of a job; stops it if the client goes away. Raises the job's problem."""
    with Listener([job]) as listener:
        while not job.state.is_final:
            await listener.wait(_LOOK)
            if jobs.closed:
                raise Problem(503, "ending", "the server ends")
            if not job.state.is_final and await request.is_disconnected():
                job.stop()
    if job.problem is not None:
        raise job.problem


def stream(found: list[Job], jobs: Jobs, *, end: bool) -> StreamingResponse:
    """The status of jobs whenever one changes. end: after the last one is done."""

    async def told() -> AsyncIterator[str]:
        last: dict[str, str] = {}
        yield "retry: 1000\n\n"
        with Listener(found) as listener:
            while not jobs.closed:
                news, final = [], all(job.state.is_final for job in found)
                for job in found:
                    text = json.dumps(job.status())
                    if last.get(job.id) != text:
                        last[job.id] = text
                        news.append(f"event: status\ndata: {text}\n\n")
                yield "".join(news) or ": still here\n\n"
                if final and end:
                    return
                await listener.wait(_ALIVE)

    return StreamingResponse(told(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
