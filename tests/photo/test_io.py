import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, IptcImagePlugin, PngImagePlugin, features
from skimage import data

from panini.files import write_atomically
from panini.photo import io as photo_io
from panini.photo import unreadable
from panini.photo.io import ImageError
from panini.photo.sixteen_bit import WRITERS, eight_bits

ASTRONAUT = Image.fromarray(data.astronaut()).resize((96, 64))
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf>panini</rdf></x:xmpmeta>'
LOSSLESS = [".png", ".tif", ".bmp"]


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Camera"
    tags.get_ifd(0x8769)[0x9003] = "1969:07:20 20:17:40"
    tags.get_ifd(0x8825)[1] = "N"
    return tags


def round_trip(source: Path, suffix: str) -> Path:
    return photo_io.save(photo_io.load(source), source.with_name(f"out{suffix}"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", *([".avif"] if features.check("avif") else [])])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_survives(tmp_path, suffix, target):
    source = tmp_path / f"in{suffix}"
    tags, extra = exif(), {"xmp": XMP}
    if suffix == ".tif":
        tags[700], extra = XMP, {}
    if suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        extra = {"pnginfo": text}
    ASTRONAUT.save(source, exif=tags.tobytes(), icc_profile=ICC, dpi=(300, 300), **extra)
    with Image.open(round_trip(source, target)) as result:
        result.load()
        tags = result.getexif()
        assert result.info["icc_profile"] == ICC
        assert tags[0x010F] == "Camera"
        assert tags.get_ifd(0x8769)[0x9003] == "1969:07:20 20:17:40"
        assert tags.get_ifd(0x8825)[1] == "N"
        xmp = result.info.get("xmp") or result.info.get("XML:com.adobe.xmp") or tags.get(700)
        assert (xmp.encode() if isinstance(xmp, str) else xmp) == XMP
        if suffix in (".jpg", ".png", ".tif") and target in (".jpg", ".png", ".tif"):
            assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
    source = tmp_path / "in.png"
    ASTRONAUT.save(source, exif=exif(orientation))
    photo = photo_io.load(source)
    assert photo.pixels.shape[:2] == ((64, 96) if orientation < 5 else (96, 64))
    with Image.open(round_trip(source, ".png")) as result:
        assert result.getexif().get(0x0112, 1) == 1
        np.testing.assert_array_equal(np.asarray(result), photo.pixels)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pixels_and_mode_survive_where_the_format_holds_them(tmp_path, suffix, mode):
    if (mode, suffix) == ("RGBA", ".bmp"):
        pytest.skip("BMP holds no transparency")
    image = ASTRONAUT.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    source = tmp_path / f"in{suffix}"
    image.save(source)
    with Image.open(round_trip(source, suffix)) as result:
        assert result.mode == mode
        np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


def test_gray_with_alpha_survives_in_png_and_lies_on_white_in_jpeg(tmp_path):
    source = tmp_path / "in.png"
    Image.merge("LA", [Image.new("L", (32, 32), 10), Image.new("L", (32, 32), 0)]).save(source)
    assert Image.open(round_trip(source, ".png")).mode == "LA"
    paper = Image.open(round_trip(source, ".jpg"))
    assert (paper.mode, paper.getpixel((5, 5))) == ("L", 255)


def test_a_jpeg_without_a_resolution_stays_without(tmp_path):
    ASTRONAUT.save(tmp_path / "in.jpg")
    assert photo_io.load(tmp_path / "in.jpg").metadata.dpi is None
    with Image.open(round_trip(tmp_path / "in.jpg", ".jpg")) as result:
        assert result.info["jfif_unit"] == 0


@pytest.mark.parametrize(("mode", "color"), [("L", 10), ("RGB", (9, 8, 7)), ("P", 3)])
def test_a_transparent_color_becomes_alpha(tmp_path, mode, color):
    image = Image.new(mode, (32, 32), color)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.paste(color if mode == "RGB" else 200, (0, 0, 8, 8))
    image.putpixel((20, 20), (0, 0, 0) if mode == "RGB" else 5)
    image.save(tmp_path / "in.png", transparency=color)
    with Image.open(round_trip(tmp_path / "in.png", ".png")) as result:
        assert result.mode == ("LA" if mode == "L" else "RGBA")
        assert result.getpixel((30, 30))[-1] == 0
        assert result.getpixel((20, 20))[-1] == 255


@pytest.mark.parametrize(
    ("mode", "suffix", "becomes"),
    [("1", ".png", "L"), ("P", ".png", "RGB"), ("P", ".gif", "RGB"), ("CMYK", ".jpg", "RGB"), ("LAB", ".tif", "RGB")],
)
def test_other_modes_are_converted(tmp_path, mode, suffix, becomes):
    image = ASTRONAUT.convert(mode) if mode != "LAB" else to_lab(ASTRONAUT)
    image.save(tmp_path / f"in{suffix}")
    photo = photo_io.load(tmp_path / f"in{suffix}")
    assert photo.image().mode == becomes
    reference = np.asarray(ASTRONAUT.convert("L" if becomes == "L" else "RGB"), dtype=int)
    assert abs(np.asarray(photo.image(), dtype=int).mean() - reference.mean()) < 12


def to_lab(image: Image.Image) -> Image.Image:
    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )


def test_sixteen_bits_become_eight(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "in.png")
    photo = photo_io.load(tmp_path / "in.png")
    assert photo.gray
    np.testing.assert_allclose(photo.pixels[..., 0], values / 257, atol=1)


@pytest.mark.parametrize("orientation", range(9))  # 0: no EXIF
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (40, 60, 4)])
def test_sixteen_bits_are_kept(tmp_path, shape, suffix, orientation):
    deep = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    source = tmp_path / f"in{suffix}"
    options = {"icc_profile": ICC, "dpi": (300, 300)} | ({"exif": exif(orientation).tobytes()} if orientation else {})
    if len(shape) == 2:
        Image.fromarray(deep).save(source, **options)
    else:
        with source.open("wb") as file:
            WRITERS["PNG" if suffix == ".png" else "TIFF"](file, deep, options)
    photo = photo_io.load(source)
    written = photo_io.load(photo_io.save(photo, tmp_path / f"out{suffix}"))
    np.testing.assert_array_equal(written.pixels16, photo.pixels16)
    assert np.array_equal(written.pixels16, deep) == (orientation < 2)
    assert sorted(written.pixels16.ravel()) == sorted(deep.ravel())
    assert (written.metadata.icc_profile, written.metadata.dpi) == (ICC, pytest.approx((300, 300), abs=0.1))
    # Upright as Pillow would have it, which knows of 8 bits alone.
    with Image.open(source) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB" if len(shape) == 3 else "I"), int)
    assert np.abs(photo.pixels[..., 0] - (expected[..., 0] if len(shape) == 3 else expected / 257)).max() <= 1
    # A change of the 8 bits is one of the 16.
    photo.pixels[3, 5] = 255 - photo.pixels[3, 5]
    changed = photo_io.load(photo_io.save(photo, tmp_path / f"changed{suffix}"))
    assert (changed.pixels16 != photo.pixels16).sum() <= 3
    np.testing.assert_array_equal(changed.pixels, photo.pixels)
    assert photo_io.load(photo_io.save(photo.enlarged(2), tmp_path / f"large{suffix}")).pixels16.shape[:2] == tuple(
        2 * n for n in photo.pixels.shape[:2]
    )
    assert photo_io.load(photo_io.save(photo, tmp_path / "out.jpg")).pixels.shape == photo.pixels.shape


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("target", [".png", ".tif"])
def test_metadata_survives_beside_sixteen_bits(tmp_path, suffix, channels, target):
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60, channels)).astype(np.uint16)
    metadata = photo_io.Metadata(exif().tobytes(), XMP, ICC, (300.0, 300.0))
    source = photo_io.save(photo_io.Photo(eight_bits(deep), metadata=metadata, pixels16=deep), tmp_path / f"in{suffix}")
    written = photo_io.load(round_trip(source, target))
    np.testing.assert_array_equal(written.pixels16, deep)
    assert (written.metadata.xmp, written.metadata.icc_profile) == (XMP, ICC)
    assert written.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    tags = Image.Exif()
    tags.load(written.metadata.exif)
    assert tags[0x010F] == "Camera"
    assert tags.get_ifd(0x8769)[0x9003] == "1969:07:20 20:17:40"
    assert tags.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (3, {}),
        (3, {"compression": "zlib", "predictor": True}),
        (3, {"tile": (16, 16)}),
        (4, {"extrasamples": ["unassalpha"]}),
        (4, {"extrasamples": ["unspecified"]}),
    ],
)
def test_sixteen_bits_of_a_color_tiff_are_read_and_written(tmp_path, order, channels, options):
    tifffile = pytest.importorskip("tifffile")
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60, channels)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", deep, photometric="rgb", byteorder=order, **options)
    expected = deep[..., :3] if options.get("extrasamples") == ["unspecified"] else deep
    np.testing.assert_array_equal(photo_io.load(tmp_path / "in.tif").pixels16, expected)
    np.testing.assert_array_equal(tifffile.imread(round_trip(tmp_path / "in.tif", ".tif")), expected)


