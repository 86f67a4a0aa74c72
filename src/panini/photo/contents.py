"""Finds damage and extra data in picture files. Decoders skip both silently."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_NO_MARKER = 0x100  # data of a JPEG where a marker must be
PNG_START = b"\x89PNG\r\n\x1a\n"
_CARRIED = {b"tEXt", b"zTXt", b"iTXt", b"cHRM", b"gAMA", b"sRGB", b"cICP"}
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_CREDENTIALS = "without Content Credentials (C2PA), which are invalid for a changed picture"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_KNOWN_APPS = (
    *(b"JFIF\0", b"JFXX\0", b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0", b"Adobe"),
    *(b"Ducky", b"Photoshop 3.0\0", _EXTENDED_XMP, _GAIN_MAP, b"JP"),
)
"""How those application segments of a JPEG begin that are kept, described elsewhere, or only describe the encoding."""
_KNOWN_CHUNKS = _CARRIED | {
    *(b"eXIf", b"iCCP", b"pHYs", b"tRNS", b"caBX", b"acTL", b"fcTL", b"fdAT"),
    *(b"tIME", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"iDOT"),  # these only describe the encoding, or the last change
}
_KNOWN_WEBP = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"C2PA")
_PREVIEWS = (0x010001, 0x010002)  # the types of a large thumbnail in a multi-picture file


@dataclass
class Contents:
    """What a file contains besides pixels. `panini.photo.io.Metadata` describes what is kept."""

    damage: str = ""  # why the picture is incomplete, in words that follow the file name; empty if it is complete
    whole: bytes = b""
    """The file without damaged metadata, which decoders would reject. Empty if there is none."""
    left_out: list[str] = field(default_factory=list)  # descriptions of the parts that are not kept
    chunks: list[tuple[bytes, bytes]] = field(default_factory=list)
    """The text and color chunks of a PNG: name and content."""
    blocks: bytes = b""  # the segments of a JPEG that are copied (captions, extended XMP)
    comments: list[bytes] = field(default_factory=list)  # all comments of a JPEG
    trailer: bytes = b""  # the video of a motion photo, which follows the picture in a JPEG
    lossless: bool = False  # whether it is a lossless WebP
    xmp: bytes = b""  # the XMP of a JPEG XL file, which its decoder does not return
    pictures: int = 0  # number of further pictures in a JPEG


def head_of(file: Path | bytes, length: int) -> bytes:
    """The first bytes of a file, or of its content."""
    if isinstance(file, bytes):
        return file[:length]
    with file.open("rb") as opened:
        return opened.read(length)


def examine(file: Path | bytes) -> Contents:
    """Examines a file, or its content."""
    head = head_of(file, 12)
    examiner = next((examiner for start, examiner in _EXAMINERS if head.startswith(start)), None)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        examiner = _webp
    elif head[4:8] == b"ftyp":
        examiner = _avif_or_heic
    if examiner is None:
        return Contents()
    return examiner(file if isinstance(file, bytes) else file.read_bytes())


def _png(data: bytes) -> Contents:
    found, at, name, kept, unknown = Contents(), len(PNG_START), b"", [PNG_START], []
    for chunk in png_chunks(data):
        at += len(chunk)
        name, body = chunk[4:8], chunk[8:-4]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            words = name.decode("latin-1")
            if not (name[:1].islower() and words.isalpha() and words.isascii()) or name == b"tRNS":
                found.damage = f"is damaged: its chunk {words!a} has a wrong checksum"
                return found
            found.left_out.append(f"without a damaged part of the file ({words})")
            continue
        kept.append(chunk)
        if name in _CARRIED and not body.startswith(b"XML:com.adobe.xmp\0"):
            found.chunks.append((name, body))
        elif name == b"caBX":
            found.left_out.append(_CREDENTIALS)
        elif name[:1].islower() and name not in _KNOWN_CHUNKS:
            unknown.append(name)
    found.left_out += _without(unknown)
    if name != b"IEND":
        found.damage = "is cut short: the end of the PNG file is missing"
        return found
    if sum(map(len, kept)) < at:
        found.whole = b"".join(kept)
    if at < len(data):
        found.left_out.append(_behind(len(data) - at))
    return found


def png_chunks(data: bytes) -> Iterator[bytes]:
    """The complete chunks of a PNG file up to its end, each with its length, name and checksum."""
    at, name = len(PNG_START), b""
    while at < len(data) and name != b"IEND":
        end, name = at + 12 + int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if end > len(data):
            return
        yield data[at:end]
        at = end


def _webp(data: bytes) -> Contents:
    found, unknown = Contents(), []
    size = 8 + int.from_bytes(data[4:8], "little")
    if size > len(data):
        found.damage = f"is cut short: it has only {len(data)} of {size} bytes"
    elif size + (size & 1) < len(data):
        found.left_out.append(_behind(len(data) - size))
    at = 12
    while at + 8 <= min(size, len(data)):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > size:
            found.damage = found.damage or "is damaged: a chunk extends beyond the end"
        found.lossless |= name == b"VP8L"
        if name == b"C2PA":
            found.left_out.append(_CREDENTIALS)
        elif name not in _KNOWN_WEBP:
            unknown.append(name)
        at += 8 + length + (length & 1)
    found.left_out += _without(unknown)
    return found


def _avif_or_heic(data: bytes) -> Contents:
    """Finds bit depths and colors that decoders hide: they return 8 bits and treat them as sRGB."""
    found = Contents()
    end = data.find(b"mdat", 4) if b"mdat" in data[4:] else len(data)
    head = data[:end]
    at = head.find(b"av1C")
    if at >= 0 and head[at + 6 : at + 7] and head[at + 6] & 0x40:
        found.left_out.append("reduced to 8 bits")
    at = head.find(b"colrnclx")
    if at >= 0 and b"colrprof" not in head and b"colrrICC" not in head:
        primaries, transfer = (int.from_bytes(head[i : i + 2], "big") for i in (at + 8, at + 10))
        if transfer in (16, 18):
            found.left_out.append("without its brightness for HDR screens, so colors may look flat")
        elif primaries not in (1, 2):
            found.left_out.append("its wide-gamut colors are treated as sRGB")
    return found


def _jxl(data: bytes) -> Contents:
    found, at = Contents(), 0
    while data[4:8] == b"JXL " and at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = at + length if length else len(data)
        if end < start:
            break
        if name == b"xml ":
            found.xmp = data[start:end]
        elif name == b"brob" and data[start : start + 4] == b"xml ":
            found.left_out.append("without XMP that is compressed")
        elif name == b"jumb":
            found.left_out.append(_CREDENTIALS)
        at = end
    return found


def _jpeg(data: bytes) -> Contents:
    found, at, kinds, unknown = Contents(), 0, [], []
    for marker, body, end in _segments(data):
        at = end
        if marker == 0xED or (marker == 0xE1 and body.startswith(_EXTENDED_XMP)):
            found.blocks += b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2, "big") + body
        elif marker == 0xEB and b"jumb" in body[:64] and _CREDENTIALS not in found.left_out:
            found.left_out.append(_CREDENTIALS)
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            kinds = _picture_kinds(body[4:])
        elif marker == 0xFE:
            found.comments.append(body)
        elif 0xE0 <= marker <= 0xEF and not body.startswith(_KNOWN_APPS):
            unknown.append(body[:20].partition(b"\0")[0] or b"APP%d" % (marker - 0xE0))
        elif marker == _NO_MARKER:
            found.damage = "is damaged: a JPEG marker is missing"
            return found
    found.left_out += _without(unknown)
    if data[at - 2 : at] == b"\xff\xd9":  # else the file may be truncated, which the decoder notices
        _examine_rest(data, at, kinds, found)
    return found


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The first picture's segments: marker, content and end. The last one is the end marker, if there is one."""
    at = 2
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            yield _NO_MARKER, b"", at
            return
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xD9:
            yield marker, b"", at + 2
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if marker == 0xDA:  # a scan, which ends at the next marker that is not part of it
            while True:
                end = data.find(b"\xff", end)
                if end < 0 or end + 1 >= len(data):
                    yield marker, b"", len(data)
                    return
                if data[end + 1] == 0xFF:
                    end += 1
                elif data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                    end += 2
                else:
                    break
        if end > len(data):
            return
        yield marker, data[at + 4 : end] if marker != 0xDA else b"", end
        at = end


