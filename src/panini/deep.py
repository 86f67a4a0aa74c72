"""Pictures of 16 bits a channel, which Pillow reduces to 8: read, and PNG written, by OpenCV beside it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

Deep = NDArray[np.uint16]

_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def read_deep(image: Image.Image, path: Path) -> Deep | None:
    """The pixels of a 16-bit PNG or TIFF, upright: [H, W], [H, W, 3] RGB or [H, W, 4] RGBA; None for all others.

    `image` is the file at `path`, opened by Pillow, its pixels not yet loaded.
    """
    tiles = getattr(image, "tile", ())
    if image.format not in ("PNG", "TIFF") or not any("16" in str(tile[3]) for tile in tiles):
        return None
    # A TIFF both libraries turn upright when they load it.
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format == "PNG" else 1
    if image.mode.startswith("I;16"):
        array: Any = np.asarray(image)
    else:
        array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if array is None or array.dtype != np.uint16 or array.ndim != 3:
            return None
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    return np.ascontiguousarray(_UPRIGHT.get(orientation, np.asarray)(array)).astype(np.uint16)


def eight_bits(deep: Deep) -> NDArray[np.uint8]:
    """The same picture with 8 bits, rounded."""
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)


def carried_over(deep: Deep, pixels: NDArray[np.uint8]) -> Deep:
    """`deep` with the changes that `pixels` [H, W, 3] made to its 8 bits: where there are none, every bit stays."""
    result = deep.copy()
    colour = result[..., None] if result.ndim == 2 else result[..., :3]
    before = eight_bits(colour)
    change = (pixels[..., : colour.shape[2]].astype(np.int32) - before) * 257
    colour[:] = np.clip(colour + change, 0, 65535)
    return result


def write_png(file: IO[bytes], deep: Deep, options: dict[str, Any]) -> None:
    """Writes [H, W, 3] RGB or [H, W, 4] RGBA as PNG, with the metadata that Pillow's `options` say."""
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "PNG", **options)
    ours = [chunk for chunk in _chunks(small.getvalue()) if chunk[4:8] not in (b"IHDR", b"IDAT", b"IEND")]
    # A 16-bit PNG of Pillow's own is not to be had: so its chunks of metadata go into OpenCV's, behind the header.
    done, encoded = cv2.imencode(".png", deep[..., [2, 1, 0, 3][: deep.shape[2]]])
    if not done:
        raise OSError("the picture cannot be encoded")
    header, *rest = _chunks(encoded.tobytes())
    file.write(b"".join([_SIGNATURE, header, *ours, *rest]))


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunks(png: bytes) -> list[bytes]:
    """The chunks of a PNG file, each with its length, name and checksum."""
    chunks, start = [], len(_SIGNATURE)
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        chunks.append(png[start:end])
        start = end
    return chunks
