"""Splits files into pieces of a limited size, with a manifest, for transfers with such limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panini.errors import PaniniError
from panini.files import make_folder, write_file

LIMIT = 15 * 1024**2
"""Maximum size of a piece, in bytes."""
MANIFEST = "manifest.json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cut(files: Mapping[str, bytes]) -> dict[str, tuple[dict[str, Any], dict[str, bytes]]]:
    """For each file, its manifest entry (size, sha256, sha256 of each piece) and its pieces by name."""
    found = {}
    for name, data in files.items():
        pieces = {
            f"{name}.{number:03d}": data[start : start + LIMIT]
            for number, start in enumerate(range(0, max(1, len(data)), LIMIT))
        }
        entry = {
            "size": len(data),
            "sha256": sha256(data),
            "pieces": {piece: sha256(part) for piece, part in pieces.items()},
        }
        found[name] = entry, pieces
    return found


def write(path: Path, data: bytes) -> None:
    """Writes a file atomically, and creates its folder. Raises PaniniError."""
    make_folder(path.parent)
    write_file(path, data)


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    write(folder / MANIFEST, json.dumps(content, indent=1).encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises PaniniError if there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        return content
    except (OSError, ValueError) as error:
        raise PaniniError(f"no manifest in {folder}: {error}") from error


def put_together(entry: Mapping[str, Any], name: str, folders: list[Path]) -> bytes:
    """Joins the pieces of a file, each from any of `folders`. Raises PaniniError if one is missing or damaged."""
    parts = []
    for piece, digest in entry["pieces"].items():
        path = next((folder / piece for folder in folders if (folder / piece).exists()), None)
        if path is None:
            raise PaniniError(f"{piece} is missing")
        parts.append(path.read_bytes())
        if sha256(parts[-1]) != digest:
            raise PaniniError(f"{path} is damaged: its sha256 differs from the manifest")
    data = b"".join(parts)
    if sha256(data) != entry["sha256"]:
        raise PaniniError(f"{name} is damaged")
    return data
