"""Assembles a server: the routes, what they share, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from panini import __version__
from panini.api import Restorer
from panini.server import problems, results, routes, site
from panini.server.guard import Guard
from panini.server.jobs import Jobs
from panini.server.metrics import Metrics
from panini.server.options import RestoreFields
from panini.server.settings import ServerSettings
from panini.server.shared import Shared

_SWEEP = 10.0  # seconds between two looks for expired results
_NO_TELEMETRY: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)


def create_app(restorer: Restorer, settings: ServerSettings | None = None) -> FastAPI:
    """The ASGI application of a server that restores photos with `restorer`."""
    settings, metrics = settings or ServerSettings(), Metrics()
    jobs = Jobs(restorer, settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.start()
        sweeping = asyncio.create_task(_sweep(jobs))
        try:
            yield
        finally:
            sweeping.cancel()
            jobs.close()

    app = FastAPI(
        title="Panini",
        version=__version__,
        summary="Restores the faces in photos, and says how much of them is real.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
        telemetry=_NO_TELEMETRY,
    )
    app.state.shared = Shared(settings, jobs, metrics)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    problems.install(app)
    for router in (routes.router, results.router, site.router):
        app.include_router(router)
    _describe(app, bool(settings.token))
    return app


def close(app: FastAPI) -> None:
    """Lets go of all clients that wait, so that the server can end at once."""
    app.state.shared.jobs.close()


async def _sweep(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        jobs.sweep()


def _describe(app: FastAPI, token: bool) -> None:
    """Adds to the OpenAPI document what FastAPI cannot know."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    photo = {"type": "string", "format": "binary", "description": "The photo."}
    like = photo | {"description": "Another photo, whose damage is assumed."}
    fields = RestoreFields.model_json_schema()["properties"]
    schemas["Problem"] = problems.SCHEMA
    schemas["PhotoForm"] = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": photo, "like": like} | fields,
    }
    parts = {"id": {"type": "string"}, "report": {"type": "object"}, "links": {"type": "object"}}
    schemas["Restored"] = {"type": "object", "required": list(parts), "properties": parts}
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
