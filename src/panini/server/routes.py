"""The routes that restore: one photo at once, or a job that is followed, changed and stopped."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from panini.server import events, uploads
from panini.server.job import Job, State
from panini.server.options import Changes, RestoreFields
from panini.server.problems import Problem
from panini.server.shared import JobId, The, wanted
from panini.server.uploads import MEDIA_TYPES

router = APIRouter(prefix="/v1")
Fields = Annotated[RestoreFields, Query()]

_FILE = {"schema": {"type": "string", "format": "binary"}}
_PHOTO = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/PhotoForm"}}}
        | dict.fromkeys(("application/octet-stream", "image/jpeg", "image/png"), _FILE),
    }
}
"""The body of a request that carries a photo. `panini.server.uploads` reads it, so that all of it stays in memory."""
_RESTORED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture, or the report with links.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Restored"}}}
        | {kind: {} for kind in MEDIA_TYPES.values()},
    }
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The status of a job whenever it changes.", "content": {"text/event-stream": {}}}
}


@router.post("/restore", tags=["photos"], openapi_extra=_PHOTO, response_model=None, responses=_RESTORED)
async def restore(request: Request, the: The, fields: Fields) -> Response:
    """Restores a photo and answers when that is done.

    With `Accept: image/*` (or one kind of picture) the answer is the picture, and nothing is kept. Otherwise it is the
    report with links to the picture, which is kept for a while.
    """
    format = wanted(request.headers.get("accept", ""))
    with the.jobs.place() as place:
        job = place.take(await uploads.receive(request, the.settings), keep=format is None)
    await events.finished(job, the.jobs, request)
    if format is None:
        return JSONResponse({"id": job.id, "report": job.report(), "links": _links(job)})
    return await the.picture(job, format)


@router.post("/inspect", tags=["photos"], openapi_extra=_PHOTO)
async def inspect(request: Request, the: The, fields: Fields) -> dict[str, Any]:
    """Lists the faces of a photo: place, score, damage, and how much a restoration would imagine."""
    with the.jobs.place() as place:
        job = place.take(await uploads.receive(request, the.settings), keep=False)
    size, faces = job.size, []
    try:
        await events.finished(job, the.jobs, request)
        size, faces = job.size, job.report()["faces"]
    except Problem as problem:
        if problem.kind != "no-face":
            raise
    return {"photo": job.upload.name, "width": size[0], "height": size[1], "faces": faces}


@router.post("/jobs", tags=["jobs"], status_code=202, openapi_extra=_PHOTO)
async def start(request: Request, the: The, fields: Fields) -> JSONResponse:
    """Starts to restore a photo and answers at once. Ask for the job, or follow its events."""
    with the.jobs.place() as place:
        job = place.take(await uploads.receive(request, the.settings), page=True)
    return JSONResponse(_told(job), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get("/jobs/{id}", tags=["jobs"])
async def status(id: JobId, the: The) -> dict[str, Any]:
    """What a job is at, and its faces."""
    return _told(the.jobs.get(id))


@router.patch("/jobs/{id}", tags=["jobs"], status_code=202)
async def change(id: JobId, changes: Changes, the: The) -> dict[str, Any]:
    """Restores a photo again with other settings. Crops and v_DR are kept: only what changes is restored again."""
    job = the.jobs.get(id)
    if job.state in (State.FAILED, State.STOPPED):
        raise Problem(409, "stopped", f"the job has {job.state}")
    job.change(changes)
    the.jobs.redraw(job)
    return _told(job)


@router.delete("/jobs/{id}", tags=["jobs"], status_code=204)
async def stop(id: JobId, the: The) -> Response:
    """Stops a job and forgets it and its results."""
    the.jobs.drop(id)
    return Response(status_code=204)


@router.get("/jobs/{id}/events", tags=["jobs"], response_class=StreamingResponse, responses=_EVENTS)
async def events_of_one(id: JobId, the: The) -> StreamingResponse:
    """The status of a job whenever it changes, as server-sent events; ends when the job is done."""
    return events.stream([the.jobs.get(id)], the.jobs, end=True)


@router.get("/events", tags=["jobs"], response_class=StreamingResponse, responses=_EVENTS)
async def events_of_several(
    the: The, job: Annotated[list[str], Query(min_length=1, max_length=500)]
) -> StreamingResponse:
    """The status of several jobs whenever one changes, as server-sent events. Jobs that are gone are left out."""
    found = []
    for id in job:
        with suppress(Problem):
            found.append(the.jobs.get(id))
    return events.stream(found, the.jobs, end=False)


def _told(job: Job) -> dict[str, Any]:
    return job.status() | {"links": _links(job)}


def _links(job: Job) -> dict[str, str]:
    own = f"/v1/jobs/{job.id}"
    return {"self": own} | {name: f"{own}/{name}" for name in ("events", "picture", "report", "preview")}
