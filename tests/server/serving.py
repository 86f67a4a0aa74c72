"""Servers for the tests: real ones, on a port of their own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from time import sleep, time

import httpx
import numpy as np
import uvicorn
from PIL import Image
from skimage import data

from panini.api import Restorer
from panini.cli.common import load_restorer
from panini.cli.serve import _listen
from panini.server.app import create_app
from panini.server.settings import ServerSettings

FACE = Image.fromarray(data.astronaut()[40:180, 150:290]).resize((96, 96))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)))


def cheap() -> Restorer:
    """A restorer whose network only enlarges."""
    return load_restorer("bicubic", 48)


@contextmanager
def server(restorer: Restorer, **settings: object) -> Iterator[httpx.Client]:
    """A client of a server with these settings, in a thread of this process."""
    with _listen("127.0.0.1", 0) as listening:
        app = create_app(restorer, ServerSettings(port=0, **settings))
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                until(lambda: client.get("/healthz").status_code == 200)
                yield client
        finally:
            running.should_exit = True
            thread.join(10)


def until(true, seconds: float = 30):
    """Waits for something to be true; returns it."""
    end = time() + seconds
    while time() < end:
        if found := true():
            return found
        sleep(0.02)
    raise AssertionError("it did not become true")


def done(client: httpx.Client, job: dict) -> dict:
    """The status of a job when it is done."""

    def final() -> dict | None:
        status = client.get(f"/v1/jobs/{job['id']}").json()
        return status if status["state"] in ("done", "failed", "stopped") else None

    return until(final, 60)


def problem(answer: httpx.Response, status: int, kind: str) -> str:
    """The detail of a refusal, which has that status and type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["type"] == f"urn:panini:{kind}"
    assert told["title"]
    assert "\n" not in told["detail"]
    return told["detail"]
