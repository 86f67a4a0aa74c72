"""Reads XMP packets, and removes references to parts that the file lacks."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from xml.etree import ElementTree

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="w"?>'

_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_CONTAINER = "http://ns.google.com/photos/1.0/container/"
_ITEM = "http://ns.google.com/photos/1.0/container/item/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_GAIN = "http://ns.adobe.com/hdr-gain-map/1.0/"
_XAP = "http://ns.adobe.com/xap/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"

VIDEO, PICTURES, EXTENSION, SIZE = "video", "pictures", "extension", "size"
"""Parts that a file can lose: a motion photo's video, further pictures (gain maps, depth), the extended XMP of a JPEG,
and the picture's former size."""

_PROPERTIES = {
    VIDEO: (f"{{{_CAMERA}}}MotionPhoto", f"{{{_CAMERA}}}MicroVideo"),
    PICTURES: (f"{{{_GAIN}}}",),
    EXTENSION: (f"{{{_NOTE}}}HasExtendedXMP",),
    SIZE: (
        f"{{{_EXIF}}}PixelXDimension", f"{{{_EXIF}}}PixelYDimension", f"{{{_TIFF}}}ImageWidth",
        f"{{{_TIFF}}}ImageLength", f"{{{_TIFF}}}Orientation", f"{{{_XAP}}}Thumbnails",
    ),
}  # fmt: skip
_SEMANTICS = {VIDEO: {"MotionPhoto"}, PICTURES: {"GainMap", "Depth", "Confidence", "Original"}}


def parse(xmp: bytes) -> ElementTree.Element | None:
    """Parses a packet and registers its namespace prefixes. None if it cannot be read."""
    try:
        encoding = "utf-16" if xmp.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
        text = xmp.decode(encoding, "replace").strip("\ufeff \t\r\n\0")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities could expand without limit
            return None
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    for prefix, space in re.findall(r"""xmlns:([\w.-]+)\s*=\s*["']([^"']+)["']""", text):
        try:
            ElementTree.register_namespace(prefix, space)
        except ValueError:  # prefixes such as ns0 are reserved
            continue
    return root


def packet(root: ElementTree.Element) -> bytes:
    """Serializes a root element; the inverse of `parse`."""
    return (_HEAD + ElementTree.tostring(root, encoding="unicode") + _TAIL).encode()


def properties(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Names and simple values at the top level of the packet."""
    for element in root.iter(f"{{{RDF}}}Description"):
        yield from element.attrib.items()
        yield from ((child.tag, child.text or "") for child in element)


def mended(xmp: bytes, *gone: str) -> bytes:
    """The packet without references to the parts that are `gone`. Unchanged if it has none."""
    if not xmp or not gone or (root := parse(xmp)) is None:
        return xmp
    names = tuple(name for what in gone for name in _PROPERTIES[what])
    items = {semantic for what in gone for semantic in _SEMANTICS.get(what, ())}
    changed = False
    for element in root.iter(f"{{{RDF}}}Description"):
        for name in [name for name in element.attrib if name.startswith(names)]:
            del element.attrib[name]
            changed = True
        for child in [child for child in element if child.tag.startswith(names)]:
            element.remove(child)
            changed = True
    for directory in root.iter(f"{{{_CONTAINER}}}Directory"):
        for sequence in directory:
            for item in [item for item in sequence if _semantic(item) in items]:
                sequence.remove(item)
                changed = True
    return packet(root) if changed else xmp


def _semantic(item: ElementTree.Element) -> str:
    """The type of an item in the directory of a container."""
    for element in item.iter():
        for name, value in (*element.attrib.items(), (element.tag, element.text or "")):
            if name == f"{{{_ITEM}}}Semantic":
                return value
    return ""
