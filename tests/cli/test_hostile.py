"""What people and disks do to files: every one is a line and an exit code, never a traceback, a hang or a loss."""

import json
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from hostile import FACE, mutated, real_files
from panini.cli import run

ENGINE = ["--network", "bicubic", "--min-face", "48"]


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
