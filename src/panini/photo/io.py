"""Reads and writes picture files so that only the faces change.

A `Photo` holds upright 8-bit RGB pixels, an alpha channel and metadata. 1-bit and floating-point pictures become 8-bit
gray, palettes become RGB, and CMYK and Lab become sRGB. Only the first frame of an animation is read. The result is L,
LA, RGB or RGBA, like the photo. JPEG and BMP cannot store transparency, so the photo is blended with white. PNG and
TIFF keep all 16 bits.
"""

from __future__ import annotations

import io
import os
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from panini.errors import PaniniError, one_line
from panini.files import write_atomically
from panini.photo import unreadable, xmp
from panini.photo.contents import Contents, examine
from panini.photo.salvage import READING, empty_rows, in_words, salvaged
from panini.photo.sixteen_bit import WRITERS, carried_over, eight_bits, read_sixteen_bit

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
} | ({".avif": "AVIF"} if features.check("avif") else {})
"""The formats that can be written, by suffix."""
if find_spec("pillow_heif"):  # the extra `heif`
    FORMATS |= {".heic": "HEIF", ".heif": "HEIF"}

READABLE = {*FORMATS, ".gif", ".jp2", ".mpo", ".pgm", ".ppm", ".tga", ".heic", ".heif", ".avif", ".jxl"}
"""Suffixes of the pictures to restore in a folder. HEIC and JPEG XL files need their extras."""
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".3gp"}  # suffixes of videos
VIDEOS_WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""The video containers that can be written, by suffix."""

JPEG_QUALITY = 95  # minimum quality to write; a photo with a higher quality keeps it
_JPEG_TABLE_SUM = 3692  # the sum of the luminance table in the JPEG standard, which is quality 50
_JPEG_BLOCK = 65_500  # bytes: longer EXIF or XMP does not fit into a JPEG and is left out
XMP_TAG = 700  # in TIFF
_IPTC_TAG, _PHOTOSHOP_TAG = 33723, 34377  # in TIFF
_OPAQUE = {"JPEG", "BMP"}
_EMPTY = 16  # rows of one gray at the end of a JPEG: from here on, its data probably ended early
_DNG = 50706  # the TIFF tag that marks DNG files
_NO_DENSITY = {"WEBP", "AVIF", "HEIF"}
_EMPTY_EXIF = 20  # bytes of EXIF without entries
_EXTENDED = b"http://ns.adobe.com/xmp/extension/"
_REDUCED = "reduced to 8 bits"
OURS = "Faces restored by Panini"  # our comments begin with this
SECOND = {"Comment": "Restoration", "Software": "Processing Software"}
"""Alternative PNG keywords for our text, if the photo already uses the first ones."""


class ImageError(PaniniError):
    """A picture cannot be read or written."""


class DamagedImageError(ImageError):
    """A picture of which only a part can be read."""


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture file, without the orientation, which is applied to the pixels."""

    exif: bytes = b""
    xmp: bytes = b""
    icc_profile: bytes = b""
    dpi: tuple[float, float] | None = None
    jpeg_quality: int = JPEG_QUALITY
    jpeg_subsampling: int = 0
    """0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0."""
    jpeg_blocks: bytes = b""
    """Segments of a JPEG with IPTC captions and extended XMP."""
    iptc: bytes = b""
    """The IPTC captions of a TIFF."""
    comment: bytes = b""
    lossless: bool = False
    """Whether the file was a lossless WebP."""
    text: tuple[tuple[str, str], ...] = ()
    """Keywords and values to add to the text of a PNG."""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    """The text and color chunks of a PNG: name and content."""
    trailer: bytes = b""
    """The video of a motion photo, which follows the picture in a JPEG."""


