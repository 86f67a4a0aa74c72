"""Provenance: records in the metadata of a picture or video that it was restored, and how much is imagined.

The main record is XMP with the digital source type of the IPTC. The EXIF tag Software, the text of a PNG and the
comment of a video repeat it. Existing metadata is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID
from xml.etree import ElementTree

from PIL import ExifTags, Image

from panini import __version__
from panini.photo import xmp as packets
from panini.photo.io import OURS, Metadata
from panini.photo.xmp import META, RDF

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""The IPTC term for a photo with parts that a trained model generated (2024 vocabulary)."""
NAMESPACE = "https://panini.invalid/ns/1.0/"
"""The namespace of our XMP properties: Version, Weights, Dial, Strength, Passes, Options, Like, Consistent, Faces,
Imagined, Restorations, and Shows for pictures that are not results."""

RESULT, EXPLANATION, STRIP, INSPECTION = "result", "explanation", "strip", "inspection"
"""The kinds of output that Panini writes."""

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes


def entries(
    weights: str,
    dial: float,
    strength: float,
    faces: int,
    imagined: float | None,
    like: bool = False,
    consistent: bool = False,
    passes: int = 1,
    options: str = "",
) -> dict[str, str]:
    """The entries of a mark, by name.

    weights: digest of the weights file. imagined: share of imagined detail, averaged over the faces. like: whether the
    damage of another photo was assumed. consistent: whether the result matches the photo when downsampled. passes: the
    largest number of averaged passes. options: the other options that differ from the defaults.
    """
    said = {
        "Version": __version__,
        "Weights": weights or "none",
        "Dial": f"{dial:g}",
        "Strength": f"{strength:g}",
        "Faces": str(faces),
    }
    said |= ({"Passes": str(passes)} if passes > 1 else {}) | ({"Options": options} if options else {})
    said |= ({"Like": "another photo"} if like else {}) | ({"Consistent": "yes"} if consistent else {})
    return said if imagined is None else said | {"Imagined": f"{imagined:.2f}"}


def add_to_metadata(metadata: Metadata, said: Mapping[str, str]) -> Metadata:
    """Adds the mark `said`, made by `entries`, to `metadata`, combined with any earlier mark; see `with_earlier`.

    EXIF that cannot be read stays unchanged. XMP that cannot be read is replaced.
    """
    said = with_earlier(said, read(metadata.xmp))
    software = f"Panini {_maker(said)}"
    return replace(
        metadata,
        xmp=_in_xmp(metadata.xmp, said),
        exif=_in_exif(metadata.exif, software),
        text=(("Software", software), ("Comment", _comment(said))),
    )


def with_earlier(said: Mapping[str, str], earlier: Mapping[str, str]) -> dict[str, str]:
    """Combines the mark `said` of a restoration with the `earlier` mark of the picture.

    The shares of imagined detail add up, because a restoration cannot recognize what an earlier one imagined. If one
    share is unknown, so is the total.
    """
    if not earlier or earlier.get("Shows"):
        return dict(said)
    whole = {name: value for name, value in said.items() if name != "Imagined"}
    whole["Restorations"] = str(restorations(earlier) + 1)
    shares = [share for mark in (said, earlier) if (share := imagined(mark)) is not None]
    if len(shares) == 2:
        whole["Imagined"] = f"{1 - (1 - shares[0]) * (1 - shares[1]):.2f}"
    return whole


def restorations(mark: Mapping[str, str]) -> int:
    """The number of times that a picture with this mark was restored."""
    number = mark.get("Restorations", "1")
    return int(number) if number.isascii() and number.isdigit() else 1


def imagined(mark: Mapping[str, str]) -> float | None:
    """The share of imagined detail in a mark, in [0, 1]. None if there is none."""
    try:
        share = float(mark.get("Imagined", ""))
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None


