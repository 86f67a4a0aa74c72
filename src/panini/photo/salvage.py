"""Reads the undamaged part of a damaged picture."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_NO_DATA = 128  # the gray that JPEG decoders return for missing data

_BOTTOM_UP = ("BMP", "TGA")
"""Formats that usually store the last row first. Missing rows are black."""

READING = threading.RLock()
"""Held while a file is read, because Pillow has one setting for damaged files per process."""


def salvaged(file: Path | bytes) -> tuple[Image.Image, float]:
    """Decodes as much as possible of a damaged file. Returns the picture and the share of decoded rows.

    Raises any kind of exception if nothing can be decoded.
    """
    data = file if isinstance(file, bytes) else file.read_bytes()
    if data[:2] == b"\xff\xd8":
        data += b"\xff\xd9"  # makes the decoder return incomplete pictures
    with READING:
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
        try:
            image = Image.open(BytesIO(data))
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    pixels = np.asarray(image.convert("RGB"))
    missing = _plain_rows(pixels)
    if image.format in _BOTTOM_UP and not pixels[0].any():
        missing = max(missing, _plain_rows(pixels[::-1]))
    share = 1 - missing / image.height
    if not share:
        raise OSError("nothing can be decoded")
    return image, share


def in_words(share: float) -> str:
    """Describes the share of decoded rows."""
    if share == 1:
        return "all of it is readable, but may show damage"
    return f"about {max(1, min(99, round(100 * share)))}% of it is readable"


def empty_rows(pixels: NDArray[np.uint8]) -> int:
    """Number of rows at the end of a JPEG that have the gray of missing data."""
    return _plain_rows(pixels) if np.abs(pixels[-1].astype(int) - _NO_DATA).max() <= 1 else 0


def _plain_rows(pixels: NDArray[np.uint8]) -> int:
    """Number of rows at the end with a single color. Decoders fill missing rows like this."""
    plain = (pixels == pixels[-1, -1]).all((1, 2))
    return len(plain) if plain.all() else int(np.argmin(plain[::-1]))
