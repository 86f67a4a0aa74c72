"""Recognizes files made by Panini: by the mark in their metadata or, without a mark, by their names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Container, Iterable
from pathlib import Path

from PIL import Image

from panini.photo import io as photo_io
from panini.photo import provenance

_ENDINGS = ("-restored", "-restored-explained", "-strip")


def mark_of(path: Path) -> dict[str, str]:
    """The mark in a picture or video, as returned by `panini.photo.provenance.read`. Empty if there is none."""
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
                said = (
                    info.get("xmp")
                    or info.get("XML:com.adobe.xmp")
                    or getattr(image, "tag_v2", {}).get(photo_io.XMP_TAG)
                )
        return provenance.read(said.encode() if isinstance(said, str) else bytes(said or b""))
    except Exception:  # all kinds, for broken files; the restoration reports them
        return {}


def kind_of_output(path: Path, among: Iterable[str] = ()) -> str:
    """The kind of Panini output that a file is, such as `panini.photo.provenance.RESULT`. Empty if it is none.

    among: the names of the files in its folder. Without a mark, `a-restored.bmp` is a result if there is an `a.bmp`.
    """
    mark = mark_of(path)
    if mark:
        return mark.get("Shows", provenance.RESULT)
    stems = {os.path.splitext(name)[0] for name in among}  # noqa: PTH122  these are names, not paths
    return provenance.RESULT if has_result_name(path.stem, stems) else ""


def has_result_name(stem: str, stems: Container[str]) -> bool:
    """Whether a file name without its suffix is that of a result for one of the `stems` in the same folder."""
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in _ENDINGS)
