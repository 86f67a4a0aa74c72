"""The routes of the page and of the API."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from io import BytesIO
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request
from fastapi import Path as PathField
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from panini import __version__
from panini.api import Restorer
from panini.errors import PaniniError
from panini.photo import io as photo_io
from panini.server import pictures, problems, uploads
from panini.server.guard import Guard
from panini.server.job import Job, State
from panini.server.jobs import Jobs
from panini.server.metrics import Metrics
from panini.server.options import Changes, RestoreFields
from panini.server.problems import RESPONSES, Problem
from panini.server.settings import ServerSettings
from panini.server.uploads import MEDIA_TYPES

_SWEEP = 10.0  # seconds between two looks for expired results
_ALIVE = 15.0  # seconds after which a silent event stream says that it is still there
_ENCODERS = 2  # pictures that are encoded at once: memory
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""Media types of the page's files."""

_PHOTO = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/PhotoForm"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/jpeg", "image/png")},
        },
    }
}
"""What of a request that carries a photo FastAPI cannot know: we read it ourselves, to keep it in memory."""
_PICTURES = {200: {"description": "The picture.", "content": {kind: {} for kind in MEDIA_TYPES.values()}}}

JobId = Annotated[str, PathField(max_length=64, description="As in the answer that made the job.")]
Fields = Annotated[RestoreFields, Query()]


def create_app(restorer: Restorer, settings: ServerSettings | None = None) -> FastAPI:
    """The ASGI application of a server that restores photos with `restorer`."""
    settings = settings or ServerSettings()
    metrics = Metrics()
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
        responses=RESPONSES,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )
    app.state.settings, app.state.jobs, app.state.metrics, app.state.restorer = settings, jobs, metrics, restorer
    app.state.encoders = asyncio.Semaphore(_ENCODERS)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    problems.install(app)
    _add_api(app)
    _add_results(app)
    _add_page(app)
    _describe(app)
    return app