def add_to_tags(tags: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    """Adds the mark to the tags of a video, in `comment` and `xmp`, combined with any earlier mark.

    FFmpeg writes `xmp` into MOV and Matroska. MP4 needs an `mp4_box`.
    """
    said = with_earlier(said, read(tags.get("xmp", "").encode()))
    before = [line for line in tags.get("comment", "").splitlines() if not line.startswith(OURS)]
    xmp = _in_xmp(tags.get("xmp", "").encode(), said).decode()
    return dict(tags) | {"comment": "\n".join([*before, _comment(said)]), "xmp": xmp}


def mp4_box(xmp: str) -> bytes:
    """The XMP box of an MP4 file (XMP specification, part 3), which can be appended to the file."""
    content = _XMP_BOX + xmp.encode()
    return struct.pack(">I4s", 8 + len(content), b"uuid") + content


def _maker(said: Mapping[str, str]) -> str:
    return f"{said['Version']} (weights {said['Weights'][:12]})"


def inspected(metadata: Metadata) -> Metadata:
    """Marks `metadata` as that of a drawing of the faces that were found."""
    said = {"Version": __version__, "Weights": "none", "Shows": INSPECTION}
    text = ("Comment", f"Faces found by Panini {__version__}")
    return replace(metadata, xmp=_in_xmp(metadata.xmp, said), text=(("Software", f"Panini {__version__}"), text))


def _comment(said: Mapping[str, str]) -> str:
    comment = f"{OURS} {_maker(said)}, dial {said['Dial']}"
    if "Like" in said:
        comment += f", assuming the damage of {said['Like']}"
    if "Consistent" in said:
        comment += ", consistent with the photo"
    if "Imagined" in said:
        comment += f"; about {100 * float(said['Imagined']):.0f}% of the detail is imagined"
    if (times := restorations(said)) > 1:
        comment += f", in {times} restorations"
    return comment


def read(xmp: bytes) -> dict[str, str]:
    """Reads the mark in an XMP packet, including `DigitalSourceType`. Empty if there is none."""
    root = packets.parse(xmp)
    if root is None:
        return {}
    found = {}
    for name, value in packets.properties(root):
        for space in (NAMESPACE, _IPTC):
            if name.startswith(f"{{{space}}}"):
                found[name.removeprefix(f"{{{space}}}")] = value
    return found if "Weights" in found else {}


def _in_xmp(xmp: bytes, said: Mapping[str, str]) -> bytes:
    for prefix, space in (("x", META), ("rdf", RDF), ("Iptc4xmpExt", _IPTC), ("panini", NAMESPACE)):
        ElementTree.register_namespace(prefix, space)
    root = packets.parse(xmp)
    if root is None:  # there is no XMP, or it is damaged
        root = ElementTree.Element(f"{{{META}}}xmpmeta")
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        rdf = ElementTree.SubElement(root, f"{{{RDF}}}RDF")
    ours = f"{{{_IPTC}}}DigitalSourceType"
    for element in rdf.findall(f"{{{RDF}}}Description"):
        for name in [n for n in element.attrib if n == ours or n.startswith(f"{{{NAMESPACE}}}")]:
            del element.attrib[name]
        for child in [c for c in element if c.tag == ours or c.tag.startswith(f"{{{NAMESPACE}}}")]:
            element.remove(child)
    made = {} if said.get("Shows") == INSPECTION else {ours: SOURCE_TYPE}
    mark = ElementTree.SubElement(rdf, f"{{{RDF}}}Description", {f"{{{RDF}}}about": ""} | made)
    for name, value in said.items():
        mark.set(f"{{{NAMESPACE}}}{name}", value)
    return packets.packet(root)


def _in_exif(exif: bytes, software: str) -> bytes:
    try:
        tags = Image.Exif()
        tags.load(exif)
        before = str(tags.get(ExifTags.Base.Software, ""))
        if not before or before.startswith("Panini "):
            tags[ExifTags.Base.Software] = software
        tags[ExifTags.Base.ProcessingSoftware] = software  # `Software` may be the camera's
        for folder in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if folder in tags:
                tags.get_ifd(folder)  # Pillow writes only directories that were read
        return tags.tobytes()
    except Exception:  # all kinds, for broken tags
        return exif
