"""The format of a weights file, and the checks that both engines make before they use one.

A weights file is in safetensors format: the length of the header in eight bytes; the header in JSON, with the type,
shape and place of each tensor and our metadata; the tensors. The ONNX graphs beside it refer to the tensors in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from panini.errors import PaniniError

DEFAULT = Path(__file__).parent / "default.safetensors"
FORMAT = "panini-4"  # covers the file, the graphs and the presets; other formats are refused


@dataclass(frozen=True)
class WeightsHeader:
    """The header of a weights file."""

    metadata: dict[str, str]
    """`format`, `version` of the package that wrote it, `preset`, `sha256` of the tensors, and notes on the
    training."""
    places: dict[str, tuple[int, int]]
    """Offset and length of each tensor in the file, in bytes."""
    digest: str
    """sha256 of the header, which contains that of the tensors. The graphs contain it, which ties them to one file."""


def read_header(path: Path) -> WeightsHeader:
    """Reads the header of a weights file, and the rest to check its sha256.

    Raises PaniniError if the file is missing, damaged, of another format, or not a weights file.
    """
    try:
        with path.open("rb") as file:
            length = file.read(8)
            text = file.read(min(int.from_bytes(length, "little"), path.stat().st_size))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # of the tensors
    except OSError as error:
        raise PaniniError(f"cannot read the weights {path}: {error.strerror}") from error
    start = 8 + len(text)
    try:
        entries = json.loads(text)
        metadata = entries.pop("__metadata__", {})
        places = {name: tuple(entry["data_offsets"]) for name, entry in entries.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise PaniniError(f"{path} is not a safetensors file, or damaged") from error
    if metadata.get("format") != FORMAT:
        raise PaniniError(f"{path} has format {metadata.get('format')}, this version of panini reads {FORMAT}")
    if metadata.get("sha256") != sha256:
        raise PaniniError(f"{path} is damaged: its tensors do not match their sha256")
    return WeightsHeader(
        metadata=metadata,
        places={name: (start + begin, end - begin) for name, (begin, end) in places.items()},
        digest=hashlib.sha256(length + text).hexdigest(),
    )
