"""Figures written to files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from panini.errors import PaniniError


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Writes `figure` in the format of `path`'s suffix. Raises PaniniError."""
    try:
        figure.savefig(path, dpi=dpi)
    except (OSError, ValueError) as error:
        raise PaniniError(f"cannot write {path}: {error}") from error