def test_other_tiffs_of_sixteen_bits(tmp_path):
    tifffile, path = pytest.importorskip("tifffile"), tmp_path / "in.tif"
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60, 4)).astype(np.uint16)
    # White is 0.
    tifffile.imwrite(path, deep[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(photo_io.load(path).pixels16, 65535 - deep[..., 0])
    # Colors times alpha.
    multiplied = np.concatenate([deep[..., :3] * (deep[..., 3:] / 65535), deep[..., 3:]], 2).astype(np.uint16)
    tifffile.imwrite(path, multiplied, photometric="rgb", extrasamples=["assocalpha"])
    photo = photo_io.load(path)
    assert photo.pixels16 is None
    opaque = photo.alpha > 128
    assert np.abs(photo.pixels - deep[..., :3] / 257)[opaque].max() < 4
    tifffile.imwrite(path, deep, photometric="separated")
    photo = photo_io.load(path)
    assert (photo.pixels16, photo.alpha, photo.pixels.shape) == (None, None, (40, 60, 3))
    # A plane for each color: Pillow reads it right if it is compressed, OpenCV never.
    planes = np.ascontiguousarray(deep[..., :3].transpose(2, 0, 1))
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", compression="zlib")
    assert np.abs(photo_io.load(path).pixels - deep[..., :3] / 257).max() < 1
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match="interleaved"):
        photo_io.load(path)


def test_captions_and_comments_of_a_jpeg_stay(tmp_path):
    caption = b"\x1c\x02\x78\x00\x0dGrandma, 1931"  # IPTC: data set 120 of record 2
    block = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + len(caption).to_bytes(4, "big") + caption + b"\x00"
    marker = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
    ASTRONAUT.save(tmp_path / "in.jpg", extra=marker, comment=b"from the attic", exif=exif(), xmp=XMP, icc_profile=ICC)
    with Image.open(round_trip(tmp_path / "in.jpg", ".jpg")) as result:
        assert IptcImagePlugin.getiptcinfo(result)[2, 120] == b"Grandma, 1931"
        assert result.info["comment"] == b"from the attic"
        assert result.info["xmp"] == XMP
        assert result.info["icc_profile"] == ICC
        assert result.getexif()[0x010F] == "Camera"
    round_trip(tmp_path / "in.jpg", ".png")


def test_metadata_too_long_for_a_jpeg_do_not_stop_it(tmp_path):
    tags = exif()
    tags[0x010E] = "x" * 70_000
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode() + " " * 70_000)
    ASTRONAUT.save(tmp_path / "in.png", exif=tags.tobytes(), icc_profile=ICC, pnginfo=text)
    with Image.open(round_trip(tmp_path / "in.png", ".jpg")) as result:
        assert result.info["icc_profile"] == ICC
    with Image.open(photo_io.save(photo_io.load(tmp_path / "in.png"), tmp_path / "out.webp")) as result:
        assert len(result.getexif()[0x010E]) == 70_000


