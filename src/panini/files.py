"""Writes files atomically."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from panini.errors import PaniniError, one_line


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` with a temporary file in the same folder, which then replaces `path`. Failures leave no file."""
    handle, name = tempfile.mkstemp(prefix=".panini-", suffix=".part", dir=path.parent)
    try:
        with _Written(io.FileIO(handle, "w+"), 1 << 20) as file:
            write(file)
            file.flush()
            os.fsync(handle)  # some file systems report a full disk only here
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_file(path: Path, data: bytes) -> None:
    """Writes a file atomically. Raises PaniniError."""
    try:
        write_atomically(path, lambda file: file.write(data))
    except OSError as error:
        raise PaniniError(f"cannot write {path}: {one_line(error)}") from error


def make_folder(path: Path) -> None:
    """Creates a folder and its parents unless they exist. Raises PaniniError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise PaniniError(f"{path} cannot be used as a folder: {one_line(error)}") from error


def copy_atomically(source: Path, path: Path) -> None:
    """Copies a file with its timestamps."""
    with source.open("rb") as original:
        write_atomically(path, lambda file: shutil.copyfileobj(original, file))
    shutil.copystat(source, path)


class _Written(io.BufferedRandom):
    """A file without a file descriptor. With one, Pillow would bypass Python and miss errors such as a full disk."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")
