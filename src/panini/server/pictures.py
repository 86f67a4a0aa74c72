"""Pictures for the page: previews of a photo, crops of faces, and the map of what is invented."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from panini.faces.blend import feathered_mask
from panini.photo.io import Photo
from panini.photo.pixels import Pixels
from panini.report.explanation import MOST
from panini.report.face_report import FaceReport

PREVIEW_PIXELS = 16_000_000
"""Larger photos are made smaller for the page; phones show no more."""
_QUALITY = 93
_MAP_SIDE = 512
_FACE_SIDE = 256
Region = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


def preview_scale(width: int, height: int) -> float:
    """How much smaller than a picture of that size its preview is; in (0, 1]."""
    return min(1.0, (PREVIEW_PIXELS / (width * height)) ** 0.5)


def preview(photo: Photo, region: Region | None = None) -> tuple[bytes, str]:
    """A photo, or a region of it, as a file for browsers; and its media type.

    A region is never made smaller.
    """
    x, y, w, h = region or (0, 0, photo.pixels.shape[1], photo.pixels.shape[0])
    part = np.s_[y : y + h, x : x + w]
    alpha = None if photo.alpha is None else photo.alpha[part]
    image = Photo(np.ascontiguousarray(photo.pixels[part]), alpha, photo.gray).image()
    scale = 1.0 if region else preview_scale(image.width, image.height)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=2)
    return _encoded(image, photo.metadata.icc_profile)


def face_crop(crop: Pixels) -> tuple[bytes, str]:
    """A crop of a face [S, S, 3], small, as a file for browsers; and its media type."""
    return _encoded(Image.fromarray(cv2.resize(crop, 2 * (_FACE_SIDE,), interpolation=cv2.INTER_AREA)), b"")


def invented(report: FaceReport) -> tuple[bytes, str]:
    """The map of likely errors as a transparent PNG that lies over the crop of a face; and its media type.

    The more likely an error, the brighter and the less transparent. All transparent if there is no map.
    """
    side = _MAP_SIDE
    if report.map is None:
        return _encoded(Image.new("RGBA", (1, 1)), b"")
    levels = np.clip(cv2.resize(report.map, (side, side), interpolation=cv2.INTER_CUBIC) / MOST, 0, 1)
    colors = cv2.applyColorMap((levels * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = 0.9 * np.sqrt(levels) * feathered_mask(side)
    return _encoded(Image.fromarray(np.dstack([colors, (255 * alpha).astype(np.uint8)])), b"")


def _encoded(image: Image.Image, icc_profile: bytes) -> tuple[bytes, str]:
    file = BytesIO()
    profile = {"icc_profile": icc_profile} if icc_profile else {}
    if image.mode in ("RGBA", "LA"):
        image.save(file, "PNG", compress_level=1, **profile)
        return file.getvalue(), "image/png"
    image.save(file, "JPEG", quality=_QUALITY, subsampling=0, **profile)
    return file.getvalue(), "image/jpeg"
