"""Storage for folder jobs on many machines: a folder, or a URL that fsspec can open (`s3://...`).

Names are relative, with `/` between folders. All writes are atomic.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from panini.errors import PaniniError, how_to_get, one_line
from panini.files import copy_atomically, make_folder, write_atomically

Stamp = tuple[int, int]
"""Size in bytes and modification time in ns, which reveal changes; (0, 0) if there is no such file."""

_WITH_BUCKETS = ("s3://", "s3a://", "gs://", "gcs://")
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])")


class Place(Protocol):
    """A tree of files."""

    name: str
    """The folder or URL, for messages and reports."""

    unreadable: dict[str, str]
    """The folders that `files` could not list, with the reasons."""

    def files(self, recursive: bool = True, hidden: str = "") -> Iterator[tuple[str, Stamp]]:
        """All files in order, folder by folder, except hidden files and files in hidden folders (with a leading dot).

        hidden: lists all files in this hidden folder instead.
        """
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Makes a file available at a new local path, which must not be written to."""
        ...

    def put(self, path: Path, name: str) -> Stamp:
        """Copies a local file to this place. Replaces an existing file."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file. Empty if there is no such file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Writes a file. Replaces an existing file."""
        ...

    def remove(self, name: str) -> None:
        """Deletes a file if it exists."""
        ...


def url_of(path: Path | str) -> str | None:
    """The URL, if a path on the command line is one; None for a plain path."""
    found = _URL.match(str(path))
    return f"{found[1]}://{str(path)[found.end() :].rstrip('/')}" if found else None


def place(path: Path | str) -> Place:
    """Opens the place at a path or URL. Raises PaniniError if that fails."""
    url = url_of(path)
    if url is not None and url.startswith("file://"):
        return Folder(Path("/", url.removeprefix("file://")))
    return Folder(Path(path)) if url is None else Remote(url)


class Folder:
    """A folder on this machine, or one shared by all machines."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.name = str(path)
        self.unreadable: dict[str, str] = {}
        """The folders that could not be listed, and why."""

    def files(self, recursive: bool = True, hidden: str = "") -> Iterator[tuple[str, Stamp]]:
        """See `Place.files`. Does not follow links to folders. Raises PaniniError if the folder cannot be listed."""
        self.unreadable = {}

        def failed(error: OSError) -> None:
            if isinstance(error, FileNotFoundError):
                return  # there is nothing yet
            if Path(error.filename) == self.path:
                raise PaniniError(f"{self.name} cannot be listed: {error.strerror}") from error
            self.unreadable[os.path.relpath(error.filename, self.path)] = f"cannot be listed: {error.strerror}"

        for folder, folders, names in os.walk(self.path / hidden, onerror=failed):
            folders[:] = sorted(f for f in folders if recursive and (hidden or f[0] != "."))
            for name in sorted(n for n in names if hidden or n[0] != "."):
                path = Path(folder, name)
                yield os.path.relpath(path, self.path), file_stamp(path)

    def fetch(self, name: str, path: Path) -> None:
        """See `Place.fetch`. Creates a link instead of a copy."""
        (self.path / name).stat()  # raises an error if it cannot be read
        path.symlink_to(self.path / name)

    def put(self, path: Path, name: str) -> Stamp:
        """See `Place.put`."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_atomically(path, target)
        return file_stamp(target)

    def sweep(self) -> None:
        """Deletes partial files of crashed workers."""
        for folder, _, names in os.walk(self.path):
            for name in names:
                if name.startswith(".panini-") and name.endswith(".part"):
                    Path(folder, name).unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """See `Place.read`."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return b""

    def write(self, name: str, content: bytes) -> None:
        """See `Place.write`."""
        target = self.path / name
        make_folder(target.parent)
        write_atomically(target, lambda file: file.write(content))

    def remove(self, name: str) -> None:
        """See `Place.remove`."""
        (self.path / name).unlink(missing_ok=True)


class Remote:
    """A URL that fsspec can open. Object stores write files atomically."""

    def __init__(self, url: str) -> None:
        self.name = url
        self.unreadable: dict[str, str] = {}
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ModuleNotFoundError as error:
            raise PaniniError(f"{url} needs {error.name}: {how_to_get('ray')}") from error
        except (ImportError, ValueError) as error:  # fsspec names the library that the protocol needs
            raise PaniniError(f"{url} cannot be opened: {one_line(error)}") from error
        self._root = self._root.rstrip("/")

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        return Remote, (self.name,)

    def files(self, recursive: bool = True, hidden: str = "") -> Iterator[tuple[str, Stamp]]:
        """See `Place.files`. Raises PaniniError if the place cannot be listed."""
        found: dict[str, Any] = {}
        bucket = self._root.split("/")[0]
        try:
            with suppress(FileNotFoundError):
                found = self._fs.find(self._path(hidden).rstrip("/"), maxdepth=None if recursive else 1, detail=True)
            if not found and self.name.startswith(_WITH_BUCKETS) and not self._fs.exists(bucket):
                raise FileNotFoundError(f"there is no bucket {bucket}")
        except Exception as error:  # each store has its own exceptions
            raise PaniniError(f"{self.name} cannot be listed: {one_line(error)}") from error
        names = {path[len(self._root) + 1 :]: about for path, about in found.items()}
        for name in sorted(names, key=lambda name: (*name.split("/")[:-1], "", name)):
            if name and (hidden or not any(part.startswith(".") for part in name.split("/"))):
                yield name, _stamp_of(names[name])

    def fetch(self, name: str, path: Path) -> None:
        """See `Place.fetch`."""
        self._fs.get_file(self._path(name), str(path))

    def put(self, path: Path, name: str) -> Stamp:
        """See `Place.put`."""
        self._fs.put_file(str(path), self._path(name))
        return _stamp_of(self._fs.info(self._path(name)))

    def read(self, name: str) -> bytes:
        """See `Place.read`."""
        try:
            return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return b""

    def write(self, name: str, content: bytes) -> None:
        """See `Place.write`."""
        self._fs.pipe_file(self._path(name), content)

    def remove(self, name: str) -> None:
        """See `Place.remove`."""
        if self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def file_stamp(path: Path) -> Stamp:
    """The stamp of a file on this machine."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def _stamp_of(about: dict[str, Any]) -> Stamp:
    """The stamp of a file from its fsspec metadata. Each file system uses its own key for the time."""
    times = (about[key] for key in ("LastModified", "mtime", "updated", "last_modified", "created") if key in about)
    time = next(times, 0)
    seconds = time.timestamp() if hasattr(time, "timestamp") else time
    return (int(about.get("size") or 0), int(float(seconds) * 1e9) if isinstance(seconds, int | float) else 0)
