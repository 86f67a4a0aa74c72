"""What both engines read of any weights file before they trust it.

A weights file is safetensors: eight bytes with the header's length, the header (JSON: each tensor's type, shape and
place, and metadata of ours), the tensors. The ONNX graphs beside it keep their tensors in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from panini.errors import PaniniError

DEFAULT = Path(__file__).parent / "default.safetensors"
FORMAT = "panini-3"  # of the file, the graphs and the presets that they are of; another one is refused


@dataclass(frozen=True)
class WeightsHeader:
    """What a weights file says of itself."""

    metadata: dict[str, str]
    """format, version (of the package that wrote it), preset, sha256 (of the tensors' bytes), and notes of training."""
    places: dict[str, tuple[int, int]]
    """Where each tensor lies in the file: offset and length, bytes."""
    digest: str
    """sha256 of the header, and so of everything: the graphs carry it, which ties them to one file."""


def read_header(path: Path) -> WeightsHeader:
    """The header of the weights file `path`, which is read whole to compare its tensors with their sha256.

    Raises PaniniError if it is missing, no weights file, of another format, or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PaniniError(f"cannot read the weights {path}: {error.strerror}") from error
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        entries = json.loads(data[8:start])
        metadata = entries.pop("__metadata__", {})
        places = {name: tuple(entry["data_offsets"]) for name, entry in entries.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise PaniniError(f"{path} is not a safetensors file, or damaged") from error
    if metadata.get("format") != FORMAT:
        raise PaniniError(f"{path} has format {metadata.get('format')}, this version of panini reads {FORMAT}")
    if metadata.get("sha256") != hashlib.sha256(memoryview(data)[start:]).hexdigest():
        raise PaniniError(f"{path} is damaged: its tensors are not those that were written")
    return WeightsHeader(
        metadata=metadata,
        places={name: (start + begin, end - begin) for name, (begin, end) in places.items()},
        digest=hashlib.sha256(data[:start]).hexdigest(),
    )
