"""The journal of a folder job, from which a run resumes: a JSON object per line, appended when a file is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from panini.errors import PaniniError

STATE = ".panini"  # the folder inside the output folder that holds the journal and the report's thumbnails
_JOURNAL = "journal.jsonl"

RESTORED, COPIED, FAILED, BEGUN = "restored", "copied", "failed", "begun"


@dataclass(frozen=True)
class Entry:
    """The outcome for one file."""

    source: str  # relative to the input folder
    output: str = ""
    """Relative to the output folder. For a file that failed, the result of an earlier run, if there is one."""
    outcome: str = FAILED
    """`restored`, `copied` (it has no face) or `failed`. In the journal also `begun`, before a result is written."""
    error: str = ""
    note: str = ""  # what the result lacks of the original, or that somebody changed the result
    faces: list[dict[str, Any]] = field(default_factory=list)
    """The faces in `Restoration.as_dict`. Entries of older versions may have less."""
    seconds: float = 0.0
    thumbnail: str = ""  # relative to the output folder
    source_stamp: tuple[int, int] = (0, 0)  # size in bytes and modification time in ns, which reveal changes
    output_stamp: tuple[int, int] = (0, 0)
    settings: str = ""


def append(target: Path, entry: Entry) -> None:
    """Adds an entry to the journal of the output folder `target`. Raises PaniniError."""
    try:
        with (target / STATE / _JOURNAL).open("a", encoding="ascii") as journal:
            journal.write(json.dumps(asdict(entry)) + "\n")
    except OSError as error:
        raise PaniniError(f"{target / STATE} cannot be written to: {error.strerror}") from error


def read(target: Path) -> dict[str, Entry]:
    """The last entry of each file, by source, in the journal of the output folder `target`. Raises PaniniError."""
    entries = {}
    try:
        with (target / STATE / _JOURNAL).open(encoding="utf-8", errors="replace") as journal:
            for line in journal:
                try:
                    values = json.loads(line)
                    values |= {key: tuple(values[key]) for key in ("source_stamp", "output_stamp")}
                    entry = Entry(**values)
                    entries[entry.source] = entry
                except (ValueError, TypeError, KeyError):
                    continue  # a line that a power failure cut off
    except FileNotFoundError:
        pass
    except OSError as error:
        raise PaniniError(f"{target / STATE} cannot be read: {error.strerror}") from error
    return entries
