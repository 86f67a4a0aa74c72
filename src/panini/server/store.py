"""Results as files in a folder, for servers that are started with `--store`."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from panini.errors import PaniniError
from panini.files import write_atomically

if TYPE_CHECKING:
    from panini.server.job import Job

_LOG = logging.getLogger("panini.server")
_OURS = re.compile(r"([A-Za-z0-9_-]{24})\.(json|[a-z]{3,4})")


class Store:
    """A folder with two files for each result: the picture and its report, both named after the job's id."""

    def __init__(self, folder: Path, seconds: float) -> None:
        """seconds: how long files are kept. Creates the folder if need be; raises PaniniError if it cannot."""
        self._folder, self._seconds = folder, seconds
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise PaniniError(f"{folder} is no folder to write to: {error.strerror}") from error

    def write(self, job: Job) -> None:
        """Writes the result of a job. A failure is logged: the client still has the result in memory."""
        try:
            picture, report = job.encoded(), json.dumps(job.report(), indent=1).encode()
            suffix = Path(job.upload.result_name).suffix.lower()
            write_atomically(self._folder / f"{job.id}{suffix}", lambda file: file.write(picture))
            write_atomically(self._folder / f"{job.id}.json", lambda file: file.write(report))
        except (OSError, PaniniError) as error:
            _LOG.error("a result cannot be stored: %s", error)

    def drop(self, id: str) -> None:
        """Deletes the files of a job."""
        for path in self._files():
            if path.name.startswith(f"{id}."):
                path.unlink(missing_ok=True)

    def drop_expired(self) -> None:
        """Deletes files that are older than they are kept."""
        for path in self._files():
            try:
                if time.time() - path.stat().st_mtime > self._seconds:
                    path.unlink(missing_ok=True)
            except OSError as error:
                _LOG.error("%s cannot be deleted: %s", path, error.strerror)

    def _files(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if _OURS.fullmatch(path.name)]
