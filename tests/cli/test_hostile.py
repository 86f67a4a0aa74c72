"""What people and disks do to files: every one is a line and an exit code, never a traceback, a hang or a loss."""

import json
import os
import random
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from skimage import data

from panini.cli import run

ENGINE = ["--network", "bicubic", "--min-face", "48"]
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


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_files(tmp_path, count):
    rng, files = random.Random(count), real_files()
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(count):
        suffix, content = mutated(rng, files)
        (folder / f"{i:03}.{suffix}").write_bytes(content)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "panini.cli", "restore", str(folder), "-o", str(out), *ENGINE],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert all(line.startswith("panini: ") for line in done.stderr.splitlines()), done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    failed = json.loads((out / "report.json").read_text())["failed"]
    written = [path for path in out.iterdir() if path.is_file() and not path.name.startswith("report")]
    assert len(written) + failed == count
    assert failed < count
    for path in written:
        Image.open(path).load()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (30_000, 40), (7, 2)])
def test_odd_sizes_go_through(tmp_path, size):
    path = tmp_path / "in.png"
    Image.new("RGB", size, (200, 10, 90)).save(path)
    assert run(["restore", str(path), "--keep", *ENGINE]) == 0
    assert Image.open(tmp_path / "in-restored.png").size == size


def line(capsys, *arguments, code=2) -> str:
    assert run(["restore", *(str(a) for a in arguments), *ENGINE]) == code
    err = capsys.readouterr().err
    assert err.startswith("panini: ")
    assert err.count("\n") == 1
    return err


def test_a_picture_that_grows_too_large(tmp_path, capsys):
    Image.new("RGB", (30_000, 8)).save(tmp_path / "wide.jpg")
    assert "cannot be written" in line(capsys, tmp_path / "wide.jpg", "--keep", "--scale", "4")
    assert [path.name for path in tmp_path.iterdir()] == ["wide.jpg"]


def test_a_decompression_bomb(tmp_path, capsys):
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0d" + header + zlib.crc32(header).to_bytes(4, "big")
    body = b"IDAT" + zlib.compress(bytes(10_000_000))
    bomb += (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bomb)
    assert "too large" in line(capsys, tmp_path / "bomb.png")


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_what_is_no_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "round.jpg").symlink_to(tmp_path / "round.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "missing")
    for name in ("pipe.jpg", "round.jpg", "nowhere.jpg"):
        line(capsys, tmp_path / name)
    line(capsys, "/dev/zero")
    line(capsys, tmp_path / ("x" * 5000 + ".jpg"))
    line(capsys, tmp_path / "nul\0.jpg")
    # In a folder they are failures like others.
    FACE.save(tmp_path / "good.png")
    assert run(["restore", str(tmp_path), "-o", str(tmp_path / "out"), *ENGINE]) == 1
    assert "1 of 4" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["家族.jpg", "ναός\n2.jpg", "-o.jpg", "a b'\"$(x).jpg", "👵🏾.jpg", "Ünï/../q.jpg"])
def test_names_in_any_script(tmp_path, name, capsys):
    (tmp_path / "Ünï").mkdir()
    FACE.resize((200, 200)).save(tmp_path / name)
    assert run(["restore", str(tmp_path / name), *ENGINE]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert (tmp_path / name).with_stem(Path(name).stem + "-restored").exists()