def _picture_kinds(index: bytes) -> list[int]:
    """The type of each picture in a multi-picture file, from its index."""
    order = "little" if index[:2] == b"II" else "big"

    def number(at: int, length: int) -> int:
        return int.from_bytes(index[at : at + length], order)  # type: ignore[arg-type]

    first = number(4, 4)
    for at in range(first + 2, first + 2 + 12 * number(first, 2), 12):
        if number(at, 2) == 0xB002:
            size, start = number(at + 4, 4), number(at + 8, 4)
            return [number(i, 4) & 0xFFFFFF for i in range(start, min(start + size, len(index)), 16)]
    return []


def _examine_rest(data: bytes, at: int, kinds: list[int], found: Contents) -> None:
    """Finds pictures, a video and other data after the first picture of a JPEG file, which ends at `at`."""
    while data[at : at + 3] == b"\xff\xd8\xff" or data[at : at + 16].strip(b"\0")[:3] == b"\xff\xd8\xff":
        at = data.index(b"\xff\xd8\xff", at)
        inner = data[at:]
        *_, (marker, _, end) = [(0, b"", 0), *_segments(inner)]
        if marker != 0xD9:
            break
        found.pictures += 1
        at += end
    previews = sum(kind in _PREVIEWS for kind in kinds[1:])
    others = found.pictures - min(previews, found.pictures)
    if found.pictures - others:
        found.left_out.append("without the camera's large preview")
    if others and (_GAIN_MAP in data or b"hdr-gain-map" in data or b"hdrgm:" in data or b"HDRGainMap" in data):
        found.left_out.append("without the gain map, which makes it brighter on HDR screens")
        others -= 1
    if others:
        found.left_out.append(f"without {others} more {'picture' if others == 1 else 'pictures'} in the file")
    rest = data[at:]
    if b"ftyp" in rest or rest.endswith(b"SEFT"):
        found.trailer = rest
    elif rest.strip(b"\0\r\n "):
        found.left_out.append(_behind(len(rest)))


def _without(names: list[bytes]) -> list[str]:
    """A note about parts of a file with these names, which are not kept."""
    said = ("".join(c for c in name.decode("latin-1") if c.isascii() and c.isprintable()).strip() for name in names)
    words = ", ".join(dict.fromkeys(name or "without a name" for name in said))
    return [f"without data that Panini does not know ({words})"] if words else []


def _behind(size: int) -> str:
    return f"without {size} bytes after the end of the picture"


_EXAMINERS = ((PNG_START, _png), (b"\xff\xd8\xff", _jpeg), (b"\0\0\0\x0cJXL ", _jxl))  # by the first bytes of a file
