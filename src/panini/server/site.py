"""The page and its files, the documentation of the API, and what tells of the server itself."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from panini import __version__
from panini.server.problems import Problem
from panini.server.shared import The

router = APIRouter()

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def _files(package: str, folder: str) -> dict[str, bytes]:
    found = resources.files(package).joinpath(folder).iterdir()
    return {file.name: file.read_bytes() for file in found if PurePath(file.name).suffix in _TYPES}


_FILES = _files("panini.server", "page")
_FILES |= {f"swagger/{name}": data for name, data in _files("fastapi_swagger", "resources").items()}
_FILES |= {"sample.jpg": resources.files("panini").joinpath("data", "demo.jpg").read_bytes()}
"""All files of the page by name, read once: no path from a request is ever opened."""
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus's text format.", "content": {"text/plain": {}}}
}


@router.get("/", include_in_schema=False)
async def home() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_FILES["index.html"])


@router.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Swagger UI."""
    return HTMLResponse(_FILES["docs.html"])


@router.get("/static/{name:path}", include_in_schema=False)
async def static(name: str) -> Response:
    """A file of the page."""
    if name not in _FILES:
        raise Problem(404, "not-found", "there is no such file")
    return Response(_FILES[name], media_type=_TYPES[PurePath(name).suffix], headers={"Cache-Control": "no-cache"})


@router.get("/healthz", tags=["server"])
async def healthz() -> dict[str, str]:
    """Whether the server is up."""
    return {"status": "ok", "version": __version__}


@router.get("/metrics", tags=["server"], response_class=Response, responses=_TEXT)
async def metrics(the: The) -> Response:
    """What the server counts, for Prometheus."""
    return Response(the.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