async def _sweep(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        jobs.sweep()


def _jobs(request: Request) -> Jobs:
    found: Jobs = request.app.state.jobs
    return found


TheJobs = Annotated[Jobs, Depends(_jobs)]


def _add_api(app: FastAPI) -> None:
    settings: ServerSettings = app.state.settings

    @app.post(
        "/v1/restore", tags=["photos"], openapi_extra=_PHOTO, response_model=None,
        responses=_PICTURES | {200: {"description": "The picture, or the report with links.", "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Restored"}}, **{k: {} for k in MEDIA_TYPES.values()},
        }}},
    )  # fmt: skip
    async def restore(request: Request, jobs: TheJobs, fields: Fields) -> Response:
        """Restores a photo and answers when that is done.

        With `Accept: image/*` (or one kind of picture) the answer is the picture, and nothing is kept. Otherwise it is the
        report with links to the picture, which is kept for a while.
        """
        wanted = _wanted(request.headers.get("accept", ""))
        with jobs.place() as place:
            upload = await uploads.receive(request, settings)
            job = place.take(upload, keep=wanted is None)
        try:
            await _finished(job, request)
        except asyncio.CancelledError:
            job.stop()
            raise
        if job.problem is not None:
            raise job.problem
        if wanted is None:
            return JSONResponse({"id": job.id, "report": job.report(), "links": _links(job)})
        return await _picture(app, job, wanted or None)

    @app.post(
        "/v1/inspect", tags=["photos"], openapi_extra=_PHOTO,
        responses={200: {"description": "The faces, largest first."}},
    )  # fmt: skip
    async def inspect(request: Request, jobs: TheJobs, fields: Fields) -> dict[str, Any]:
        """Lists the faces of a photo: place, score, damage, and how much a restoration would imagine."""
        with jobs.place() as place:
            upload = await uploads.receive(request, settings)
            job = place.take(upload, keep=False)
        await _finished(job, request)
        if job.problem is not None and job.problem.kind != "no-face":
            raise job.problem
        faces = [] if job.problem is not None else job.report()["faces"]
        width, height = job.size
        return {"photo": upload.name, "width": width, "height": height, "faces": faces}

    @app.post("/v1/jobs", tags=["jobs"], status_code=202, openapi_extra=_PHOTO)
    async def start(request: Request, jobs: TheJobs, fields: Fields) -> JSONResponse:
        """Starts to restore a photo and answers at once. Ask for the job, or follow its events."""
        with jobs.place() as place:
            upload = await uploads.receive(request, settings)
            job = place.take(upload, page=True)
        return JSONResponse(job.status() | {"links": _links(job)}, 202, {"Location": f"/v1/jobs/{job.id}"})

    @app.get("/v1/jobs/{id}", tags=["jobs"])
    async def status(id: JobId, jobs: TheJobs) -> dict[str, Any]:
        """What a job is at, and its faces."""
        job = jobs.get(id)
        return job.status() | {"links": _links(job)}

    @app.patch("/v1/jobs/{id}", tags=["jobs"], status_code=202)
    async def change(id: JobId, changes: Changes, jobs: TheJobs) -> dict[str, Any]:
        """Restores a photo again with other settings. Crops and v_DR are kept: only what changes is restored again."""
        job = jobs.get(id)
        if job.state in (State.FAILED, State.STOPPED):
            raise Problem(409, "stopped", f"the job has {job.state}")
        job.change(changes)
        jobs.redraw(job)
        return job.status() | {"links": _links(job)}

    @app.delete("/v1/jobs/{id}", tags=["jobs"], status_code=204)
    async def stop(id: JobId, jobs: TheJobs) -> Response:
        """Stops a job and forgets it and its results."""
        jobs.drop(id)
        return Response(status_code=204)

    events_of = {200: {"description": "The status of a job whenever it changes.", "content": {"text/event-stream": {}}}}

    @app.get("/v1/jobs/{id}/events", tags=["jobs"], response_class=StreamingResponse, responses=events_of)
    async def events(id: JobId, jobs: TheJobs) -> StreamingResponse:
        """The status of a job whenever it changes, as server-sent events; ends when the job is done."""
        return _event_stream([jobs.get(id)], end=True)

    @app.get("/v1/events", tags=["jobs"], response_class=StreamingResponse, responses=events_of)
    async def all_events(
        jobs: TheJobs, job: Annotated[list[str], Query(min_length=1, max_length=500)]
    ) -> StreamingResponse:
        """The status of several jobs whenever one changes, as server-sent events. Jobs that are gone are left out."""
        found = []
        for id in job:
            with suppress(Problem):
                found.append(jobs.get(id))
        return _event_stream(found, end=False)


async def _finished(job: Job, request: Request) -> None:
    """Waits for the end of a job; stops it if the client goes away."""
    with _Listener([job]) as listener:
        while not job.state.is_final:
            await listener.wait(1.0)
            if not job.state.is_final and await request.is_disconnected():
                job.stop()


