"""What the table of formats in docs/photos.md promises to keep is kept: three files of each format."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, IptcImagePlugin, PngImagePlugin, features
from skimage import data

from panini import Restorer
from panini.inference import BicubicEngine
from panini.photo import io as photo_io

ROOT = Path(__file__).parents[1]
FACE = Image.fromarray(data.astronaut()[0:220, 110:330]).resize((96, 96))
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="attic"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
CAPTION = b"\x1c\x02\x78\x00\x0dGrandma, 1931"
BLOCK = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + len(CAPTION).to_bytes(4, "big") + CAPTION + b"\x00"
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(200)
SUFFIX = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "TIFF": ".tif",
    "WebP": ".webp",
    "AVIF": ".avif",
    "HEIC": ".heic",
    "BMP": ".bmp",
}
SUFFIX |= {"JPEG XL": ".jxl"}


def promised() -> list[tuple[str, str]]:
    """Format and what it keeps, of each row of the table."""
    table = (ROOT / "docs" / "photos.md").read_text().split("## Files")[1].split("\n\n")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(row[0], promise) for row in rows if row[0] in SUFFIX for promise in re.split(r"[,;] ", row[3])]


def source(folder: Path, format: str, mode: str, promise: str) -> Path:
    """A picture with all that its format can hold."""
    path = folder / f"in-{mode}{SUFFIX[format]}"
    tags = Image.Exif()
    tags[0x010F] = "Camera"
    tags.get_ifd(0x8769)[0x9003] = "1969:07:20 20:17:40"
    options = {"exif": tags.tobytes(), "xmp": XMP, "icc_profile": ICC, "dpi": (300, 300)}
    image = FACE.convert("L" if mode == "gray" else "RGB")
    if promise == "transparency":
        image = image.convert("LA" if mode == "gray" else "RGBA")
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    if promise == "16 bits":
        deep = np.asarray(image.convert("L"), np.uint16) * 257 + 3
        Image.fromarray(deep).save(path, dpi=(300, 300))
        return path
    if mode == "turned" and format not in ("BMP", "JPEG XL", "HEIC"):
        tags[0x0112] = 6
        options["exif"] = tags.tobytes()
    match format:
        case "JPEG":
            marker = b"\xff\xed" + (len(BLOCK) + 2).to_bytes(2, "big") + BLOCK
            options |= {"comment": b"by the lake", "extra": marker, "quality": 95}
        case "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
            text.add_itxt("Title", "Großmutter")
            text.add(b"gAMA", struct.pack(">I", 100_000))
            options["pnginfo"] = text
        case "TIFF":
            tags[700] = options.pop("xmp")
            tags[33723] = CAPTION
            options["exif"] = tags.tobytes()
        case "BMP":
            options = {"dpi": (300, 300)}
        case "JPEG XL":
            import pillow_jxl  # noqa: F401

            options |= {"use_container": True}
    image.save(path, **options)
    if format == "JPEG":
        path.write_bytes(path.read_bytes() + VIDEO)
    return path


def tags_of(photo) -> Image.Exif:
    tags = Image.Exif()
    tags.load(photo.metadata.exif)
    return tags


KEPT = {
    "EXIF": lambda path, photo: (
        (tags_of(photo).get(0x010F), tags_of(photo).get_ifd(0x8769).get(0x9003)) == ("Camera", "1969:07:20 20:17:40")
    ),
    "XMP": lambda path, photo: b'dc:source="attic"' in photo.metadata.xmp and b"panini" in photo.metadata.xmp,
    "ICC": lambda path, photo: photo.metadata.icc_profile == ICC,
    "resolution": lambda path, photo: photo.metadata.dpi == pytest.approx((300, 300), abs=0.1),
    "IPTC": lambda path, photo: IptcImagePlugin.getiptcinfo(Image.open(path))[2, 120] == b"Grandma, 1931",
    "comment": lambda path, photo: photo.metadata.comment == b"by the lake",
    "text": lambda path, photo: ("Title", "Großmutter") in photo_io.png_texts(photo.metadata.chunks),
    "gamma": lambda path, photo: Image.open(path).info["gamma"] == 1,
    "the video of a motion photo": lambda path, photo: path.read_bytes().endswith(VIDEO),
    "16 bits": lambda path, photo: photo.pixels16 is not None,
    "transparency": lambda path, photo: photo.alpha is not None and np.ptp(photo.alpha.astype(int)) > 235,
}
"""Whether a file has what is promised: a promise in the table without a line here fails."""


def test_the_table_names_every_format_that_is_written():
    formats = {format for format, _ in promised()}
    assert formats == set(SUFFIX)
    assert {photo_io.FORMATS[suffix] for suffix in photo_io.FORMATS} <= {
        {"WebP": "WEBP", "HEIC": "HEIF"}.get(format, format) for format in formats
    }


@pytest.fixture(scope="module")
def restorer():
    return Restorer(BicubicEngine())


@pytest.mark.parametrize(("format", "promise"), promised())
def test_what_the_table_promises_is_kept(tmp_path, restorer, format, promise):
    if format == "HEIC":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if format == "JPEG XL":
        pytest.importorskip("pillow_jxl")
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    for mode in ("color", "gray", "turned"):
        path = source(tmp_path, format, mode, promise)
        result = restorer.restore(path, keep=True)
        out = result.save(tmp_path / f"out-{mode}{'.png' if format == 'JPEG XL' else SUFFIX[format]}")
        if (format, promise) == ("JPEG XL", "ICC"):  # it stores what a profile means, and gives one that means the same
            assert b"acsp" in photo_io.load(out).metadata.icc_profile[:128]
        else:
            assert KEPT[promise](out, photo_io.load(out)), mode
        assert Image.open(out).getexif().get(0x0112, 1) == 1
