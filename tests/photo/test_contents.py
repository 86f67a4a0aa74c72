"""What stands in a file beside its picture is kept, or its loss is said; and damage is noticed."""

import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, IptcImagePlugin, PngImagePlugin, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from skimage import data

from panini.cli import run
from panini.photo import contents, unreadable, xmp
from panini.photo import io as photo_io
from panini.photo.io import ImageError
from panini.photo.own_results import kind_of_output
from programs import needed

BICUBIC = ["--network", "bicubic"]
FACE = Image.fromarray(data.astronaut()[0:220, 110:330])


def exiftool(path) -> dict[str, object]:
    done = subprocess.run(
        [needed("exiftool"), "-j", "-G1", "-a", str(path)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)[0]


def restored(source, target, *options) -> None:
    assert run(["restore", str(source), "-o", str(target), "--keep", *BICUBIC, *options]) == 0


def saved(path, **options):
    FACE.save(path, **options)
    return path


def test_all_text_of_a_png_stays_and_ours_stands_beside_it(faults, tmp_path):
    restored(faults / "png-captions-lost.png", tmp_path / "out.png")
    text = Image.open(tmp_path / "out.png").text
    assert (text["Title"], text["Author"], text["Creation Time"]) == ("Anna, 1962", "J. Doe", "1962-05-01")
    assert text["Comment"] == "Grandma’s garden"
    assert text["Restoration"].startswith("Faces restored by Panini")
    told = exiftool(tmp_path / "out.png")
    assert (told["PNG:Comment"], told["PNG:Title"]) == ("Grandma’s garden", "Anna, 1962")
    # Restored once more, it says so once.
    restored(tmp_path / "out.png", tmp_path / "again.png")
    chunks = contents.examine(tmp_path / "again.png").chunks
    assert sum(b"Faces restored by" in body for _, body in chunks) == 1
    assert Image.open(tmp_path / "again.png").text["Comment"] == "Grandma’s garden"


def test_text_of_a_png_goes_into_a_jpegs_comment_and_its_loss_elsewhere_is_said(faults, tmp_path, capsys):
    restored(faults / "png-captions-lost.png", tmp_path / "out.jpg")
    assert "Title: Anna, 1962\n" in Image.open(tmp_path / "out.jpg").info["comment"].decode()
    assert capsys.readouterr().err == ""
    restored(faults / "png-captions-lost.png", tmp_path / "out.webp")
    assert "captions of the PNG (Title, Author, Comment, Creation Time)" in capsys.readouterr().err


def test_compressed_text_and_color_chunks_of_a_png_stay(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", "long " * 100, zip=True)
    text.add_itxt("Title", "Großmutter", lang="de", tkey="Titel", zip=True)
    text.add(b"gAMA", struct.pack(">I", 100_000))
    text.add(b"sRGB", b"\1")
    saved(tmp_path / "in.png", pnginfo=text)
    for deep in (False, True):
        photo = photo_io.load(tmp_path / "in.png")
        if deep:
            wide = np.repeat(np.repeat(np.asarray(FACE, np.uint16), 1, 0), 1, 1) * 257
            photo = photo_io.Photo(photo.pixels, metadata=photo.metadata, pixels16=wide)
        out = photo_io.save(photo, tmp_path / f"out{deep}.png")
        with Image.open(out) as image:
            assert image.text["Description"] == "long " * 100
            assert image.text["Title"] == "Großmutter"
            assert (image.text["Title"].lang, image.info["gamma"]) == ("de", 1.0)


def test_a_motion_photo_keeps_its_video(faults, tmp_path, capsys):
    source = faults / "motion-photo-video-lost.jpg"
    restored(source, tmp_path / "out.jpg")
    assert capsys.readouterr().err == ""
    told = exiftool(tmp_path / "out.jpg")
    assert (told["XMP-GCamera:MotionPhoto"], told["XMP-GCamera:MicroVideoOffset"]) == (1, 48820)
    video = (tmp_path / "out.jpg").read_bytes()[-48820:]
    assert video == source.read_bytes()[-48820:]
    assert video[4:8] == b"ftyp"


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_motion_photo_without_its_video_does_not_announce_one(faults, tmp_path, suffix, capsys):
    restored(faults / "motion-photo-video-lost.jpg", tmp_path / f"out{suffix}")
    assert "the video of the motion photo" in capsys.readouterr().err
    assert not any("MotionPhoto" in name or "MicroVideo" in name for name in exiftool(tmp_path / f"out{suffix}"))


CONTAINER = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg">
<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary"
 Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap"
 Item:Mime="image/jpeg" Item:Length="9999"/></rdf:li></rdf:Seq></Container:Directory></rdf:Description>
</rdf:RDF></x:xmpmeta>"""


def test_a_gain_map_is_said_to_be_gone_and_not_announced(tmp_path, capsys):
    primary, gain = BytesIO(), BytesIO()
    FACE.save(primary, "JPEG", xmp=CONTAINER)
    FACE.convert("L").resize((64, 64)).save(gain, "JPEG")
    (tmp_path / "in.jpg").write_bytes(primary.getvalue() + gain.getvalue())
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert "the gain map" in capsys.readouterr().err
    packet = photo_io.load(tmp_path / "out.jpg").metadata.xmp
    assert b"Primary" in packet
    assert b"image/jpeg" in packet
    assert not any(word in packet for word in (b"GainMap", b"hdrgm:Version", b"9999"))
    assert (tmp_path / "out.jpg").read_bytes().endswith(b"\xff\xd9")


def test_further_pictures_of_a_jpeg_are_said_to_be_gone(tmp_path, capsys):
    FACE.save(tmp_path / "in.mpo", save_all=True, append_images=[FACE.rotate(5), FACE.rotate(9)])
    shutil.copy(tmp_path / "in.mpo", tmp_path / "in.jpg")
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert "2 more pictures in the file" in capsys.readouterr().err
    assert Image.open(tmp_path / "out.jpg").format == "JPEG"


def test_extended_xmp_stays_in_jpeg_and_is_not_announced_elsewhere(tmp_path, capsys):
    main = CONTAINER.replace(
        b'hdrgm:Version="1.0"',
        b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF"',
    )
    body = b"http://ns.adobe.com/xmp/extension/\0" + b"0123456789ABCDEF0123456789ABCDEF" + struct.pack(">II", 9, 0)
    body += b"<depth />"
    extra = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    saved(tmp_path / "in.jpg", xmp=main, extra=extra)
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert extra in (tmp_path / "out.jpg").read_bytes()
    assert capsys.readouterr().err == ""
    restored(tmp_path / "in.jpg", tmp_path / "out.png")
    assert "extended XMP" in capsys.readouterr().err
    assert b"HasExtendedXMP" not in (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_cameras_software_stays_beside_ours(tmp_path, suffix):
    tags = Image.Exif()
    tags[0x0131], tags[0x010F] = "Firmware 1.03", "Camera"
    saved(tmp_path / f"in{suffix}", exif=tags.tobytes())
    restored(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    told = exiftool(tmp_path / f"out{suffix}")
    assert told["IFD0:Software"] == "Firmware 1.03"
    assert told["IFD0:ProcessingSoftware"].startswith("Panini ")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_metadata_do_not_contradict_an_enlarged_picture(tmp_path, suffix):
    tags = Image.Exif()
    camera = tags.get_ifd(0x8769)
    camera[0xA002], camera[0xA003] = FACE.size
    packet = CONTAINER.replace(
        b'hdrgm:Version="1.0"',
        b'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:PixelXDimension="220" exif:PixelYDimension="220"',
    )
    options = {"exif": tags.tobytes()} | ({"xmp": packet} if suffix != ".png" else {})
    saved(tmp_path / f"in{suffix}", **options)
    restored(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", "--scale", "2")
    told = exiftool(tmp_path / f"out{suffix}")
    assert (told["ExifIFD:ExifImageWidth"], told["ExifIFD:ExifImageHeight"]) == (440, 440)
    assert "XMP-exif:ExifImageWidth" not in told


def test_content_credentials_are_said_to_be_gone(tmp_path, capsys):
    body = b"JP\0\1\0\0\0\1\0\0\0\x30jumb\0\0\0\x20jumdc2pa"
    saved(tmp_path / "in.jpg", extra=b"\xff\xeb" + (len(body) + 2).to_bytes(2, "big") + body)
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert "Content Credentials" in capsys.readouterr().err
    text = PngImagePlugin.PngInfo()
    text.add(b"caBx", b"jumb")
    png = bytearray(saved(tmp_path / "in.png", pnginfo=text).read_bytes())
    at = png.index(b"caBx")
    png[at : at + 4] = b"caBX"
    png[at + 8 : at + 12] = zlib.crc32(png[at : at + 8]).to_bytes(4, "big")
    (tmp_path / "in.png").write_bytes(png)
    restored(tmp_path / "in.png", tmp_path / "out.png")
    assert "Content Credentials" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_bytes_behind_the_picture_are_said_to_be_gone(tmp_path, suffix, capsys):
    path = saved(tmp_path / f"in{suffix}")
    path.write_bytes(path.read_bytes() + b"secret" * 10)
    restored(path, tmp_path / f"out{suffix}")
    assert "60 bytes after the end of the picture" in capsys.readouterr().err


def test_what_bmp_does_not_hold_is_said(tmp_path, capsys):
    tags = Image.Exif()
    tags[0x010F] = "Camera"
    saved(tmp_path / "in.jpg", exif=tags.tobytes(), comment=b"in the attic")
    restored(tmp_path / "in.jpg", tmp_path / "out.bmp")
    err = capsys.readouterr().err
    assert "EXIF, which BMP cannot store" in err
    assert "the comment" in err


def test_the_resolution_that_webp_does_not_hold_is_said(tmp_path, capsys):
    saved(tmp_path / "in.png", dpi=(300, 300))
    restored(tmp_path / "in.png", tmp_path / "out.webp")
    assert "the resolution (300 dpi)" in capsys.readouterr().err


def test_what_avif_does_not_hold_is_said(tmp_path, capsys):
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    block = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00"
    marker = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
    saved(tmp_path / "in.jpg", dpi=(300, 300), extra=marker)
    restored(tmp_path / "in.jpg", tmp_path / "out.avif")
    err = capsys.readouterr().err
    assert "the resolution (300 dpi)" in err
    assert "IPTC captions" in err


def test_metadata_too_long_for_a_jpeg_are_said_to_be_gone(tmp_path, capsys):
    tags = Image.Exif()
    tags[0x010E] = "long " * 14_000
    packet = CONTAINER.replace(b"image/jpeg", b"image/jpeg" + b"x" * 40_000)
    saved(tmp_path / "in.webp", exif=tags.tobytes(), xmp=packet)
    restored(tmp_path / "in.webp", tmp_path / "out.jpg")
    err = capsys.readouterr().err
    assert "without EXIF, too long for a JPEG" in err
    assert "without XMP, too long for a JPEG" in err
    assert Image.open(tmp_path / "out.jpg").size == (220, 220)


def test_a_gifs_comment_becomes_text_of_a_png(tmp_path, capsys):
    saved(tmp_path / "in.gif", comment="Großmutter".encode())
    restored(tmp_path / "in.gif", tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").text["Comment"] == "Großmutter"
    assert capsys.readouterr().err == ""
    restored(tmp_path / "in.gif", tmp_path / "out.webp")
    assert "the comment" in capsys.readouterr().err


def test_a_jpegs_comment_becomes_text_of_a_png(tmp_path):
    saved(tmp_path / "in.jpg", comment="Großmutter".encode())
    restored(tmp_path / "in.jpg", tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").text["Comment"] == "Großmutter"


def test_a_lossless_webp_with_a_profile_stays_lossless(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    saved(tmp_path / "in.webp", lossless=True, icc_profile=profile)
    photo_io.save(photo_io.load(tmp_path / "in.webp"), tmp_path / "out.webp")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.webp")), np.asarray(FACE))


def test_jfif_stays_jpeg(tmp_path, capsys):
    saved(tmp_path / "in.jfif", format="JPEG")
    assert run(["restore", str(tmp_path / "in.jfif"), *BICUBIC]) == 0
    assert Image.open(tmp_path / "in-restored.jfif").format == "JPEG"
    assert photo_io.output_name("a.JPE") == "a.JPE"


def fails(capsys, path, *options, code=2) -> str:
    assert run(["restore", str(path), *BICUBIC, *options]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_a_damaged_png_is_no_picture_without_a_face(faults, tmp_path, capsys):
    path = shutil.copy(faults / "damaged-png-copied-as-no-face.png", tmp_path)
    err = fails(capsys, path)
    assert "is damaged" in err
    assert "% of it is readable" in err
    assert "--salvage" in err
    out = tmp_path / "out"
    assert run(["restore", str(tmp_path), "-o", str(out), *BICUBIC]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert [path.name for path in out.iterdir() if path.suffix == ".png"] == []
    assert run(["restore", str(path), "--keep", "--salvage", *BICUBIC]) == 0
    assert "the file is damaged" in capsys.readouterr().err
    assert Image.open(tmp_path / "damaged-png-copied-as-no-face-restored.png").size == (213, 260)


def test_a_truncated_jpeg_is_refused_with_how_much_is_there_and_restored_on_request(faults, tmp_path, capsys):
    path = shutil.copy(faults / "truncated-jpeg-refused.jpg", tmp_path)
    err = fails(capsys, path)
    share = int(err.rpartition("%")[0].split()[-1])
    assert 50 <= share <= 95
    assert run(["restore", str(path), "--salvage", *BICUBIC]) == 0
    assert f"about {share}% of it is readable" in capsys.readouterr().err
    assert Image.open(tmp_path / "truncated-jpeg-refused-restored.jpg").size == Image.open(path).size


@pytest.mark.parametrize(("format", "share"), [("JPEG", 50), ("PNG", 50), ("PNG", 20)])
def test_how_much_is_left_is_about_right(tmp_path, format, share, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, format)
    path = tmp_path / f"in.{format.lower()}"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * share // 100])
    told = int(fails(capsys, path).rpartition("%")[0].split()[-1])
    assert abs(told - share) < 8


def test_a_flipped_bit_in_a_png_is_noticed_wherever_it_is(tmp_path):
    whole = saved(tmp_path / "in.png").read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(8, len(whole), 60):
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.png").write_bytes(content)
        with pytest.raises(ImageError):
            photo_io.load(tmp_path / "flipped.png")


def test_a_damaged_text_of_a_png_is_left_out_and_said(tmp_path, capsys):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Anna")
    content = saved(tmp_path / "in.png", pnginfo=text).read_bytes().replace(b"Anna", b"Anne")
    (tmp_path / "in.png").write_bytes(content)
    restored(tmp_path / "in.png", tmp_path / "out.png")
    assert "a damaged part of the file (tEXt)" in capsys.readouterr().err
    assert "Title" not in Image.open(tmp_path / "out.png").text


def test_a_truncated_webp_is_said_to_be_cut_short(tmp_path, capsys):
    content = saved(tmp_path / "in.webp").read_bytes()
    (tmp_path / "in.webp").write_bytes(content[: len(content) // 2])
    assert "is cut short" in fails(capsys, tmp_path / "in.webp")


def test_a_jpeg_that_only_lacks_its_end_marker_is_read(tmp_path):
    content = saved(tmp_path / "in.jpg").read_bytes()
    (tmp_path / "in.jpg").write_bytes(content[:-2] + b"\0" * 8)
    assert photo_io.load(tmp_path / "in.jpg").pixels.shape == (220, 220, 3)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"%PDF-1.7", "a PDF document"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"PK\3\4", "a ZIP archive"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b"<?xml version='1.0'?><svg>", "an SVG drawing"),
        (b"\0\0\0\x18ftypcrx ", "a Canon RAW file"),
        (b"\0\0\0\x18ftypmp42", "is a video"),
        (b"RIFF\0\0\0\0AVI LIST", "is a video"),
    ],
)
def test_what_a_file_is_instead_is_said(tmp_path, start, words, capsys):
    (tmp_path / "in.jpg").write_bytes(start + b" " * 600)
    assert words in fails(capsys, tmp_path / "in.jpg")


def test_formats_are_known_by_content(faults, tmp_path, capsys):
    pytest.importorskip("pillow_heif")
    pytest.importorskip("pillow_jxl")
    for name, size in (("heic-named-jpg-not-recognized.jpg", 256), ("jpeg-xl-message-misleads.jxl", 256)):
        assert photo_io.load(faults / name).pixels.shape[:2] == (size, size)
    shutil.copy(saved(tmp_path / "a.png"), tmp_path / "really-png.jpg")
    assert run(["restore", str(tmp_path / "really-png.jpg"), *BICUBIC]) == 0
    assert Image.open(tmp_path / "really-png-restored.jpg").format == "JPEG"


def test_what_to_install_for_a_format_is_said(faults):
    assert "pip install '.[heif]'" in unreadable.reason(faults / "heic-named-jpg-not-recognized.jpg", {"PNG"})
    assert "pip install '.[jxl]'" in unreadable.reason(faults / "jpeg-xl-message-misleads.jxl", {"PNG"})
    # Where it could be read, it is damaged.
    assert "is a damaged HEIC file" in unreadable.reason(faults / "heic-named-jpg-not-recognized.jpg", {"HEIF"})
    assert unreadable.kind((faults / "same-without-scratches.png").read_bytes()) == "PNG"


def test_without_the_extras_the_message_names_them(faults, tmp_path):
    code = (
        "import sys; sys.modules['pillow_heif'] = sys.modules['pillow_jxl'] = None; import importlib.util as u;"
        "find = u.find_spec; u.find_spec = lambda name: None if name.startswith('pillow_') else find(name);"
        "from panini.cli import run; sys.exit(run(['restore', sys.argv[1], '--aligned', '--network', 'bicubic']))"
    )
    import sys

    for name, extra in (("heic-named-jpg-not-recognized.jpg", "heif"), ("jpeg-xl-message-misleads.jxl", "jxl")):
        path = shutil.copy(faults / name, tmp_path)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f".[{extra}]" in done.stderr


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_a_file_with_a_damaged_head_is_called_damaged(tmp_path, suffix, capsys):
    content = bytearray(saved(tmp_path / f"in{suffix}").read_bytes())
    start = {".webp": 20, ".avif": 60, ".tif": 4}.get(suffix, 6)
    content[start : start + 300] = b"\xee" * 300
    (tmp_path / f"in{suffix}").write_bytes(content)
    err = fails(capsys, tmp_path / f"in{suffix}")
    assert "cannot read" not in err
    assert any(word in err for word in ("is damaged", "is a damaged", "cannot be read"))


def test_a_jpeg_whose_lower_part_is_gray_is_said_to_look_damaged(tmp_path, capsys):
    content = saved(tmp_path / "in.jpg", quality=95).read_bytes()
    (tmp_path / "in.jpg").write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert "is plain gray, so the file may be damaged" in capsys.readouterr().err


def test_five_hundred_mutated_png_files_are_refused_or_right(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Anna")
    whole = saved(tmp_path / "in.png", pnginfo=text).read_bytes()
    pixels, rng = np.asarray(FACE), np.random.default_rng(3)
    outcomes = {"refused": 0, "told": 0, "same": 0}
    for _ in range(500):
        content, at = bytearray(whole), int(rng.integers(len(whole)))
        match rng.integers(4):
            case 0:
                content = content[:at]
            case 1:
                content[at : at + int(rng.integers(1, 200))] = b""
            case 2:
                content[at:at] = rng.bytes(int(rng.integers(1, 300)))
            case _:
                content[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "mutated.png").write_bytes(content)
        try:
            photo = photo_io.load(tmp_path / "mutated.png") if content else None
        except ImageError:
            photo = None
        if photo is None:
            outcomes["refused"] += 1
            continue
        np.testing.assert_array_equal(photo.pixels, pixels)
        kept = any(b"Anna" in body for _, body in photo.metadata.chunks)
        assert kept or photo.left_out
        outcomes["same" if kept else "told"] += 1
    assert outcomes["refused"] > 450


def test_a_raw_file_is_not_taken_for_its_preview(tmp_path, capsys):
    tags = Image.Exif()
    tags[50706] = b"\1\4\0\0"
    saved(tmp_path / "in.tif", exif=tags)
    assert "RAW" in fails(capsys, tmp_path / "in.tif")


def test_ten_bits_and_hdr_colors_of_avif_are_said_to_be_lost():
    head = b"\0\0\0\x14ftypavif\0\0\0\0" + b"\0\0\0\x13colrnclx" + struct.pack(">HHH", 9, 16, 9) + b"\x80"
    found = contents.examine(head + b"\0\0\0\x0cav1C\x81\x20\x4c\0mdat").left_out
    assert found == ["reduced to 8 bits", "without its brightness for HDR screens, so colors may look flat"]


def test_mending_keeps_everything_else():
    mended = xmp.mended(CONTAINER, xmp.PICTURES)
    assert b"dc:format" in mended
    assert mended.count(b"Container:Item") == 1
    assert xmp.mended(CONTAINER, xmp.VIDEO) == CONTAINER
    assert xmp.mended(b"<broken", xmp.VIDEO) == b"<broken"


@pytest.mark.parametrize("kind", [1, 4, 7])  # bytes, 32-bit numbers, undefined
@pytest.mark.parametrize("deep", [False, True])
def test_captions_of_a_tiff_stay_in_tiff_and_their_loss_elsewhere_is_said(tmp_path, kind, deep):
    caption = b"\x1c\x02\x78\x00\x0fGrandma, 1931.."  # IPTC: data set 120 of record 2
    tags = ImageFileDirectory_v2()
    tags[33723], tags.tagtype[33723] = caption, 7
    tags[34377], tags.tagtype[34377] = b"8BIM", 1
    Image.fromarray(data.camera()).save(tmp_path / "in.tif", tiffinfo=tags)
    content = (tmp_path / "in.tif").read_bytes()
    entry = struct.pack("<HHI", 33723, 7, len(caption))
    count = len(caption) // 4 if kind == 4 else len(caption)
    assert content.count(entry) == 1
    (tmp_path / "in.tif").write_bytes(content.replace(entry, struct.pack("<HHI", 33723, kind, count)))
    photo = photo_io.load(tmp_path / "in.tif")
    assert photo.left_out == ("without Photoshop data",)
    if deep:
        photo = replace(photo, pixels16=photo.pixels.astype(np.uint16) * 257, gray=False)
    photo_io.save(photo, tmp_path / "out.tif")
    assert (photo_io.load(tmp_path / "out.tif").pixels16 is not None) == deep
    assert photo_io.not_kept(photo, tmp_path / "out.tif") == ["without Photoshop data"]
    assert photo_io.load(tmp_path / "out.tif").metadata.iptc == caption
    assert IptcImagePlugin.getiptcinfo(Image.open(tmp_path / "out.tif"))[2, 120] == b"Grandma, 1931.."
    np.testing.assert_array_equal(photo_io.load(tmp_path / "out.tif").pixels, photo.pixels)
    assert "without IPTC captions" in photo_io.not_kept(photo, tmp_path / "out.jpg")


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="attic"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_photo_with_damaged_xmp_is_marked_all_the_same(tmp_path, suffix, capsys):
    tags = Image.Exif()
    damaged = XMP.replace(b"</rdf:RDF>", b"</rdg:RDF>")
    tags[700] = damaged
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", damaged.decode())
    options = {".png": {"pnginfo": text}, ".tif": {"exif": tags.tobytes()}}.get(suffix, {"xmp": damaged})
    saved(tmp_path / f"in{suffix}", **options)
    restored(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert "without XMP, which is damaged" in capsys.readouterr().err
    assert kind_of_output(tmp_path / f"out{suffix}") == "result"


@pytest.mark.parametrize(
    "packet", [XMP.replace(b"attic", b"\xe9t\xe9"), b"\xff\xfe" + XMP.decode().encode("utf-16-le")]
)
def test_xmp_in_another_encoding_stays_and_is_marked(tmp_path, packet, capsys):
    saved(tmp_path / "in.jpg", xmp=packet)
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert capsys.readouterr().err == ""
    assert b'dc:source="' in Image.open(tmp_path / "out.jpg").info["xmp"]
    assert kind_of_output(tmp_path / "out.jpg") == "result"


def test_damaged_exif_is_said_to_be_gone(tmp_path, capsys):
    tags = Image.Exif()
    tags[0x010F] = "Camera"
    tags.get_ifd(0x8769)[0x9003] = "1969:07:20 20:17:40"
    whole = tags.tobytes()
    pointer = whole.index(b"\x69\x87" if whole[6:8] == b"II" else b"\x87\x69") + 8
    for name, exif in {
        "whole": whole,
        "folder": whole[:pointer] + b"\x7f" * 4 + whole[pointer + 4 :],
        "head": whole[:6] + b"XX" + whole[8:],
        "end": whole[:30],
    }.items():
        saved(tmp_path / f"{name}.jpg", exif=exif)
        restored(tmp_path / f"{name}.jpg", tmp_path / f"{name}-out.jpg")
        assert ("without EXIF entries that are damaged" in capsys.readouterr().err) == (name != "whole"), name
    saved(tmp_path / "empty.jpg", exif=Image.Exif().tobytes())
    restored(tmp_path / "empty.jpg", tmp_path / "empty-out.jpg")
    assert capsys.readouterr().err == ""


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments: marker and content."""
    buffer = BytesIO()
    FACE.save(buffer, "JPEG")
    made = [b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2, "big") + body for marker, body in segments]
    return buffer.getvalue()[:2] + b"".join(made) + buffer.getvalue()[2:]


def test_unknown_data_of_a_jpeg_is_said_to_be_gone(tmp_path, capsys):
    (tmp_path / "in.jpg").write_bytes(with_segments((0xE1, b"FLIR\0\1\0\0" + bytes(50)), (0xE7, b"\0\1")))
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert "without data that Panini does not know (FLIR, APP7)" in capsys.readouterr().err


def test_all_comments_of_a_jpeg_stay(tmp_path, capsys):
    (tmp_path / "in.jpg").write_bytes(with_segments((0xFE, b"by the lake"), (0xFE, b"scanned 1999")))
    restored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert Image.open(tmp_path / "out.jpg").info["comment"] == b"by the lake\nscanned 1999"
    assert capsys.readouterr().err == ""


def test_unknown_chunks_of_png_and_webp_are_said_to_be_gone(tmp_path, capsys):
    content = saved(tmp_path / "in.png").read_bytes()
    chunk = b"prVW" + b"layers"
    chunk = len(b"layers").to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "in.png").write_bytes(content[:33] + chunk + content[33:])
    restored(tmp_path / "in.png", tmp_path / "out.png")
    assert "without data that Panini does not know (prVW)" in capsys.readouterr().err
    content = saved(tmp_path / "in.webp", exif=b"").read_bytes() + b"ABCD\4\0\0\0data"
    (tmp_path / "in.webp").write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    restored(tmp_path / "in.webp", tmp_path / "out.webp")
    assert "without data that Panini does not know (ABCD)" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["BMP", "TGA"])
def test_how_much_is_left_of_a_picture_stored_from_below(tmp_path, format, capsys):
    buffer = BytesIO()
    FACE.save(buffer, format)
    (tmp_path / "in.bmp").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * 3 // 10])
    assert "about 30% of it is readable" in fails(capsys, tmp_path / "in.bmp")


def test_half_of_a_jpeg_xl_is_called_damaged(faults, tmp_path, capsys):
    pytest.importorskip("pillow_jxl")
    content = (faults / "jpeg-xl-message-misleads.jxl").read_bytes()
    (tmp_path / "in.jxl").write_bytes(content[: len(content) // 2])
    assert "is a damaged JPEG XL file, and no part of it can be read" in fails(capsys, tmp_path / "in.jxl")