def test_lossless_webp_stays_lossless(tmp_path):
    ASTRONAUT.save(tmp_path / "in.webp", lossless=True)
    with Image.open(round_trip(tmp_path / "in.webp", ".webp")) as result:
        np.testing.assert_array_equal(np.asarray(result), np.asarray(ASTRONAUT))


def test_heic_comes_and_goes_with_its_metadata(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    ASTRONAUT.save(tmp_path / "in.heic", quality=95, exif=exif(), icc_profile=ICC)
    with Image.open(round_trip(tmp_path / "in.heic", ".heic")) as result:
        assert result.getexif()[0x010F] == "Camera"
        assert result.info["icc_profile"] == ICC
        assert np.abs(np.asarray(result, int) - np.asarray(ASTRONAUT)).mean() < 4


def test_float_with_nan_is_read(tmp_path):
    values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "in.tif")
    assert photo_io.load(tmp_path / "in.tif").pixels.max() == 255


def test_jpeg_keeps_better_quality_and_full_color(tmp_path):
    for quality, subsampling in ((99, 0), (60, 2)):
        ASTRONAUT.save(tmp_path / "in.jpg", quality=quality, subsampling=subsampling)
        metadata = photo_io.load(tmp_path / "in.jpg").metadata
        assert metadata.jpeg_quality == max(quality, 95)
        assert metadata.jpeg_subsampling == subsampling


