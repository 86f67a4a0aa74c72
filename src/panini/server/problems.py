"""Errors as clients get them: one JSON object, as RFC 9457 describes it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from panini.errors import NoFaceError, PaniniError, StoppedError, first_line, one_line
from panini.photo.io import DamagedImageError, ImageError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818  as RFC 9457 calls it
    """A request that is refused."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """status: 400 to 599. kind: a short name that stays the same. detail: one line for people."""
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = dict(headers or {})

    def as_dict(self) -> dict[str, Any]:
        """The members that RFC 9457 names."""
        title = HTTPStatus(self.status).phrase
        return {"type": f"urn:panini:{self.kind}", "title": title, "status": self.status, "detail": self.detail}

    def response(self) -> JSONResponse:
        """The answer to the client."""
        return JSONResponse(self.as_dict(), self.status, self.headers, media_type=MEDIA_TYPE)


class TooSlowError(PaniniError):
    """The work on a photo took longer than the server allows."""


class TooLargeError(PaniniError):
    """A photo that has, or would get, more pixels than the server allows."""


def check_size(size: tuple[int, int], limit: float, scale: int = 1) -> None:
    """Raises TooLargeError if a photo of this width and height has more pixels than `limit`, or its result more than
    four times as many."""
    pixels = size[0] * size[1]
    if pixels > limit:
        raise TooLargeError(f"the photo has more than {limit / 1e6:g} megapixels")
    if pixels * scale**2 > 4 * limit:
        raise TooLargeError(f"the result would have more than {4 * limit / 1e6:g} megapixels")


_WORDS = {
    " (use --salvage, or salvage=True in Python)": " (use salvage=true)",
    ": rename it with a video suffix, such as .mp4": ": this server restores photos only",
}
"""What the library and the command line say, and what a server says instead."""


def problem_of(error: BaseException) -> Problem:
    """The problem that tells a client of an error; anything but a PaniniError is an internal one without details."""
    kinds: dict[type[PaniniError], tuple[int, str]] = {
        NoFaceError: (422, "no-face"),
        StoppedError: (409, "stopped"),
        TooSlowError: (422, "too-slow"),
        TooLargeError: (413, "too-large"),
        DamagedImageError: (422, "damaged-picture"),
        ImageError: (422, "unreadable-picture"),
        PaniniError: (422, "bad-request"),
    }
    if isinstance(error, Problem):
        return error
    for kind, (status, name) in kinds.items():
        if isinstance(error, kind):
            detail = one_line(error)
            for said, instead in _WORDS.items():
                detail = detail.replace(said, instead)
            return Problem(status, name, detail)
    if isinstance(error, MemoryError):
        return Problem(413, "too-large", "the photo does not fit in memory")
    return Problem(500, "internal", f"an error in Panini: {type(error).__name__}")


def install(app: FastAPI) -> None:
    """Lets `app` answer every error with a problem."""

    async def told(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return from_validation(error.errors()).response()

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return Problem(error.status_code, kind, first_line(Exception(error.detail)), error.headers).response()

    for kind in (Problem, PaniniError, Exception):
        app.add_exception_handler(kind, told)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)


def from_validation(errors: Any) -> Problem:
    """The first of pydantic's errors as a problem."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or "the request"
    return Problem(422, "bad-request", f"{where}: {one_line(first['msg'])}")


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, words in {
        400: "The request is malformed.",
        401: "The token is missing or wrong.",
        403: "The request comes from another site.",
        404: "There is no such job, face or picture; or it has expired.",
        406: "No picture of the wanted kind can be written.",
        408: "The request took too long to arrive.",
        409: "The job was stopped, or is not done yet.",
        413: "The photo or the request is too large.",
        421: "The Host header names another server.",
        422: "The photo cannot be read, has no face, or an option does not fit it.",
        503: "The server ends.",
        429: "The queue is full; the header Retry-After says when to try again.",
    }.items()
}
"""What every route can answer besides success, for OpenAPI."""

SCHEMA = {
    "type": "object",
    "description": "An error, as RFC 9457 describes it.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A name that stays the same, such as urn:panini:no-face."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One line for people."},
    },
}
