"""Figures written to files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from panini.errors import PaniniError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def figure_file(path: Path, size: tuple[float, float], dpi: int) -> Iterator[Figure]:
    """A figure of `size` inches to draw on, written to `path` at the end; its suffix is the format.

    Raises PaniniError if it cannot be written.
    """
    from matplotlib.figure import Figure  # not needed for the other functions of its callers

    figure = Figure(figsize=size, layout="constrained")
    yield figure
    try:
        figure.savefig(path, dpi=dpi)
    except (OSError, ValueError) as error:
        raise PaniniError(f"cannot write {path}: {error}") from error