@pytest.mark.parametrize(("shape", "mode"), [((9, 8), "L"), ((9, 8, 1), "L"), ((9, 8, 3), "RGB"), ((9, 8, 4), "RGBA")])
def test_arrays_come_in_and_go_out(shape, mode):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = photo_io.load(array).image()
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image).reshape(shape), array)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ImageError):
        photo_io.load(array)


def test_output_is_written_whole_or_not_at_all(tmp_path):
    photo = photo_io.load(ASTRONAUT)
    path = tmp_path / "out.png"
    path.write_bytes(b"earlier")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"earlier"
    photo_io.save(photo, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_photo_too_wide_for_the_format_leaves_nothing(tmp_path):
    photo = photo_io.load(np.zeros((1, 70_000), np.uint8))
    with pytest.raises(ImageError, match="cannot be written"):
        photo_io.save(photo, tmp_path / "out.webp")
    assert list(tmp_path.iterdir()) == []


def test_the_original_is_never_the_output(tmp_path):
    source = tmp_path / "in.png"
    ASTRONAUT.save(source)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    (tmp_path / "folder").mkdir()
    for name in ("in.png", "hard.png", "soft.png", "folder/../in.png"):
        with pytest.raises(ImageError, match="the photo itself"):
            photo_io.save(photo_io.load(source), tmp_path / name, overwrite=True)


def test_decompression_bomb(tmp_path, monkeypatch):
    ASTRONAUT.save(tmp_path / "in.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="too large"):
        photo_io.load(tmp_path / "in.png")


def test_heic_without_its_extra_says_how_to_get_it():
    content = b"\x00\x00\x00\x18ftypheicnone of Pillow's"
    assert "'.[heif]'" in unreadable.reason(content, {"PNG", "JPEG"})
    assert unreadable.reason(content, {"HEIF"}) == "is a damaged HEIC file, and no part of it can be read"


def test_bits_that_are_lost_are_told(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60, 3)).astype(np.uint16)
    photo = photo_io.load(photo_io.save(photo_io.Photo(eight_bits(deep), pixels16=deep), tmp_path / "in.png"))
    assert photo_io.not_kept(photo, tmp_path / "out.tif") == []
    assert photo_io.not_kept(photo, tmp_path / "out.jpg") == ["reduced to 8 bits"]
    upscaled = photo.enlarged(2, lambda pixels, scale: pixels.repeat(scale, 0).repeat(scale, 1))
    assert photo_io.not_kept(upscaled, tmp_path / "out.png") == ["reduced to 8 bits"]
