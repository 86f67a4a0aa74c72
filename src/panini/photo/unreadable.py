"""Recognizes the type of a file by its first bytes, and explains why a file cannot be read.

`panini.photo.io` lists the formats that are read (`READABLE`) and written (`FORMATS`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from panini.errors import how_to_get
from panini.photo.contents import head_of

_BRANDS = (
    dict.fromkeys([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"], "HEIC")
    | dict.fromkeys([b"avif", b"avis"], "AVIF")
    | dict.fromkeys([b"qt  ", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1"], "a video")
    | dict.fromkeys([b"M4V ", b"M4VP", b"3gp4", b"3gp5"], "a video")
    | {b"crx ": "a Canon RAW file"}
)
_STARTS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1a\x45\xdf\xa3": "a video",
    b"FUJIFILMCCD-RAW": "a Fujifilm RAW file",
}
_NEEDED = {
    "HEIC": ("HEIF", f"pillow-heif: {how_to_get('heif')}"),
    "JPEG XL": ("JXL", f"pillow-jxl-plugin: {how_to_get('jxl')}"),
    "AVIF": ("AVIF", "a build of Pillow that can read it"),
    "WebP": ("WEBP", "a build of Pillow that can read it"),
}
"""Formats that need a library to be read: Pillow's name for the format, and the library."""


def kind(file: Path | bytes) -> str:
    """The type of a file or of its content, such as `HEIC` or `a PDF document`. Empty if unknown."""
    head = head_of(file, 512)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "a video"}.get(head[8:12], "")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "an SVG drawing"
    return next((words for start, words in _STARTS.items() if head.startswith(start)), "")


def reason(file: Path | bytes, readable: Collection[str]) -> str:
    """Explains why no decoder could open a file, in words that follow its name.

    readable: Pillow's names of the formats that can be read. A file of such a format must be damaged.
    """
    words = kind(file)
    name, missing = _NEEDED.get(words, (words, ""))
    if name in readable:
        return f"is a damaged {words} file, and no part of it can be read"
    if words in _NEEDED:
        return f"is {words} and needs {missing}"
    if words == "a video":
        return "is a video: rename it with a video suffix, such as .mp4"
    if words:
        return f"is {words}, not a picture: convert it to JPEG, PNG or TIFF first"
    return "is not a picture that Panini can read"
