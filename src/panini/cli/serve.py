"""`panini serve`: a local web page and an HTTP API."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import MinFace, load_restorer
from panini.errors import PaniniError, how_to_get
from panini.faces import MIN_FACE
from panini.server.settings import ServerSettings

_DEFAULTS = ServerSettings()


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; a public one needs --token.")] = _DEFAULTS.host,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = _DEFAULTS.port,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    token: Annotated[
        str,
        typer.Option(envvar="PANINI_TOKEN", show_default=False, help="Secret that clients must send."),
    ] = _DEFAULTS.token,
    name: Annotated[
        list[str] | None, typer.Option(help="Host name that clients use for the server. Repeatable.")
    ] = None,
    queue: Annotated[int, typer.Option(help="Maximum number of waiting photos; more are rejected.")] = _DEFAULTS.queue,
    max_megabytes: Annotated[float, typer.Option(help="Maximum file size, in MB.")] = _DEFAULTS.max_bytes / 1e6,
    max_megapixels: Annotated[float, typer.Option(help="Maximum megapixels per photo.")] = _DEFAULTS.max_pixels / 1e6,
    timeout: Annotated[float, typer.Option(help="Time limit per photo, in seconds.")] = _DEFAULTS.seconds,
    keep: Annotated[float, typer.Option(help="Minutes to keep unused results.")] = _DEFAULTS.keep_seconds / 60,
    keep_megabytes: Annotated[float, typer.Option(help="MB of memory for results.")] = _DEFAULTS.keep_bytes / 1e6,
    store: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also keep results as files in this folder.")
    ] = _DEFAULTS.store,
    min_face: MinFace = MIN_FACE,
    network: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore photos in the browser or over an HTTP API. Nothing leaves this machine."""
    try:
        import fastapi  # noqa: F401
        import fastapi_swagger  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise PaniniError(f"serve needs {error.name}: {how_to_get('serve')}") from error
    settings = ServerSettings(
        host=host,
        port=port,
        token=token,
        names=tuple(one.lower() for one in name or ()),
        queue=queue,
        max_bytes=round(max_megabytes * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        seconds=timeout,
        keep_seconds=60 * keep,
        keep_bytes=round(keep_megabytes * 1e6),
        store=store,
    )
    run_server(settings, network, min_face, browser)


def run_server(settings: ServerSettings, engine: str, min_face: float, browser: bool) -> None:
    """Serves until Ctrl-C or SIGTERM. Raises PaniniError if it cannot listen or load the network."""
    import asyncio  # slow to import
    import webbrowser

    import uvicorn

    from panini.server.app import close, create_app

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await asyncio.to_thread(close, app)  # before it waits for its clients
            await super().shutdown(sockets)

    listening = _listen(settings.host, settings.port)
    with listening:
        app = create_app(load_restorer(engine, min_face), settings)
        port = listening.getsockname()[1]
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"http://{shown}:{port}/"
        print(f"Panini is at {address} (press Ctrl-C to stop)")
        if settings.token:
            print("Clients need the token: enter it on the page, or send the header Authorization: Bearer TOKEN")
        if not settings.is_loopback:
            print("Other machines can reach this server. It does not encrypt connections: use a TLS proxy.")
        sys.stdout.flush()
        logging.basicConfig(format="panini: %(message)s", level=logging.WARNING)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=15,
            timeout_graceful_shutdown=3,
        )
        server = Server(config)
        if browser:
            webbrowser.open(address)
        asyncio.run(server.serve(sockets=[listening]))


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PaniniError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, proto)
        if sys.platform != "win32":  # where it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        why = error.strerror or str(error)
        raise PaniniError(f"cannot listen at {host}, port {port}: {why} (choose another with --port)") from error
    return listening