class _Listener:
    """Wakes a coroutine when one of its jobs changes."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs, self._event, self._loop = jobs, asyncio.Event(), asyncio.get_running_loop()

    def __enter__(self) -> _Listener:
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


def _event_stream(jobs: list[Job], *, end: bool) -> StreamingResponse:
    async def told() -> AsyncIterator[str]:
        last: dict[str, str] = {}
        yield "retry: 1000\n\n"
        with _Listener(jobs) as listener:
            while True:
                changed = False
                for job in jobs:
                    final, text = job.state.is_final, json.dumps(job.status())
                    if last.get(job.id) != text:
                        last[job.id], changed = text, True
                        yield f"event: status\ndata: {text}\n\n"
                    if final and end:
                        return
                if not changed:
                    yield ": still here\n\n"
                await listener.wait(_ALIVE)

    return StreamingResponse(told(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _links(job: Job) -> dict[str, str]:
    own = f"/v1/jobs/{job.id}"
    return {"self": own} | {name: f"{own}/{name}" for name in ("events", "picture", "report", "preview")}


def _wanted(accept: str) -> str | None:
    """What an Accept header asks for: None: JSON; "": a picture in the photo's format; else Pillow's name of a format.

    Raises Problem if it is none of these.
    """
    kinds = {media_type: format for format, media_type in MEDIA_TYPES.items() if format in photo_io.FORMATS.values()}
    ranked = []
    for number, part in enumerate(accept.split(",") if accept.strip() else ["*/*"]):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        with suppress(ValueError):
            ranked.append((-float(weight), number, kind))
    for weight, _, kind in sorted(ranked):
        if weight == 0:
            continue
        if kind in ("application/json", "application/*", "*/*"):
            return None
        if kind == "image/*":
            return ""
        if kind in kinds:
            return kinds[kind]
    raise Problem(406, "not-acceptable", f"the answer can be application/json, image/* or one of {', '.join(kinds)}")


async def _encoded(app: FastAPI, make: Any, *arguments: Any) -> Any:
    """What `make` returns, in a thread; few at once."""
    async with app.state.encoders:
        return await asyncio.to_thread(make, *arguments)


async def _picture(app: FastAPI, job: Job, format: str | None = None) -> Response:
    data = await _encoded(app, job.encoded, format)
    kind = format or job.upload.format
    name = job.upload.result_name if format is None else uploads.result_name(job.upload.name, kind)
    return Response(data, media_type=MEDIA_TYPES[kind], headers=_attachment(name))


def _attachment(name: str) -> dict[str, str]:
    plain = "".join(c if c.isascii() and c.isalnum() or c in "-_. ()" else "_" for c in name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"}


def _add_results(app: FastAPI) -> None:
    @app.get("/v1/jobs/{id}/picture", tags=["results"], response_class=Response, responses=_PICTURES)
    async def picture(id: JobId, jobs: TheJobs, request: Request) -> Response:
        """The restored photo in the format of the input, with its metadata and the mark; or as Accept asks."""
        wanted = _wanted(request.headers.get("accept", "").replace("*/*", "image/*") or "image/*")
        if wanted is None:
            raise Problem(406, "not-acceptable", "this is a picture")
        return await _picture(app, jobs.get(id), wanted or None)

    @app.get("/v1/jobs/{id}/report", tags=["results"])
    async def report(id: JobId, jobs: TheJobs) -> dict[str, Any]:
        """The report of a job: its faces, their damage, and what is imagined."""
        return jobs.get(id).report()

    shown = {200: {"description": "The picture.", "content": {"image/jpeg": {}, "image/png": {}}}}

    @app.get("/v1/jobs/{id}/preview", tags=["results"], response_class=Response, responses=shown)
    async def preview(
        id: JobId,
        jobs: TheJobs,
        which: Literal["before", "after"] = "after",
        region: Annotated[
            str, Query(pattern=r"^(\d{1,6},\d{1,6},\d{1,6},\d{1,6})?$", description="x,y,width,height of the photo.")
        ] = "",
    ) -> Response:
        """The photo before or after, as browsers show it, made smaller if it is large; or a region in full size."""
        job = jobs.get(id)
        photo = job.photo if which == "before" else job.finished().photo
        place = None
        if region:
            scale = photo.pixels.shape[1] // job.size[0]
            x, y, w, h = (int(v) * scale for v in region.split(","))
            if not w or not h or x + w > photo.pixels.shape[1] or y + h > photo.pixels.shape[0]:
                raise Problem(422, "bad-request", "region: it is not in the photo")
            place = (x, y, w, h)
        data, kind = await _encoded(app, pictures.preview, photo, place)
        return Response(data, media_type=kind)

    @app.get("/v1/jobs/{id}/faces/{number}/{which}", tags=["results"], response_class=Response, responses=shown)
    async def face(
        id: JobId, number: Annotated[int, PathField(ge=1, le=100_000)], which: Literal["before", "after", "map"], jobs: TheJobs
    ) -> Response:
        """One face: its crop before or after, small, or the map of likely errors that lies over its crop."""
        made = jobs.get(id).face(number)
        if which == "map":
            data, kind = await _encoded(app, pictures.invented, made.report)
        else:
            data, kind = await _encoded(app, pictures.face_crop, made.before if which == "before" else made.after)
        return Response(data, media_type=kind)

    @app.get(
        "/v1/archive", tags=["results"], response_class=StreamingResponse,
        responses={200: {"description": "A zip file.", "content": {"application/zip": {}}}},
    )  # fmt: skip
    def archive(
        jobs: TheJobs, job: Annotated[list[str], Query(min_length=1, max_length=500)]
    ) -> StreamingResponse:
        """The results of several jobs in one zip file. Jobs that failed or are not done are left out."""
        done = [found for found in map(jobs.get, dict.fromkeys(job)) if found.result is not None]
        if not done:
            raise Problem(409, "not-done", "none of these jobs is done")
        return StreamingResponse(_zip(done), media_type="application/zip", headers=_attachment("panini.zip"))


def _zip(jobs: list[Job]) -> Iterator[bytes]:
    """A zip file of the jobs' results, piece by piece: one picture is in memory at a time."""
    piece, taken = _Pieces(), set()
    with zipfile.ZipFile(piece, "w", zipfile.ZIP_STORED) as archive:
        for job in jobs:
            path, number = PurePath(job.upload.result_name), 1
            name = path.name
            while name.lower() in taken:
                number += 1
                name = f"{path.stem}-{number}{path.suffix}"
            taken.add(name.lower())
            with suppress(Problem, PaniniError):
                archive.writestr(name, job.encoded())
            yield piece.taken()
    yield piece.taken()


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


