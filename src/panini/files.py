"""Writing files whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Has `write` fill a file beside `path` that then takes its name; on failure nothing is left behind."""
    handle, name = tempfile.mkstemp(prefix=".panini-", suffix=".part", dir=path.parent)
    try:
        with _Written(io.FileIO(handle, "w+"), 1 << 20) as file:
            write(file)
            file.flush()
            os.fsync(handle)  # some disks say only now that they are full
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Written(io.BufferedRandom):
    """A file that hides its handle: writing to that, Pillow's encoders take no notice of a full disk."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")