@dataclass(frozen=True)
class Photo:
    """A photo: pixels, transparency and metadata."""

    pixels: NDArray[np.uint8]
    """[H, W, 3] RGB, upright."""
    alpha: NDArray[np.uint8] | None = None
    """[H, W]; None: opaque."""
    gray: bool = False
    """Whether it is written with one channel."""
    metadata: Metadata = field(default_factory=Metadata)
    path: Path | None = None
    """The file that the photo was read from."""
    pixels16: NDArray[np.uint16] | None = None
    """The original 16-bit picture: [H, W], [H, W, 3] or [H, W, 4]. Changes are only in `pixels`."""
    left_out: tuple[str, ...] = ()
    """Descriptions of the parts of the file that were not read."""

    def image(self) -> Image.Image:
        """A Pillow image in the mode of the photo: L, LA, RGB or RGBA."""
        image = Image.fromarray(self.pixels[..., 0].copy() if self.gray else self.pixels)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image

    def enlarged(
        self, scale: int, upscale: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]] | None = None
    ) -> Photo:
        """Enlarges the photo by a factor of `scale`, with cubic interpolation or with `upscale`."""
        if scale == 1:
            return self

        def enlarge(array: Any) -> Any:
            size = (array.shape[1] * scale, array.shape[0] * scale)
            return cv2.resize(array, size, interpolation=cv2.INTER_CUBIC)

        alpha = None if self.alpha is None else enlarge(self.alpha)
        if upscale is not None:
            return replace(self.of_eight_bits(), pixels=upscale(self.pixels, scale), alpha=alpha)
        if self.pixels16 is None:
            return replace(self, pixels=enlarge(self.pixels), alpha=alpha)
        pixels16 = enlarge(self.pixels16)
        return replace(self, pixels=_rgb(eight_bits(pixels16)), alpha=alpha, pixels16=pixels16)

    def of_eight_bits(self) -> Photo:
        """The photo reduced to 8 bits. `left_out` mentions this."""
        return self if self.pixels16 is None else replace(self, pixels16=None, left_out=(*self.left_out, _REDUCED))


Source = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]
"""A path, the bytes of a file, a binary file object, a Pillow image, or a uint8 array [H, W], [H, W, 1], [H, W, 3] RGB
or [H, W, 4] RGBA."""


def load(source: Source, *, salvage: bool = False) -> Photo:
    """Reads a photo. Raises ImageError, with the name of the file, if it is damaged or not a picture.

    salvage: read the undamaged part of a damaged file.
    """
    if isinstance(source, Image.Image):
        return _decode(source, None, Contents())
    if isinstance(source, np.ndarray):
        return _from_array(source)
    file: Path | bytes
    if isinstance(source, str | os.PathLike):
        path = file = Path(source)
        check_input(path)
    else:
        path, file = None, source if isinstance(source, bytes) else source.read()
    name = path or "the input"
    try:
        with READING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large photos; beyond its limit, Pillow still raises
            register_plugins()
            return _read(file, path, salvage)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} {unreadable.reason(file, Image.OPEN)}") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ImageError(f"{name} is too large: more than {limit} megapixels") from None
    except MemoryError:
        raise ImageError(f"{name} does not fit in memory") from None
    except Exception as error:  # decoders raise all kinds of exceptions for broken files
        raise ImageError(f"{name} cannot be read: {one_line(error)}") from error


def _read(file: Path | bytes, path: Path | None, salvage: bool) -> Photo:
    """Reads a photo from a file. Raises ImageError if the file is damaged, unless `salvage`."""
    name = path or "the input"
    contents = examine(file)
    damage, opened = contents.damage, contents.whole or file
    if not damage:
        with _opened(opened) as image:
            if _DNG in getattr(image, "tag_v2", {}):
                raise ImageError(f"{name} is a RAW file: convert it to JPEG, PNG or TIFF first")
            try:
                photo = _decode(image, file, contents)
                empty = empty_rows(photo.pixels) if image.format in ("JPEG", "MPO") else 0
                if empty < _EMPTY:
                    return photo
                part = max(1, round(100 * empty / len(photo.pixels)))
                said = f"the bottom {part}% is plain gray, so the file may be damaged"
                return replace(photo, left_out=(*photo.left_out, said))
            except (OSError, SyntaxError, ValueError) as error:
                damage = f"cannot be read: {one_line(error)}"
    try:
        left, share = salvaged(file)
    except Image.DecompressionBombError:
        raise  # too large, even if undamaged
    except Exception as error:  # all kinds of exceptions
        raise ImageError(f"{name} {damage}; no part of it can be read") from error
    if not salvage:
        raise DamagedImageError(f"{name} {damage}; {in_words(share)} (use --salvage, or salvage=True in Python)")
    photo = _decode(left, None, contents)
    return replace(photo, path=path, left_out=(f"the file is damaged; {in_words(share)}", *photo.left_out))


