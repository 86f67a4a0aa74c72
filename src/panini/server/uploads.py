"""Reads requests that carry a photo: a multipart form or the bare file. All of it stays in memory."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath
from typing import Any

from fastapi import Request
from PIL import Image
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from panini.api import RestoreOptions
from panini.photo import io as photo_io
from panini.photo.salvage import READING
from panini.server.options import RestoreFields
from panini.server.problems import Problem, check_size, from_validation
from panini.server.settings import ServerSettings

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
}
"""Of the formats that can be written, as Pillow calls them."""
_LONGEST_NAME = 120
_FIELD_BYTES = 10_000
_FIELDS = 2_000


@dataclass(frozen=True)
class Upload:
    """A photo as it arrived, and what to make of it."""

    data: bytes
    """The file."""
    name: str
    """Its name for people, without folders; never used as a path."""
    options: RestoreOptions
    salvage: bool
    mark: bool
    size: tuple[int, int]
    """Width and height, as the file's header says; (0, 0) if only salvaging can tell."""
    format: str
    """Pillow's name of the format that its result is written in."""

    @property
    def result_name(self) -> str:
        """What the result is called when it is downloaded."""
        return result_name(self.name, self.format)


def result_name(name: str, format: str) -> str:
    """The name of the result for the photo `name`, with a suffix that fits `format`."""
    path = PurePath(name)
    fitting = [suffix for suffix, kind in photo_io.FORMATS.items() if kind == format]
    suffix = path.suffix if path.suffix.lower() in fitting else fitting[0]
    return f"{path.stem}-restored{suffix}"


async def receive(request: Request, settings: ServerSettings) -> Upload:
    """Reads the photo and the options of a request. Raises Problem or PaniniError."""
    form = await _form(request, settings)
    try:
        data, name = await _file(form, "file", required=True)
        like, _ = await _file(form, "like", required=False)
    finally:
        for _, value in form:
            if isinstance(value, UploadFile):
                await value.close()
    fields = _fields(form + [(key, value) for key, value in request.query_params.multi_items()])
    options = fields.options(like or None)
    size, kind = await asyncio.to_thread(_header, data, settings, fields.salvage)
    check_size(size, settings.max_pixels, options.scale)
    if like:
        await asyncio.to_thread(_header, like, settings, False)
    by_name = photo_io.FORMATS.get(PurePath(name).suffix.lower(), "")
    kind = "JPEG" if kind == "MPO" else kind
    format = by_name or (kind if kind in photo_io.FORMATS.values() else "PNG")
    return Upload(data, name, options, fields.salvage, fields.mark, size, format)


async def _form(request: Request, settings: ServerSettings) -> list[tuple[str, str | UploadFile]]:
    """The parts of a form; of a bare file, one part called `file`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(settings.upload_seconds):
            body = _limited(request, settings.max_bytes)
            if kind == "multipart/form-data":
                parser = MultiPartParser(
                    request.headers, body, max_files=2, max_fields=_FIELDS, max_part_size=_FIELD_BYTES
                )
                parser.spool_max_size = settings.max_bytes + 1  # never to a temporary file
                return (await parser.parse()).multi_items()
            if kind == "application/x-www-form-urlencoded":
                return (await FormParser(request.headers, body).parse()).multi_items()
            data = b"".join([chunk async for chunk in body])
    except MultiPartException as error:
        raise Problem(400, "malformed", f"the form cannot be read: {error.message}") from error
    except TimeoutError:
        raise Problem(408, "too-slow", "the request took too long to arrive") from None
    except ClientDisconnect:
        raise Problem(400, "malformed", "the request ended early") from None
    return [("file", UploadFile(BytesIO(data), filename=request.headers.get("x-file-name", "")))]


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body, piece by piece. Raises Problem beyond `limit` bytes."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise Problem(413, "too-large", f"the request has more than {limit / 1e6:g} MB")
        yield chunk


async def _file(form: list[tuple[str, str | UploadFile]], name: str, *, required: bool) -> tuple[bytes, str]:
    """The bytes of a file in a form, and its name for people."""
    found = [value for key, value in form if key == name]
    if len(found) > 1 or any(isinstance(value, str) for value in found):
        raise Problem(422, "bad-request", f"{name}: one file is wanted")
    if not found:
        if required:
            raise Problem(422, "bad-request", f"the photo is missing: send it as the field {name!r}, or as the body")
        return b"", ""
    upload = found[0]
    assert isinstance(upload, UploadFile)
    data = await upload.read()
    if required and not data:
        raise Problem(422, "unreadable-picture", "the photo is empty")
    return data, _shown(upload.filename or "")


def _shown(name: str) -> str:
    """A file's name without folders and characters that do not print; "photo" if nothing is left."""
    base = name.replace("\\", "/").rpartition("/")[2]
    base = "".join(c for c in base if c.isprintable() and c not in '<>:"|?*').strip(" .")
    path = PurePath(base)
    return f"{path.stem[:_LONGEST_NAME]}{path.suffix[:10]}" if base else "photo"


def _fields(items: list[tuple[str, Any]]) -> RestoreFields:
    """The options among the parts of a form. Raises Problem."""
    values: dict[str, Any] = {}
    for key, value in items:
        if key in ("file", "like"):
            continue
        if key in ("only", "boxes"):
            values.setdefault(key, []).append(value)
        else:
            values.setdefault(key, value)
    try:
        return RestoreFields.model_validate(values)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def _header(data: bytes, settings: ServerSettings, salvage: bool) -> tuple[tuple[int, int], str]:
    """Width, height and format as the file's header says, before anything is decoded.

    Raises ImageError if no decoder knows the file, TooLargeError if it has too many pixels.
    """
    try:
        with READING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            photo_io.register_plugins()
            with Image.open(BytesIO(data)) as image:
                size, kind = image.size, image.format or ""
    except Image.DecompressionBombError:
        size, kind = (settings.max_pixels + 1, 1), ""
    except Exception:  # decoders raise all there is on broken files; the reader of photos says what is wrong
        if not salvage:
            photo_io.load(data)
        return (0, 0), ""
    check_size(size, settings.max_pixels)
    return size, kind
