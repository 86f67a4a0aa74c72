import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.api import RestoreOptions, Restorer
from panini.cli import run
from panini.errors import PaniniError
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine
from panini.jobs.folder import FolderJob

ENGINE = ["--network", "bicubic", "--min-face", "60"]
FACE = Image.fromarray(data.astronaut()[:240, 100:340])


@pytest.fixture(scope="module")
def restorer():
    return Restorer(BicubicEngine(), CenterFace(min_face=60))


@pytest.fixture
def album(tmp_path):
    """Photos with a face, one without, two broken ones, and what else lies about in folders."""
    folder = tmp_path / "album"
    (folder / "1969/näher").mkdir(parents=True)
    FACE.save(folder / "one.jpg")
    FACE.save(folder / "1969/two.tif")
    FACE.convert("P").save(folder / "1969/three.gif")
    FACE.convert("L").save(folder / "1969/näher/four\nlines.png")
    Image.fromarray(data.brick()).save(folder / "1969/wall.png")
    (folder / "broken.jpg").write_bytes((folder / "one.jpg").read_bytes()[:3000])
    (folder / "1969/empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._one.jpg").write_bytes(b"what another system leaves")
    (folder / "1969/round").symlink_to(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(folder: Path) -> set[str]:
    return {name for name in contents(folder) if not name.startswith((".panini", "report"))}


def test_a_log_says_how_far_the_work_is(album, capsys, monkeypatch):
    monkeypatch.setattr("panini.progress.INTERVAL", 0.0)
    assert run(["restore", str(album), "-o", str(album.with_name("out")), "-r", *ENGINE]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("panini: restoring: ")]
    assert lines[0] == "panini: restoring: 1 of 7"
    assert "restoring: 3 of 7, " in lines[2]
    assert lines[2].endswith(" min left")
    assert lines[-1] == "panini: restoring: 7 of 7"


def test_a_folder_goes_through_and_a_second_run_has_nothing_to_do(album, capsys):
    before, out = contents(album), album.with_name("out")
    arguments = ["restore", str(album), "-o", str(out), "-r", *ENGINE]
    assert run(arguments) == 1
    said = capsys.readouterr()
    assert "4 of 7 restored (4 faces), 1 without a face copied, 2 failed" in said.out
    assert said.err.count("\n") == 3
    assert "panini: broken.jpg: cannot be read" in said.err
    assert contents(album) == before
    assert pictures(out) == {
        "one.jpg",
        "1969/two.tif",
        "1969/three.gif.png",
        "1969/näher/four\nlines.png",
        "1969/wall.png",
    }
    assert (out / "1969/wall.png").read_bytes() == before["1969/wall.png"]
    report = json.loads((out / "report.json").read_text())
    assert (report["pictures"], report["restored"], report["copied"], report["failed"]) == (7, 4, 1, 2)
    assert {entry["source"] for entry in report["files"] if entry["outcome"] == "failed"} == {
        "broken.jpg",
        "1969/empty.png",
    }
    page = (out / "report.html").read_text()
    assert "http" not in page
    for entry in report["files"]:
        if entry["thumbnail"]:
            assert (out / entry["thumbnail"]).exists()
            assert entry["thumbnail"] in page

    made = {name: (out / name).stat().st_mtime_ns for name in pictures(out)}
    FACE.save(album / "broken.jpg")
    (album / "1969/empty.png").unlink()
    assert run(arguments) == 0
    assert "5 of 6 restored" in capsys.readouterr().out
    assert {name: (out / name).stat().st_mtime_ns for name in made} == made
    assert (out / "broken.jpg").exists()


def test_what_changed_is_done_anew_and_nothing_of_the_users_is_overwritten(album, restorer):
    out = album.with_name("out")
    list(FolderJob(album, out).run(restorer))
    assert FolderJob(album, out).todo == ["broken.jpg"]
    assert FolderJob(album, out, RestoreOptions(scale=2)).todo == ["broken.jpg", "one.jpg"]
    FACE.rotate(5).save(album / "one.jpg")
    changed = FolderJob(album, out)
    assert changed.todo == ["broken.jpg", "one.jpg"]
    (out / "one.jpg").write_bytes(b"edited by hand")
    assert "was edited since" in [entry.error for entry in changed.run(restorer)][1]
    assert (out / "one.jpg").read_bytes() == b"edited by hand"
    FACE.save(album / "new.png")
    (out / "new.png").write_bytes(b"the user's")
    entries = {entry.source: entry for entry in FolderJob(album, out).run(restorer)}
    assert "already exists" in entries["new.png"].error
    entries = {entry.source: entry for entry in FolderJob(album, out, overwrite=True).run(restorer)}
    assert entries["new.png"].outcome == entries["one.jpg"].outcome == "restored"


def test_a_failure_does_not_make_our_results_a_stranger_s(album, restorer, capsys):
    out = album.with_name("out")
    list(FolderJob(album, out).run(restorer))
    photo, result = (album / "one.jpg").read_bytes(), (out / "one.jpg").read_bytes()
    (album / "one.jpg").write_bytes(b"away for a while")
    failed = {entry.source: entry for entry in FolderJob(album, out).run(restorer)}["one.jpg"]
    assert failed.outcome == "failed"
    assert (out / "one.jpg").read_bytes() == result
    (album / "one.jpg").write_bytes(photo)
    again = {entry.source: entry for entry in FolderJob(album, out).run(restorer)}["one.jpg"]
    assert (again.outcome, again.error) == ("restored", "")
    # What suits no photo is said at once, and fails none.
    arguments = ["restore", str(album), "-o", str(out), *ENGINE]
    for option, words in (("--strength", "strength must be"), ("--grain", "grain must be"), ("--dial", "no dial")):
        assert run([*arguments, option, "2" if option != "--dial" else "1"]) == 2
        assert words in capsys.readouterr().err
    assert FolderJob(album, out).todo == ["broken.jpg"]


def test_a_report_of_the_user_s_is_not_replaced(album):
    out = album.with_name("out")
    out.mkdir()
    (out / "report.html").write_text("mine")
    with pytest.raises(PaniniError, match=r"report\.html already exists"):
        FolderJob(album, out)
    FolderJob(album, out, overwrite=True)
    assert (out / "report.html").read_text() == "mine"


def test_a_half_written_journal_loses_one_line(album, restorer):
    out = album.with_name("out")
    archive = FolderJob(album, out, recursive=True)
    list(archive.run(restorer))
    journal = out / ".panini/journal.jsonl"
    text = journal.read_text()
    journal.write_text(text[: text.rindex('"faces"')])
    rest = FolderJob(album, out, recursive=True)
    assert len(rest.todo) == 3  # the two broken ones and the last
    assert sum(entry.outcome == "failed" for entry in rest.run(restorer)) == 2


def test_the_folder_of_results_may_lie_in_the_folder(album, restorer):
    out = album / "restored"
    list(FolderJob(album, out, recursive=True).run(restorer))
    assert len(FolderJob(album, out, recursive=True).names) == 7


def test_what_cannot_work_is_said(album, capsys, tmp_path):
    def said(*arguments):
        assert run(["restore", *(str(a) for a in arguments), *ENGINE]) == 2
        return capsys.readouterr().err

    assert "-o" in said(album)
    assert "folder of the originals" in said(album, "-o", album)
    assert "folder of the originals" in said(album, "-o", album / "1969/..")
    assert "cannot be used as a folder" in said(album, "-o", album / "one.jpg")
    assert "does not work with a folder" in said(album, "-o", tmp_path / "out", "--only", 1)
    assert "--keep does not work with a folder" in said(album, "-o", tmp_path / "out", "--keep")
    (tmp_path / "bare/deep").mkdir(parents=True)
    assert "use -r" in said(tmp_path / "bare", "-o", tmp_path / "out2")
    assert "missing" in said(tmp_path / "missing", "-o", tmp_path / "out3")


def test_stopping_finishes_what_is_in_hand(album, restorer):
    archive = FolderJob(album, album.with_name("out"), recursive=True)
    seen = []
    for entry in archive.run(restorer, stop=lambda: len(seen) >= 2):
        seen.append(entry)
    rest = FolderJob(album, album.with_name("out"), recursive=True)
    assert 2 <= len(seen) <= 3
    assert set(rest.todo) | {entry.source for entry in seen} == set(archive.names)
    rest.write_reports(1.0)
    assert len(json.loads((album.with_name("out") / "report.json").read_text())["files"]) == len(seen)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopping_the_real_process(tmp_path, capsys, sent):
    (tmp_path / "in").mkdir()
    for i in range(40):
        FACE.save(tmp_path / f"in/{i:02}.png")
    arguments = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *ENGINE]
    process = subprocess.Popen(
        [sys.executable, "-m", "panini.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while time.monotonic() < until and len(pictures(tmp_path / "out")) < 2:
        time.sleep(0.02)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    done = {name for name in pictures(tmp_path / "out") if not name.endswith(".part")}
    assert 2 <= len(done) < 40
    for name in done:
        Image.open(tmp_path / "out" / name).load()
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command" in err
        assert err.count("\n") == 1
        assert (tmp_path / "out/report.html").exists()
    assert run(arguments) == 0
    assert "40 of 40 restored" in capsys.readouterr().out
    assert len(pictures(tmp_path / "out")) == 40  # and no parts of any


@pytest.fixture
def tiny_disk(tmp_path):
    mount = tmp_path / "tiny"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", mount]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield mount
    subprocess.run(["umount", mount], check=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_full_disk_stops_with_one_line_and_leaves_nothing_half_written(album, tiny_disk, suffix):
    for i in range(9):
        FACE.save(album / f"more{i}{suffix}", quality=100)
    arguments = ["restore", str(album), "-o", str(tiny_disk / "out"), *ENGINE]
    done = subprocess.run([sys.executable, "-m", "panini.cli", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"is full, \d+ of 11 are done", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert pictures(tiny_disk / "out")
    for name in pictures(tiny_disk / "out"):
        Image.open(tiny_disk / "out" / name).load()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp"])
def test_a_full_disk_leaves_nothing_of_a_single_photo(tiny_disk, tmp_path, capfd, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    noise[:240, :240] = np.asarray(FACE)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    out = tiny_disk / f"out{suffix}"
    assert run(["restore", str(tmp_path / "photo.png"), "-o", str(out), *ENGINE]) == 2
    assert capfd.readouterr().err == f"panini: {out} cannot be written: No space left on device\n"
    assert not list(tiny_disk.iterdir())


def test_what_is_not_in_a_result_is_said(tmp_path, capsys):
    album, out = tmp_path / "album", tmp_path / "out"
    album.mkdir()
    FACE.save(album / "pages.tif", save_all=True, append_images=[FACE])
    see_through = FACE.copy()
    see_through.putalpha(100)
    see_through.save(album / "see-through.jpg", "PNG")
    FACE.save(album / "whole.png")
    (album / "notes.txt").write_bytes(b"no picture")
    assert run(["restore", str(album), "-o", str(out), *ENGINE]) == 0
    said = capsys.readouterr()
    assert "3 of 3 restored (3 faces), 0 without a face copied, 0 failed, 1 of other types skipped" in said.out
    assert said.err.splitlines() == [
        "panini: pages.tif: only the first of 2 pages",
        "panini: see-through.jpg: transparency replaced by white",
    ]
    with (out / "whole.png").open("ab") as file:
        file.write(b"retouched")
    assert run(["restore", str(album), "-o", str(out), *ENGINE]) == 0
    assert "3 done in earlier runs" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    notes = {entry["source"]: entry["note"] for entry in report["files"]}
    assert notes["whole.png"] == "edited since Panini wrote it, and not replaced"
    assert report["other_files"] == 1
    assert "only the first of 2 pages" in (out / "report.html").read_text()
    assert run(["restore", str(album / "pages.tif"), "-o", str(tmp_path / "one.png"), *ENGINE]) == 0
    assert "pages.tif: only the first of 2 pages" in capsys.readouterr().err


def test_an_unreadable_folder_is_told_and_the_rest_done(album, restorer, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("näher"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    archive = FolderJob(album, album.with_name("out"), recursive=True)
    assert [entry.source for entry in archive.unreadable] == ["1969/näher"]
    assert len(archive.names) == 6


def test_names_that_are_no_text(tmp_path, capsys):
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)  # noqa: PTH102
    name = os.path.join(folder, b"\xff\xfe face.png")  # noqa: PTH118
    FACE.save(os.fsdecode(name))
    assert run(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *ENGINE]) == 0
    assert run(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *ENGINE]) == 0
    assert "1 of 1 restored" in capsys.readouterr().out
    assert os.path.exists(os.path.join(os.fsencode(tmp_path / "out"), b"\xff\xfe face.png"))  # noqa: PTH110, PTH118
    assert "%FF%FE%20face.png" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_two_hundred_mixed_files(tmp_path, capsys):
    """Photographs, drawings and microscopy in every format and mode that people have, some turned, some broken."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "camera", "page")]
    kinds = [
        (".jpg", "RGB"), (".jpg", "L"), (".jpg", "CMYK"), (".jpeg", "RGB"), (".png", "RGB"), (".png", "RGBA"),
        (".png", "P"), (".png", "1"), (".png", "I;16"), (".tif", "RGB"), (".tif", "L"), (".tif", "CMYK"),
        (".bmp", "RGB"),
        (".gif", "P"), (".webp", "RGB"), (".webp", "RGBA"), (".ppm", "RGB"), (".jp2", "RGB"), (".tga", "RGB"),
    ]  # fmt: skip
    broken = 0
    for i in range(200):
        suffix, mode = kinds[i % len(kinds)]
        picture = sources[i % len(sources)].rotate(int(rng.choice([0, 0, 90, 10])), expand=True)
        folder = tmp_path / "in" / f"{1900 + i % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        else:
            picture = picture.convert("L").convert(mode) if mode in ("1", "L") else picture.convert("RGB").convert(mode)
        path = folder / f"Scan {i} ü{suffix.upper() if i % 3 else suffix}"
        picture.save(path, **({"exif": Image.Exif()} if suffix == ".jpg" else {}))
        if i % 25 == 24:
            path.write_bytes(path.read_bytes()[: int(rng.integers(0, 400))])
            broken += 1
    before = contents(tmp_path / "in")
    assert run(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-r", *ENGINE]) == 1
    assert contents(tmp_path / "in") == before
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["pictures"], report["failed"]) == (200, broken)
    assert report["restored"] >= 30
    assert len(pictures(tmp_path / "out")) == 200 - broken
    for entry in report["files"]:
        # The astronaut's face (mostly lit in black and white) is found, and no cup, cat or page has one.
        number = int(entry["source"].split()[1])
        if entry["outcome"] != "failed" and number % 5 in (1, 2, 4):
            assert entry["outcome"] == "copied", entry
