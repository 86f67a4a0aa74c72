"""The journal of a folder job, used to resume it: one JSON object per line, appended when a file is done.

On many machines, each shard of the work has its own journal. `merge` combines them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from panini.errors import PaniniError
from panini.jobs.places import Folder, Place

STATE = ".panini"  # the folder inside the output folder that holds the journal and the report's thumbnails
_JOURNAL = "journal.jsonl"
_SHARDS = f"{STATE}/shards/"

RESTORED, COPIED, FAILED, BEGUN = "restored", "copied", "failed", "begun"


@dataclass(frozen=True)
class Entry:
    """The outcome for one file."""

    source: str  # relative to the input folder
    output: str = ""
    """Relative to the output folder. For a file that failed, the result of an earlier run, if any."""
    outcome: str = FAILED
    """`restored`, `copied` (no face) or `failed`. In the journal also `begun`, before a result is written."""
    error: str = ""
    note: str = ""  # parts of the original that the result lacks, or that someone edited the result
    faces: list[dict[str, Any]] = field(default_factory=list)
    """The faces as in `Restoration.as_dict`, possibly written by an older version with fewer fields."""
    seconds: float = 0.0
    thumbnail: str = ""  # relative to the output folder
    source_stamp: tuple[int, int] = (0, 0)  # size in bytes and modification time in ns, which reveal changes
    output_stamp: tuple[int, int] = (0, 0)
    settings: str = ""


def append(target: Path, entry: Entry) -> None:
    """Adds an entry to the journal of the output folder `target`. Raises PaniniError."""
    try:
        with (target / STATE / _JOURNAL).open("a", encoding="ascii") as journal:
            journal.write(line(entry))
    except OSError as error:
        raise PaniniError(f"{target / STATE} cannot be written: {error.strerror}") from error


def read(target: Path) -> dict[str, Entry]:
    """The last entry of each file, by source, in the journal of the output folder `target`. Raises PaniniError."""
    try:
        if (target / _SHARDS).exists():  # from a stopped run on many machines
            return merge(Folder(target))
        with (target / STATE / _JOURNAL).open(encoding="utf-8", errors="replace") as journal:
            return {entry.source: entry for entry in parse(journal)}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PaniniError(f"{target / STATE} cannot be read: {error.strerror}") from error


def line(entry: Entry) -> str:
    """Formats an entry as a line of the journal."""
    return json.dumps(asdict(entry)) + "\n"


def parse(lines: Iterable[str]) -> list[Entry]:
    """Parses the lines of a journal."""
    entries = []
    for text in lines:
        try:
            entries.append(as_entry(json.loads(text)))
        except (ValueError, TypeError, KeyError):
            continue  # a line that a power failure cut off
    return entries


def as_entry(values: dict[str, Any]) -> Entry:
    """Restores an entry from the JSON of its `asdict`."""
    values |= {key: tuple(values[key]) for key in ("source_stamp", "output_stamp")}
    values["settings"] = sys.intern(values["settings"])  # most are the same
    return Entry(**values)


def shard_name(shard: str) -> str:
    """The path of the journal of a shard in the output folder."""
    return f"{_SHARDS}{shard}.jsonl"


def read_shard(target: Place, shard: str) -> list[Entry]:
    """All entries of a shard, in order."""
    return _parsed(target.read(shard_name(shard)))


def write_shard(target: Place, shard: str, entries: Iterable[Entry]) -> None:
    """Writes the journal of a shard."""
    target.write(shard_name(shard), "".join(map(line, entries)).encode())


def merge(target: Place) -> dict[str, Entry]:
    """Merges the journals of all shards into the main journal. Returns the last entry of each file."""
    whole = f"{STATE}/{_JOURNAL}"
    entries = {entry.source: entry for entry in _parsed(target.read(whole))}
    shards = [name for name, _ in target.files(hidden=_SHARDS)]
    for shard in shards:
        entries |= {entry.source: entry for entry in _parsed(target.read(shard))}
    if shards:
        target.write(whole, "".join(map(line, entries.values())).encode())
        for shard in shards:
            target.remove(shard)
    return entries


def _parsed(content: bytes) -> list[Entry]:
    return parse(content.decode("utf-8", "replace").splitlines())
