"""Reads and writes PNG and TIFF with 16 bits per channel, which Pillow reduces to 8."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base as Tag

from panini.photo.contents import PNG_START, png_chunks

Pixels16 = NDArray[np.uint16]

_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def read_sixteen_bit(image: Image.Image, tiles: Any, file: Path | bytes) -> Pixels16 | None:
    """Reads a 16-bit PNG or TIFF, upright: [H, W], [H, W, 3] RGB or [H, W, 4] RGBA. None for other files.

    image: `file` (a path or bytes) opened by Pillow. tiles: its attribute `tile` before the pixels were loaded.
    Raises ValueError for a layout that neither Pillow nor OpenCV reads correctly.
    """
    tags: Any = getattr(image, "tag_v2", {})  # of a TIFF
    separate = tags.get(Tag.PlanarConfiguration) == 2
    if separate and 16 in tags.get(Tag.BitsPerSample, ()) and tiles[0][0] == "raw":
        raise ValueError("16 bits with separate color planes and no compression: save it interleaved")
    if image.format not in ("PNG", "TIFF") or not any("16" in str(tile[3]) for tile in tiles):
        return None
    if image.mode == "CMYK" or separate or tags.get(Tag.ExtraSamples) == (1,):  # 1: premultiplied alpha
        return None
    # Both libraries turn TIFFs upright when they load them.
    orientation = image.getexif().get(Tag.Orientation, 1) if image.format == "PNG" else 1
    if image.mode.startswith("I;16"):
        array: Any = np.asarray(image)
        if tags.get(Tag.PhotometricInterpretation) == 0:  # white is 0, which Pillow supports only in 8-bit files
            array = 65535 - array
    else:
        encoded = np.frombuffer(file, np.uint8) if isinstance(file, bytes) else np.fromfile(file, np.uint8)
        array = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if array is None or array.dtype != np.uint16 or array.ndim != 3:
            return None
        array = array[..., [2, 1, 0] if image.mode == "RGB" else [2, 1, 0, 3][: array.shape[2]]]
    return np.ascontiguousarray(_UPRIGHT.get(orientation, np.asarray)(array)).astype(np.uint16)


def eight_bits(pixels16: Pixels16) -> NDArray[np.uint8]:
    """Rounds the picture to 8 bits."""
    result = np.empty(pixels16.shape, np.uint8)
    for row, made in zip(pixels16, result, strict=True):  # row by row, because scans have hundreds of megabytes
        made[:] = _rounded(row)
    return result


def carried_over(pixels16: Pixels16, pixels: NDArray[np.uint8]) -> Pixels16:
    """Applies the changes from `eight_bits(pixels16)` to `pixels` [H, W, 3]. Unchanged pixels keep every bit."""
    result = pixels16.copy()
    color = result[..., None] if result.ndim == 2 else result[..., :3]
    for row, changed in zip(color, pixels, strict=True):
        change = (changed[:, : row.shape[1]].astype(np.int32) - _rounded(row)) * 257
        row[:] = np.clip(row + change, 0, 65535)
    return result


def _rounded(row: Pixels16) -> NDArray[np.uint32]:
    return (row.astype(np.uint32) + 128) // 257


def write_png(file: IO[bytes], pixels16: Pixels16, options: dict[str, Any]) -> None:
    """Writes [H, W, 3] RGB or [H, W, 4] RGBA as PNG. options: for Pillow, with the metadata."""
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "PNG", **options)
    ours = [chunk for chunk in png_chunks(small.getvalue()) if chunk[4:8] not in (b"IHDR", b"IDAT", b"IEND")]
    # Pillow writes no 16-bit color PNG, so its metadata chunks are put into OpenCV's file, after the header.
    done, encoded = cv2.imencode(".png", pixels16[..., [2, 1, 0, 3][: pixels16.shape[2]]])
    if not done:
        raise OSError("the picture cannot be encoded")
    header, *rest = png_chunks(encoded.tobytes())
    file.write(b"".join([PNG_START, header, *ours, *rest]))


def write_tiff(file: IO[bytes], pixels16: Pixels16, options: dict[str, Any]) -> None:
    """Writes [H, W, 3] RGB or [H, W, 4] RGBA as uncompressed TIFF. options: for Pillow, with the metadata."""
    height, width, channels = pixels16.shape
    tags = Image.Exif()  # Pillow's EXIF is a TIFF without a picture
    tags.load(options.get("exif", b""))
    tags.endian = tags.endian or "<"
    data = np.ascontiguousarray(pixels16, f"{tags.endian}u2")
    tags[Tag.ImageWidth], tags[Tag.ImageLength] = width, height
    tags[Tag.BitsPerSample], tags[Tag.SamplesPerPixel] = (16,) * channels, channels
    tags[Tag.Compression], tags[Tag.PhotometricInterpretation] = 1, 2  # none; RGB
    tags[Tag.RowsPerStrip], tags[Tag.StripByteCounts] = height, data.nbytes
    tags[Tag.StripOffsets] = 0  # counted from the end of the tags
    if channels == 4:
        tags[Tag.ExtraSamples] = 2  # alpha, not premultiplied
    if "dpi" in options:
        tags[Tag.XResolution], tags[Tag.YResolution] = options["dpi"]
        tags[Tag.ResolutionUnit] = 2  # inch
    if "icc_profile" in options:
        tags[Tag.InterColorProfile] = options["icc_profile"]
    file.write(tags.tobytes().removeprefix(b"Exif\0\0"))
    file.write(data.data)


WRITERS = {"PNG": write_png, "TIFF": write_tiff}  # by Pillow's name of the format
