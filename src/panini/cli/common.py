"""Helpers for several commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from panini.errors import PaniniError, how_to_get
from panini.faces import MIN_FACE

if TYPE_CHECKING:
    from panini.api import Restorer

MinFace = Annotated[float, typer.Option(help="Skip faces narrower than this many pixels (at least 8).")]
Salvage = Annotated[bool, typer.Option("--salvage", help="Read the undamaged part of a damaged or truncated file.")]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|…", help="Device that runs the network; see `panini devices`.")
]


def load_restorer(engine: str, min_face: float = MIN_FACE, device: str = "auto", *, strict: bool = False) -> Restorer:
    """Creates a restorer with the engine `engine` for faces at least `min_face` pixels wide. Raises PaniniError.

    If `device` fails, uses the next best one and prints a line to stderr. With `strict`, raises PaniniError instead.
    """
    from panini.api import Restorer
    from panini.faces.detect import CenterFace
    from panini.inference import load_engine

    if not min_face >= 8:
        raise PaniniError(f"--min-face must be at least 8, not {min_face:g}")

    def tell(words: str) -> None:
        if strict:
            raise PaniniError(words)
        print(f"panini: {words}", file=sys.stderr)

    return Restorer(
        load_engine(engine, device, tell=tell), None if min_face == MIN_FACE else CenterFace(min_face=min_face)
    )


@contextmanager
def progress_bar(transient: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr. Yields a function of the step, the work done and the total (0: unknown)."""
    from rich.console import Console

    from panini.progress import Bar

    with Bar(Console(stderr=True), transient=transient) as progress:
        bar = progress.add_task("finding faces", total=None)

        def show(step: str, done: int, of: int) -> None:
            progress.update(bar, description=step)
            progress.reached(bar, done, of)

        yield show


@contextmanager
def needs_train_extra(verb: str) -> Iterator[None]:
    """Turns a missing library into a PaniniError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PaniniError(f"{verb} needs {error.name}: {how_to_get('train')}") from error


def count(faces: int) -> str:
    """The number of faces in words."""
    return f"{faces} face" if faces == 1 else f"{faces} faces"
