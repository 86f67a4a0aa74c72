"""The routes to results: files, reports, and pictures for the page."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from panini.errors import PaniniError
from panini.server import pictures
from panini.server.job import Job
from panini.server.problems import Problem
from panini.server.shared import JobId, The, attachment, wanted
from panini.server.uploads import MEDIA_TYPES

router = APIRouter(prefix="/v1", tags=["results"])

Responses = dict[int | str, dict[str, Any]]
_PICTURE: Responses = {200: {"description": "The picture.", "content": {kind: {} for kind in MEDIA_TYPES.values()}}}
_SHOWN: Responses = {200: {"description": "The picture.", "content": {"image/jpeg": {}, "image/png": {}}}}
_ZIP: Responses = {200: {"description": "A zip file.", "content": {"application/zip": {}}}}
Region = Annotated[
    str, Query(pattern=r"^(\d{1,6},\d{1,6},\d{1,6},\d{1,6})?$", description="x,y,width,height in pixels of the photo.")
]


@router.get("/jobs/{id}/picture", response_class=Response, responses=_PICTURE)
async def picture(id: JobId, the: The, request: Request) -> Response:
    """The restored photo in the format of the input, with its metadata and the mark; or as Accept asks."""
    format = wanted(request.headers.get("accept", "").replace("*/*", "image/*") or "image/*")
    if format is None:
        raise Problem(406, "not-acceptable", "this is a picture")
    return await the.picture(the.jobs.get(id), format)


@router.get("/jobs/{id}/report")
async def report(id: JobId, the: The) -> dict[str, Any]:
    """The report of a job: its faces, their damage, and what is imagined."""
    return the.jobs.get(id).report()


@router.get("/jobs/{id}/preview", response_class=Response, responses=_SHOWN)
async def preview(id: JobId, the: The, which: Literal["before", "after"] = "after", region: Region = "") -> Response:
    """The photo before or after, as browsers show it, made smaller if it is large; or a region of it in full size."""
    job = the.jobs.get(id)
    photo = job.photo if which == "before" else job.finished().photo
    place = None
    if region:
        scale = photo.pixels.shape[1] // job.size[0]
        x, y, w, h = (int(value) * scale for value in region.split(","))
        if not w or not h or x + w > photo.pixels.shape[1] or y + h > photo.pixels.shape[0]:
            raise Problem(422, "bad-request", "region: it is not in the photo")
        place = (x, y, w, h)
    data, kind = await the.encode(pictures.preview, photo, place)
    return Response(data, media_type=kind)


@router.get("/jobs/{id}/faces/{number}/{which}", response_class=Response, responses=_SHOWN)
async def face(
    id: JobId,
    number: Annotated[int, Path(ge=1, le=100_000)],
    which: Literal["before", "after", "map"],
    the: The,
) -> Response:
    """One face: its crop before or after, small, or the map of likely errors that lies over its crop."""
    made = the.jobs.get(id).face(number)
    if which == "map":
        data, kind = await the.encode(pictures.invented, made.report)
    else:
        data, kind = await the.encode(pictures.face_crop, made.before if which == "before" else made.after)
    return Response(data, media_type=kind)


@router.get("/archive", response_class=StreamingResponse, responses=_ZIP)
async def archive(the: The, job: Annotated[list[str], Query(min_length=1, max_length=500)]) -> StreamingResponse:
    """The results of several jobs in one zip file. Jobs that failed or are not done are left out."""
    done = [found for found in map(the.jobs.get, dict.fromkeys(job)) if found.result is not None]
    if not done:
        raise Problem(409, "not-done", "none of these jobs is done")
    return StreamingResponse(_zip(done), media_type="application/zip", headers=attachment("panini.zip"))


def _zip(jobs: list[Job]) -> Iterator[bytes]:
    """A zip file of the jobs' results, piece by piece: one picture is in memory at a time."""
    pieces, taken = _Pieces(), set[str]()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:
        for job in jobs:
            path, number = PurePath(job.upload.result_name), 1
            name = path.name
            while name.lower() in taken:
                number += 1
                name = f"{path.stem}-{number}{path.suffix}"
            taken.add(name.lower())
            with suppress(Problem, PaniniError):
                archive.writestr(name, job.encoded())
            yield pieces.taken()
    yield pieces.taken()


class _Pieces(BytesIO):
    """A file that cannot be sought in, from whose start what is written is taken."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("not seekable")

    def taken(self) -> bytes:
        data = self.getvalue()
        self.seek(0)
        self.truncate()
        return data
