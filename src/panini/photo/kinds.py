"""Tells by a file's first bytes what it is, whatever its name says, and what is needed to read it."""

from __future__ import annotations

from pathlib import Path

from panini.errors import how_to_get

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
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x1a\x45\xdf\xa3": "a video",
    b"FUJIFILMCCD-RAW": "a Fujifilm RAW file",
    b"gimp xcf": "a GIMP file",
    b"ID3": "a sound file",
}
_EXPORT = "save the picture as JPEG, PNG or TIFF first"


def kind(file: Path | bytes) -> str:
    """What a file, or its bytes, is, in words: `HEIC`, `JPEG XL`, `a PDF document`, …; empty if that is not known."""
    if isinstance(file, bytes):
        head = file[:512]
    else:
        with file.open("rb") as opened:
            head = opened.read(512)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    if head[:4] == b"RIFF":
        return {b"AVI ": "a video", b"WAVE": "a sound file"}.get(head[8:12], "")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "an SVG drawing"
    return next((words for start, words in _STARTS.items() if head.startswith(start)), "")


def unreadable(file: Path | bytes) -> str:
    """Why a file, which no decoder knows, cannot be read, and what helps: to follow its name."""
    helped = {
        "HEIC": f"is HEIC and needs pillow-heif: {how_to_get('heif')}",
        "JPEG XL": f"is JPEG XL and needs pillow-jxl-plugin: {how_to_get('jxl')}",
        "AVIF": "is AVIF, which this build of Pillow cannot read",
        "a video": "is a video, whatever its name says: give it a video's suffix, such as .mp4",
        "": "is not a picture that can be read",
    }
    words = kind(file)
    return helped.get(words, f"is {words}, not a picture that can be read: {_EXPORT}")
