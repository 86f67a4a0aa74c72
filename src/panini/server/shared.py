"""What the routes share: the settings, the jobs, and how pictures are encoded and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, ParamSpec, TypeVar
from urllib.parse import quote

from fastapi import Depends, Path, Request
from fastapi.responses import Response

from panini.photo import io as photo_io
from panini.server.job import Job
from panini.server.jobs import Jobs
from panini.server.metrics import Metrics
from panini.server.problems import Problem
from panini.server.settings import ServerSettings
from panini.server.uploads import MEDIA_TYPES, result_name

_ENCODERS = 2  # pictures that are encoded at once: memory
Given = ParamSpec("Given")
Made = TypeVar("Made")


class Shared:
    """The state of one server."""

    def __init__(self, settings: ServerSettings, jobs: Jobs, metrics: Metrics) -> None:
        self.settings, self.jobs, self.metrics = settings, jobs, metrics
        self._encoders = asyncio.Semaphore(_ENCODERS)

    async def encode(self, make: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
        """What `make` returns, in a thread; few at once."""
        async with self._encoders:
            return await asyncio.to_thread(make, *given, **named)

    async def picture(self, job: Job, format: str) -> Response:
        """The newest result of a job. format: as Pillow calls it; empty: the one that suits the photo."""
        data = await self.encode(job.encoded, format or None)
        name = result_name(job.upload.name, format) if format else job.upload.result_name
        return Response(data, media_type=MEDIA_TYPES[format or job.upload.format], headers=attachment(name))


def _shared(request: Request) -> Shared:
    shared: Shared = request.app.state.shared
    return shared


The = Annotated[Shared, Depends(_shared)]
JobId = Annotated[str, Path(max_length=64, description="As in the answer that made the job.")]


def attachment(name: str) -> dict[str, str]:
    """The header that makes browsers save an answer under this name."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ()") else "_" for c in name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"}


def wanted(accept: str) -> str | None:
    """What an Accept header asks for: None: JSON; "": a picture in the photo's format; else Pillow's name of a format.

    Raises Problem if it is none of these.
    """
    kinds = {media_type: format for format, media_type in MEDIA_TYPES.items() if format in photo_io.FORMATS.values()}
    for kind in _ranked(accept or "*/*"):
        if kind in ("application/json", "application/*", "*/*"):
            return None
        if kind == "image/*":
            return ""
        if kind in kinds:
            return kinds[kind]
    raise Problem(406, "not-acceptable", f"the answer can be application/json, image/* or one of {', '.join(kinds)}")


def _ranked(accept: str) -> list[str]:
    """The media types of an Accept header, the preferred one first."""
    ranked = []
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        with suppress(ValueError):
            ranked.append((float(quality), kind))
    return [kind for quality, kind in sorted(ranked, key=lambda pair: -pair[0]) if quality > 0]