def _opened(file: Path | bytes) -> Image.Image:
    """Opens a picture. Raises UnidentifiedImageError for all kinds of damage to the head of the file."""
    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except (Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:
        if getattr(error, "errno", None):  # an error of the file system
            raise
        raise UnidentifiedImageError from error


def save(
    photo: Photo, target: str | os.PathLike[str] | IO[bytes], format: str | None = None, *, overwrite: bool = False
) -> Path | None:
    """Writes the photo to a path, atomically, or to a binary file object. Returns the path.

    format: a value of `FORMATS`, such as "PNG". None: chosen by the suffix of the path.
    Raises ImageError as `check_output` does, if a file object has no format, or if writing fails.
    """
    path = Path(target) if isinstance(target, str | os.PathLike) else None
    if path is not None:
        check_output(path, photo.path, overwrite=overwrite)
        format = FORMATS[path.suffix.lower()] if format is None else format
    if format is None or format not in FORMATS.values():
        raise ImageError(f"a file object needs a format: one of {', '.join(dict.fromkeys(FORMATS.values()))}")
    try:
        write = _writer(photo, format)
        if isinstance(target, str | os.PathLike):
            write_atomically(Path(target), write)
        else:
            write(target)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise ImageError(f"{path or 'the picture'} cannot be written: {one_line(error)}") from error
    return path


def _writer(photo: Photo, format: str) -> Callable[[IO[bytes]], object]:
    """Returns a function that writes the photo to a file object."""
    register_plugins()
    image, options = _encoding(photo, format)
    pixels16 = carried_over(photo.pixels16, photo.pixels) if photo.pixels16 is not None and format in WRITERS else None
    if pixels16 is not None and pixels16.ndim == 3:
        return lambda file: WRITERS[format](file, pixels16, options)
    if pixels16 is not None:
        image = Image.fromarray(pixels16)
    trailer = photo.metadata.trailer if format == "JPEG" else b""

    def write(file: IO[bytes]) -> None:
        image.save(file, format, **options)
        if trailer:
            file.seek(0, os.SEEK_END)
            file.write(trailer)

    return write


def not_kept(photo: Photo, path: Path) -> list[str]:
    """Describes the parts of the original file that the result at `path` lacks."""
    format, metadata = FORMATS[path.suffix.lower()], photo.metadata
    exif_and_xmp = {"EXIF": metadata.exif, "XMP": metadata.xmp}
    lost = list(photo.left_out)
    if photo.alpha is not None and format in _OPAQUE:
        lost.append("transparency replaced by white")
    if photo.pixels16 is not None and format not in WRITERS:
        lost.append(_REDUCED)
    if format == "BMP":
        held = exif_and_xmp | {"the color profile": metadata.icc_profile}
        lost += [f"without {name}, which BMP cannot store" for name, block in held.items() if block]
    if format == "JPEG":
        lost += [
            f"without {name}, too long for a JPEG" for name, block in exif_and_xmp.items() if len(block) >= _JPEG_BLOCK
        ]
    else:
        lost += ["without the video of the motion photo"] if metadata.trailer else []
        lost += ["without IPTC captions and other Photoshop data"] if b"Photoshop 3.0" in metadata.jpeg_blocks else []
        lost += ["without extended XMP, such as a depth map"] if _EXTENDED in metadata.jpeg_blocks else []
    lost += ["without IPTC captions"] if metadata.iptc and format != "TIFF" else []
    if format not in ("JPEG", "PNG"):
        names = [keyword for keyword, _ in png_texts(metadata.chunks)]
        lost += [f"without captions of the PNG ({', '.join(names)})"] if names else []
        lost += ["without the comment"] if metadata.comment else []
    if format in _NO_DENSITY and metadata.dpi and round(metadata.dpi[0]) not in (0, 72, 96):
        lost.append(f"without the resolution ({metadata.dpi[0]:.0f} dpi)")
    if format != "PNG" and any(name in (b"gAMA", b"cHRM", b"cICP") for name, _ in metadata.chunks):
        lost.append("without the PNG's gamma and primaries")
    return lost


def default_output(path: Path) -> Path:
    """The default path of the result: next to the photo or video, as PNG or MP4 if its format cannot be written."""
    return path.with_name(f"{path.stem}-restored{_new_suffix(path) or path.suffix}")


def output_name(name: str) -> str:
    """The name of the result for the photo `name` in another folder. It is the same name, except that `a.gif` becomes
    `a.gif.png`, because there may also be an `a.png`."""
    return name + _new_suffix(PurePath(name))


def _new_suffix(path: PurePath) -> str:
    """The suffix to add if the format of the original cannot be written; otherwise empty."""
    return "" if path.suffix.lower() in (*FORMATS, *VIDEOS_WRITTEN) else ".mp4" if is_video(path) else ".png"


def is_folder(path: Path) -> bool:
    """Whether there is a folder at `path`."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # the name is too long or has a null character
        return False


def is_video(path: PurePath) -> bool:
    """Whether the file has a video suffix."""
    return path.suffix.lower() in VIDEOS


def check_input(path: Path) -> None:
    """Raises ImageError if there is no file at `path`, or an empty one."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not a picture")
        if not path.exists():
            raise ImageError(f"{path} does not exist")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty")
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {one_line(error)}") from error


