"""Damaged files of every kind."""

import random
from io import BytesIO

import numpy as np
from PIL import Image, features
from skimage import data

FACE = Image.fromarray(data.astronaut()[40:180, 150:290]).resize((96, 96))
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "gif": "GIF"}
if features.check("avif"):
    FORMATS["avif"] = "AVIF"


def real_files() -> list[tuple[str, bytes]]:
    """A small picture in every format and mode, with metadata to damage."""
    files = []
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    for suffix, format in FORMATS.items():
        for mode in ("RGB", "L", "P", "RGBA"):
            if (mode == "RGBA" and suffix in ("jpg", "bmp", "gif")) or (
                mode == "P" and suffix in ("jpg", "webp", "avif")
            ):
                continue
            buffer = BytesIO()
            options = {} if suffix in ("bmp", "gif") else {"exif": exif.tobytes()}
            FACE.convert(mode).save(buffer, format, **options)
            files.append((suffix, buffer.getvalue()))
    for array in (
        np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16),
        np.full((96, 96), np.nan, np.float32),
    ):
        buffer = BytesIO()
        Image.fromarray(array).save(buffer, "TIFF")
        files.append(("tif", buffer.getvalue()))
    return files


def mutated(rng: random.Random, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    suffix, content = rng.choice(files)
    content = bytearray(content)
    match rng.randrange(7):
        case 0:
            content = content[: rng.randrange(len(content))]
        case 1:
            for _ in range(rng.choice((1, 3, 20))):
                content[rng.randrange(len(content))] = rng.randrange(256)
        case 2:  # in the header, where sizes and offsets stand
            for _ in range(rng.choice((1, 2, 4))):
                content[rng.randrange(min(64, len(content)))] = rng.choice((0, 1, 127, 128, 255))
        case 3:
            at, length = rng.randrange(len(content)), rng.randrange(1, 200)
            content[at : at + length] = b""
        case 4:
            other = rng.choice(files)[1]
            cut = rng.randrange(len(content))
            content[cut:] = other[cut:]
        case 5:
            at = rng.randrange(len(content))
            content[at:at] = rng.randbytes(rng.randrange(1, 500))
        case 6:
            suffix = rng.choice([*FORMATS, "jp2", "ppm", "tga", "heic"])
    return suffix, bytes(content)
