"""Assembles the command line. Turns errors into a one-line message and an exit code."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from panini import __version__
from panini.cli.convert import degrade, export, import_prior
from panini.cli.demo import demo
from panini.cli.devices import devices
from panini.cli.evaluate import evaluate
from panini.cli.inspect import inspect
from panini.cli.measure import calibrate, figures, probe
from panini.cli.restore import restore
from panini.cli.serve import serve
from panini.cli.train import TrainCommand, ablate, train
from panini.errors import PaniniError

app = typer.Typer(
    help="Restore the faces in a photo and report how much of each face is real.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"panini {__version__}")
        raise typer.Exit


@app.callback()
def panini(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Restore the faces in a photo and report how much of each face is real."""


_USERS = (restore, inspect, demo, serve, devices)
_RESEARCHERS = (degrade, train, ablate, export, import_prior, probe, evaluate, calibrate, figures)
for verb in (*_USERS, *_RESEARCHERS):  # in the order of `panini --help`
    app.command(cls=TrainCommand if verb is train else None)(verb)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs the command line and exits with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # the encoding may lack characters of file names
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        result = app(arguments or ["--help"], prog_name="panini", standalone_mode=False)
        sys.stdout.flush()
        if result == 130:  # typer catches Ctrl-C silently
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except PaniniError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The program that reads our output has exited. Without this, Python prints an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return _fail("not enough memory", 2)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # typer's usage errors have it
        if usage is None:
            raise
        return _fail(usage().replace("Value error, ", ""), 2)


def _fail(message: str, code: int) -> int:
    print(f"panini: {' '.join(message.split())}", file=sys.stderr)
    return code