def check_output(path: Path, source: Path | None = None, *, overwrite: bool = False) -> None:
    """Raises ImageError if a result cannot or must not be written to `path`.

    `path` must not be the `source`, under any name. Existing files are replaced only with `overwrite`.
    """
    if path.suffix.lower() not in FORMATS:
        raise ImageError(f"{path}: unknown suffix {path.suffix!r}; use one of {' '.join(FORMATS)}")
    check_place(path, source, overwrite=overwrite)


def check_place(path: Path, source: Path | None = None, *, overwrite: bool = False) -> None:
    """Does the same checks as `check_output`, for any suffix."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder")
        if not path.parent.is_dir():
            raise ImageError(f"there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise ImageError(f"{path.parent} is not writable")
        if path.exists():
            if source is not None and source.exists() and path.samefile(source):
                raise ImageError(f"{path} is the photo itself; Panini never overwrites originals")
            if not overwrite:
                raise ImageError(f"{path} already exists (to replace it, use --overwrite, or overwrite=True in Python)")
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {one_line(error)}") from error


def _from_array(array: NDArray[np.uint8]) -> Photo:
    if array.dtype != np.uint8:
        raise ImageError(f"the array must be uint8, not {array.dtype}")
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"the array must be [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    if array.ndim == 2 or array.shape[2] == 1:
        return Photo(np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2), gray=True)
    alpha = array[..., 3].copy() if array.shape[2] == 4 else None
    return Photo(np.ascontiguousarray(array[..., :3]), alpha)


def _decode(image: Image.Image, file: Path | bytes | None, contents: Contents) -> Photo:
    """file: the path or the bytes that `image` was opened from. None: not from a file, or `image` must not change."""
    left_out = contents.left_out + _other_frames(image) + _beside(image)
    quality, subsampling = _jpeg_encoding(image)
    tiles = getattr(image, "tile", ())  # loading the pixels removes them
    if image.format != "TIFF":  # loading would make its tags unreadable
        image.load()  # now, because `_exif` would hide damage
    exif, tiff_xmp, unreadable_exif = _exif(image)
    left_out += ["without EXIF entries that are damaged"] if unreadable_exif else []
    pixels16 = None if file is None else read_sixteen_bit(image, tiles, file)
    if file is None:
        upright = ImageOps.exif_transpose(image)
    else:  # in place: 100 megapixels take 400 MB
        ImageOps.exif_transpose(image, in_place=True)
        upright = image
    if pixels16 is not None and pixels16.shape[:2] != (upright.height, upright.width):
        pixels16 = None
    info = upright.info
    icc_profile = info.get("icc_profile") or b""
    said = info.get("xmp") or info.get("XML:com.adobe.xmp") or tiff_xmp or contents.xmp
    said = said.encode() if isinstance(said, str) else bytes(said)
    if said.strip(b"\0 \r\n") and xmp.parse(said) is None:
        left_out.append("without XMP, which is damaged")
        said = b""

    if upright.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        left_out.append(f"converted from {upright.mode} to sRGB")
        upright, icc_profile = _to_srgb(upright, icc_profile), b""
    elif upright.mode not in ("L", "LA", "RGB", "RGBA"):
        if upright.mode[0] in "IF" and pixels16 is None:
            left_out.append(_REDUCED)
        upright = _to_eight_bits(upright)
    elif upright.mode in ("L", "RGB") and upright.has_transparency_data:  # a PNG with one transparent color
        upright = upright.convert(upright.mode + "A")
    alpha = np.asarray(upright.getchannel("A")) if "A" in upright.getbands() else None
    if pixels16 is None:
        pixels = np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    else:
        pixels = _rgb(eight_bits(pixels16))
    return Photo(
        pixels,
        alpha,
        gray=upright.mode in ("L", "LA") if pixels16 is None else pixels16.ndim == 2,
        metadata=Metadata(
            exif=exif,
            xmp=xmp.mended(said, xmp.PICTURES) if contents.pictures else said,
            icc_profile=icc_profile,
            dpi=_dpi(image, exif),
            jpeg_quality=quality,
            jpeg_subsampling=subsampling,
            jpeg_blocks=contents.blocks,
            iptc=_iptc(image),
            comment=_comment(image, contents),
            lossless=contents.lossless,
            chunks=tuple(contents.chunks),
            trailer=contents.trailer,
        ),
        path=file if isinstance(file, Path) else None,
        pixels16=pixels16,
        left_out=tuple(left_out),
    )


def _other_frames(image: Image.Image) -> list[str]:
    """A note about further frames or pages. (`examine` counts the pictures in a JPEG.)"""
    try:
        count = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    except Exception:  # a broken frame; if it is the first one, loading it fails
        return []
    return [f"only the first of {count} {'pages' if image.format == 'TIFF' else 'frames'}"] if count > 1 else []


def _iptc(image: Image.Image) -> bytes:
    """The IPTC captions of a TIFF. As the type of the tag varies, Pillow decodes only a part of some."""
    return bytes(image.tag_v2._tagdata.get(_IPTC_TAG, b"")) if isinstance(image, TiffImageFile) else b""


def _beside(image: Image.Image) -> list[str]:
    """Notes about the parts of a TIFF or HEIC file that are not kept."""
    if _PHOTOSHOP_TAG in getattr(image, "tag_v2", {}):
        return ["without Photoshop data"]
    if image.format != "HEIF":
        return []
    info = image.info
    found = ["without a depth map"] if info.get("depth_images") else []
    found += ["without auxiliary pictures, such as the gain map for HDR screens"] if info.get("aux") else []
    return found + ([_REDUCED] if info.get("bit_depth", 8) > 8 else [])


def _rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W], [H, W, 3] or [H, W, 4] -> [H, W, 3]."""
    return np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else np.ascontiguousarray(array[..., :3])


