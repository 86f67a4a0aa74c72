"""Writes files whole or not at all."""

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
    """Lets `write` fill a temporary file beside `path`, which then replaces `path`. A failure leaves no file behind."""
    handle, name = tempfile.mkstemp(prefix=".panini-", suffix=".part", dir=path.parent)
    try:
        with _Written(io.FileIO(handle, "w+"), 1 << 20) as file:
            write(file)
            file.flush()
            os.fsync(handle)  # some disks report only now that they are full
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Creates a folder, if need be, with its parents. Raises PaniniError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise PaniniError(f"{path} is no folder to write to: {one_line(error)}") from error


def copy_atomically(source: Path, path: Path) -> None:
    """Copies a file byte for byte, with its times."""
    with source.open("rb") as original:
        write_atomically(path, lambda file: shutil.copyfileobj(original, file))
    shutil.copystat(source, path)


class _Written(io.BufferedRandom):
    """A file without a file number. With one, Pillow would write past Python and not notice a full disk."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")