def _add_page(app: FastAPI) -> None:
    files = _files("panini.server", "page")
    files |= {f"swagger/{name}": data for name, data in _files("fastapi_swagger", "resources").items()}
    files["sample.jpg"] = resources.files("panini").joinpath("data", "demo.jpg").read_bytes()

    @app.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        return HTMLResponse(files["index.html"])

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(files["docs.html"])

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in files:
            raise Problem(404, "not-found", "there is no such file")
        return Response(files[name], media_type=_TYPES[PurePath(name).suffix], headers={"Cache-Control": "no-cache"})

    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok", "version": __version__}

    @app.get(
        "/metrics", tags=["server"], response_class=Response,
        responses={200: {"description": "Prometheus's text format.", "content": {"text/plain": {}}}},
    )  # fmt: skip
    async def metrics() -> Response:
        """What the server counts, for Prometheus."""
        return Response(app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _files(package: str, folder: str) -> dict[str, bytes]:
    """The page's files of a package, by name: read once, so that no path from a request is opened."""
    found = resources.files(package).joinpath(folder).iterdir()
    return {file.name: file.read_bytes() for file in found if PurePath(file.name).suffix in _TYPES}


def _describe(app: FastAPI) -> None:
    """Adds to the OpenAPI document what FastAPI cannot know."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            fields = RestoreFields.model_json_schema()["properties"]
            photo = {"type": "string", "format": "binary", "description": "The photo."}
            like = photo | {"description": "Another photo, whose damage is assumed."}
            schemas["Problem"] = problems.SCHEMA
            schemas["PhotoForm"] = {
                "type": "object",
                "required": ["file"],
                "properties": {"file": photo, "like": like} | fields,
            }
            schemas["Restored"] = {
                "type": "object",
                "required": ["id", "report", "links"],
                "properties": {"id": {"type": "string"}, "report": {"type": "object"}, "links": {"type": "object"}},
            }
            if app.state.settings.token:
                document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"token": []}]
        return app.openapi_schema or document

    app.openapi = openapi  # type: ignore[method-assign]
