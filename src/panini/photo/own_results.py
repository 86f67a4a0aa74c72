"""Recognizes files that Panini made: by the mark in their metadata, or by their names if there is no mark."""

from __future__ import annotations

import os
import warnings
from collections.abc import Container, Iterable
from pathlib import Path

from PIL import Image

from panini.photo import io as photo_io
from panini.photo import provenance

_ENDINGS = ("-restored", "-restored-explained", "-strip")
_XMP_TAG = 700  # in TIFF


def mark_of(path: Path) -> dict[str, str]:
    """The mark in a picture or a video, as `panini.photo.provenance.read` returns it; empty if there is none."""
    try:
        if not path.is_file():  # reading a pipe could wait forever
            return {}
        if photo_io.is_video(path):
            import av

            with av.open(str(path), options={"export_xmp": "1", "protocol_whitelist": "file"}) as container:
                tags = {name.lower(): value for name, value in container.metadata.items()}
            return provenance.read(tags.get("xmp", "").encode())
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            photo_io.register_plugins()
            with Image.open(file) as image:
                info = image.info
                said = info.get("xmp") or info.get("XML:com.adobe.xmp") or getattr(image, "tag_v2", {}).get(_XMP_TAG)
        return provenance.read(said.encode() if isinstance(said, str) else bytes(said or b""))
    except Exception:  # of every kind, on broken files; the restoration will report them
        return {}


def kind_of_output(path: Path, among: Iterable[str] = ()) -> str:
    """What kind of output of Panini a file is, one of the names in `panini.photo.provenance`; empty if it is none.

    among: the names of the files beside it. A result without a mark is `a-restored.bmp` beside `a.bmp`.
    """
    mark = mark_of(path)
    if mark:
        return mark.get("Shows", provenance.RESULT)
    stems = {os.path.splitext(name)[0] for name in among}  # noqa: PTH122  these are names, not paths
    return provenance.RESULT if has_result_name(path.stem, stems) else ""


def has_result_name(stem: str, stems: Container[str]) -> bool:
    """Whether a file without its suffix has the name of a result for one of the `stems` beside it."""
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in _ENDINGS)