def _comment(image: Image.Image, contents: Contents) -> bytes:
    """The comment of a GIF, or all comments of a JPEG, one per line."""
    if contents.comments:
        return b"\n".join(contents.comments)
    comment = image.info.get("comment") if image.format in ("JPEG", "MPO", "GIF") else None
    return comment.encode() if isinstance(comment, str) else bytes(comment or b"")


def register_plugins() -> None:
    """Registers the HEIC and JPEG XL plugins of Pillow, if the extras `heif` and `jxl` are installed."""
    if ".heic" in FORMATS and "HEIF" not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener()
    if find_spec("pillow_jxl") and "JXL" not in Image.OPEN:
        import pillow_jxl  # noqa: F401  it registers itself


def _to_srgb(image: Image.Image, icc_profile: bytes) -> Image.Image:
    """Converts to sRGB, with the embedded profile if there is one."""
    if image.mode != "LAB" and not icc_profile:
        return image.convert("RGB")
    source: Any = ImageCms.createProfile("LAB") if image.mode == "LAB" else io.BytesIO(icc_profile)
    try:
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:
        converted = None
    return converted or image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
        high = float(values.max(initial=0))
        # The largest value distinguishes floats in [0, 1], 8-bit integers and 16-bit integers.
        white = 1 if image.mode == "F" and high <= 1 else 255 if high <= 255 and image.mode != "I;16" else 65535
        return Image.fromarray(np.clip(values * (255 / max(white, high)) + 0.5, 0, 255).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _jpeg_encoding(image: Image.Image) -> tuple[int, int]:
    """Quality and subsampling that are at least as good as those of the input."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return JPEG_QUALITY, 0
    percent = 100 * sum(image.quantization[0]) / _JPEG_TABLE_SUM
    quality = round(100 - percent / 2 if percent <= 100 else 5000 / percent)
    return min(max(quality, JPEG_QUALITY), 100), max(JpegImagePlugin.get_sampling(image), 0)


def _dpi(image: Image.Image, exif: bytes) -> tuple[float, float] | None:
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit") and not exif:
        return None  # for a JPEG without a resolution, Pillow gives 72 dpi
    try:
        x, y = (float(v) for v in image.info.get("dpi", ()))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 65536 and 0 < y < 65536 else None


def _exif(image: Image.Image) -> tuple[bytes, Any, bool]:
    """EXIF without the tags that describe the pixels of this file, the XMP of a TIFF, and whether EXIF is damaged."""
    block = image.info.get("exif") or b""
    try:
        exif, kept = image.getexif(), Image.Exif()
        for tag, value in exif.items():
            if tag not in _LAYOUT_TAGS and tag not in _EXIF_FOLDERS:
                kept[tag] = value
        folders = {folder: exif.get_ifd(folder) for folder in _EXIF_FOLDERS if folder in exif}
        for folder, entries in folders.items():
            kept.get_ifd(folder).update(entries)
        damaged = not all(folders.values()) or (not exif and len(block.strip(b"\0")) > _EMPTY_EXIF)
        return (kept.tobytes() if kept or any(folders.values()) else b""), exif.get(XMP_TAG, b""), damaged
    except Exception:  # restore photos with unreadable EXIF, too
        return b"", b"", bool(block) or image.format == "TIFF"


_EXIF_FOLDERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Sizes, layout and compression of pixels, orientation, resolution, thumbnails; XMP, IPTC, Photoshop and ICC blocks.
_LAYOUT_TAGS = {
    *range(254, 260), 262, 266, 273, 274, *range(277, 280), *range(282, 285), *range(290, 294), 296, 301,
    *range(317, 326), 330, 332, 333, 336, *range(338, 343), 347, *range(512, 533),
    XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG, 34675,
}  # fmt: skip


def _encoding(photo: Photo, format: str) -> tuple[Image.Image, dict[str, Any]]:
    """The image in a mode that the format supports, and the options for Pillow to write it."""
    image, metadata = photo.image(), photo.metadata
    if photo.alpha is not None and format in _OPAQUE:
        paper = Image.new("L" if photo.gray else "RGB", image.size, "white")
        paper.paste(image.convert(paper.mode), mask=image.getchannel("A"))
        image = paper
    exif, packet = _sized(metadata.exif, image.size), _true_xmp(metadata, format)
    if format == "JPEG":
        exif, packet = (block if len(block) < _JPEG_BLOCK else b"" for block in (exif, packet))
    known = {"dpi": metadata.dpi, "icc_profile": metadata.icc_profile, "exif": exif, "xmp": packet}
    options: dict[str, Any] = {name: value for name, value in known.items() if value}
    match format:
        case "BMP":
            options = {"dpi": metadata.dpi} if metadata.dpi else {}
        case "JPEG":
            options |= {"quality": metadata.jpeg_quality, "subsampling": metadata.jpeg_subsampling}
            options["optimize"] = photo.pixels.size < 100_000_000  # this keeps the whole file in memory
            options |= {"extra": metadata.jpeg_blocks, "comment": _jpeg_comment(metadata)}
        case "WEBP" | "AVIF" | "HEIF":
            options |= {"quality": 95, "lossless": metadata.lossless and format == "WEBP", "exact": True}
        case "PNG":
            options["pnginfo"] = _png_text(metadata, packet)
        case "TIFF":
            tags = Image.Exif()
            tags.load(exif)
            # Pillow writes IPTC and the EXIF and GPS folders into uncompressed TIFF only.
            raw = metadata.iptc or any(folder in tags for folder in _EXIF_FOLDERS)
            options["compression"] = "raw" if raw else "tiff_lzw"
            for tag, block in {XMP_TAG: packet, _IPTC_TAG: metadata.iptc}.items():
                if block:
                    tags[tag] = block
                    options["exif"] = tags.tobytes()
    return image, options


def _true_xmp(metadata: Metadata, format: str) -> bytes:
    """The XMP packet without references to parts that a file of this format does not have."""
    gone = [xmp.SIZE]
    if format != "JPEG":
        gone += [xmp.VIDEO] if metadata.trailer else []
        gone += [xmp.EXTENSION]
    return xmp.mended(metadata.xmp, *gone)


def _sized(exif: bytes, size: tuple[int, int]) -> bytes:
    """EXIF with the new size of the picture, if it contains a size."""
    if not exif:
        return exif
    try:
        tags = Image.Exif()
        tags.load(exif)
        camera = tags.get_ifd(ExifTags.IFD.Exif)
        for tag, length in zip(_EXIF_SIZE, size, strict=True):
            if tag in camera and camera[tag] != length:
                camera[tag] = length
                for folder in _EXIF_FOLDERS:
                    tags.get_ifd(folder)  # Pillow only writes folders that were read
                exif = tags.tobytes()
    except Exception:  # of every kind, on broken tags
        return exif
    return exif


_EXIF_SIZE = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)


def png_texts(chunks: tuple[tuple[bytes, bytes], ...]) -> list[tuple[str, str]]:
    """Keywords and values of the text chunks of a PNG."""
    texts = []
    for name, body in chunks:
        keyword, _, rest = body.partition(b"\0")
        try:
            if name == b"tEXt":
                said = rest.decode("latin-1")
            elif name == b"zTXt":
                said = zlib.decompress(rest[1:]).decode("latin-1")
            elif name == b"iTXt":
                text = rest[2:].split(b"\0", 2)[2]  # after the language and the translated keyword
                said = (zlib.decompress(text) if rest[0] else text).decode()
            else:
                continue
        except (ValueError, IndexError, zlib.error):
            continue
        texts.append((keyword.decode("latin-1"), said))
    return texts


def _jpeg_comment(metadata: Metadata) -> bytes:
    """The comment for a JPEG: the photo's comment, or the text of a PNG with a line per keyword."""
    lines = [f"{keyword}: {said}" for keyword, said in png_texts(metadata.chunks)]
    return metadata.comment or "\n".join(lines).encode()[:_JPEG_BLOCK]


def _png_text(metadata: Metadata, packet: bytes) -> PngImagePlugin.PngInfo:
    """The text of a PNG: that of the photo, and ours. Ours uses other keywords if the photo has the same ones."""
    text = PngImagePlugin.PngInfo()
    if packet:
        text.add_itxt("XML:com.adobe.xmp", packet.decode("utf-8", "replace"))
    taken = set()
    for name, body in metadata.chunks:
        keyword = body.partition(b"\0")[0].decode("latin-1")
        if name in (b"tEXt", b"iTXt") and _is_ours(body):
            continue
        text.add(name, body)
        taken.add(keyword)
    if metadata.comment and "Comment" not in taken:
        text.add_itxt("Comment", metadata.comment.decode("utf-8", "replace"))
        taken.add("Comment")
    for keyword, said in metadata.text:
        text.add_itxt(SECOND.get(keyword, keyword) if keyword in taken else keyword, said)
    return text


def _is_ours(chunk: bytes) -> bool:
    """Whether an earlier restoration wrote this text chunk."""
    keyword = chunk.partition(b"\0")[0].decode("latin-1")
    if keyword in ("Comment", SECOND["Comment"]):
        return OURS.encode() in chunk
    return keyword in ("Software", SECOND["Software"]) and b"\0Panini " in chunk
