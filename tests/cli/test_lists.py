"""Repeated commands, lists of files, files of our own, and what is said beside a result."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.cli import run
from panini.faces.detect import CenterFace
from panini.photo import provenance
from panini.photo.io import Metadata
from panini.photo.own_results import kind_of_output, mark_of
from panini.report.face_report import NEARLY_ALL, TINY, Damage, FaceReport, as_dict, describe

ENGINE = ["--network", "bicubic", "--min-face", "48"]
FACE = Image.fromarray(data.astronaut()[0:260, 90:350])


def restore(*arguments, code=0):
    assert run(["restore", *map(str, arguments), *ENGINE]) == code


@pytest.fixture
def album(tmp_path, faults):
    """Two photos with a face, one without."""
    folder = tmp_path / "album"
    folder.mkdir()
    FACE.save(folder / "anna.jpg")
    FACE.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "bert.png")
    shutil.copy(faults / "no-face-in-list-not-copied.jpg", folder / "wall.jpg")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_list_is_done_once_and_new_files_are_added(album, capsys):
    restore(*sorted(album.iterdir()))
    out, err = capsys.readouterr()
    assert out.count(": 1 face") == 2
    assert "wall.jpg: no face" in out
    assert "left unchanged" in out
    made = {path: path.stat().st_mtime_ns for path in album.glob("*-restored.*")}
    assert {path.name for path in made} == {"anna-restored.jpg", "bert-restored.png"}
    FACE.rotate(3).save(album / "carl.bmp")
    restore(*sorted(album.iterdir()))
    out, err = capsys.readouterr()
    assert "carl-restored.bmp: 1 face" in out
    assert out.count(": 1 face") == 1
    assert "skipped 2 files made by Panini" in err
    assert "skipped 2 of 6, already done" in err
    assert {path: path.stat().st_mtime_ns for path in made} == made
    restore(*sorted(album.iterdir()))  # a BMP, which holds no mark, is known by its name
    assert "skipped 3 files made by Panini" in capsys.readouterr().err


def test_a_list_into_a_folder_is_done_once(album, tmp_path, capsys):
    for _ in range(2):
        restore(*sorted(album.iterdir()), "-o", tmp_path / "out")
        out, err = capsys.readouterr()
        assert names(tmp_path / "out") == ["anna.jpg", "bert.png", "wall.jpg"]
    assert out == ""
    assert "skipped 3 of 3, already done" in err
    # The photo without a face is the same file, as in a folder.
    assert (tmp_path / "out" / "wall.jpg").read_bytes() == (album / "wall.jpg").read_bytes()
    restore(album, "-o", tmp_path / "tree")
    assert (tmp_path / "tree" / "wall.jpg").read_bytes() == (album / "wall.jpg").read_bytes()


def test_done_is_what_was_made_with_the_same_options_of_the_same_file(album, tmp_path, capsys):
    list_ = [album / "anna.jpg", album / "bert.png", "-o", tmp_path / "out"]
    restore(*list_)
    capsys.readouterr()
    restore(*list_, "--strength", "0.5", code=1)
    assert capsys.readouterr().err.count("already exists") == 2
    for options in (
        ["--grain", "0.5"],
        ["--scale", "2"],
        ["--passes", "3"],
        ["--only", "1"],
        ["--no-mark"],
        ["--explain"],
    ):
        restore(*list_, *options, code=1)
        assert capsys.readouterr().err.count("already exists") == 2, options
    FACE.rotate(5).save(album / "anna.jpg")
    restore(*list_, code=1)
    _, err = capsys.readouterr()
    assert err.count("already exists") == 1
    assert "skipped 1 of 2" in err
    # A file of somebody else's is none that is done.
    FACE.save(tmp_path / "out" / "bert.png")
    restore(*list_, code=1)
    assert capsys.readouterr().err.count("already exists") == 2


@pytest.mark.parametrize(
    "options", [["--scale", "2", "--grain", "0.5"], ["--like", "wall.png"], ["--box", "0,0,260,260"], ["--no-mark"]]
)
def test_the_same_options_are_recognized_and_others_are_not(album, tmp_path, capsys, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    FACE.rotate(-4).save("wall.png")
    list_ = [album / "anna.jpg", album / "bert.png", "-o", tmp_path / "out"]
    restore(*list_, *options)
    restore(*list_, *options)
    assert "skipped 2 of 2, already done" in capsys.readouterr().err
    restore(*list_, code=1)
    assert capsys.readouterr().err.count("already exists") == 2
    FACE.rotate(4).save("wall.png")  # another photo with the same name
    restore(*list_, *options, code=int("--like" in options))


def test_kept_photos_without_a_face_are_done_once(album, tmp_path, capsys):
    for _ in range(2):
        restore(album / "anna.jpg", album / "wall.jpg", "-o", tmp_path / "out", "--keep")
    assert "skipped 2 of 2, already done" in capsys.readouterr().err


def test_the_mark_says_the_options_but_names_no_file(album, tmp_path):
    source, out = album / "anna.jpg", tmp_path / "out.png"
    restore(source, "-o", out, "--like", album / "bert.png", "--grain", "0.5", "--only", "1", "--box", "0,0,260.5,260")
    digest = hashlib.sha256((album / "bert.png").read_bytes()).hexdigest()[:12]
    said = f"grain 0.5, like {digest}, only 1, boxes 0,0,260.5,260, min_face 48"
    assert mark_of(out)["Options"] == said


def test_results_and_explanations_in_a_folder_are_left_alone_and_counted(album, tmp_path, capsys):
    restore(album / "anna.jpg", "--explain")
    restore(album / "bert.png", "-o", album / "otherwise.webp")
    assert run(["inspect", str(album / "anna.jpg"), "-o", str(album / "drawn.png"), "--min-face", "48"]) == 0
    capsys.readouterr()
    restore(album, "-o", tmp_path / "out")
    assert "4 made by Panini skipped" in capsys.readouterr().out
    assert [name for name in names(tmp_path / "out") if "." not in name[:1] and not name.startswith("report")] == [
        "anna.jpg",
        "bert.png",
        "wall.jpg",
    ]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["own_files"] == 4
    restore(album, "-o", tmp_path / "again", "--again")
    assert "otherwise.webp" in names(tmp_path / "again")


def test_what_a_file_of_ours_shows(album):
    restore(album / "anna.jpg", "--explain")
    assert run(["inspect", str(album / "anna.jpg"), "-o", str(album / "drawn.jpg"), "--min-face", "48"]) == 0
    assert kind_of_output(album / "anna.jpg") == ""
    assert kind_of_output(album / "anna-restored.jpg") == provenance.RESULT
    assert kind_of_output(album / "anna-restored-explained.png") == provenance.EXPLANATION
    assert kind_of_output(album / "drawn.jpg") == provenance.INSPECTION
    assert "DigitalSourceType" not in mark_of(album / "drawn.jpg")


def test_marks_add_up(faults, tmp_path, capsys):
    source = faults / "same-without-scratches.png"
    assert run(["restore", str(source), "-o", str(tmp_path / "once.png")]) == 0
    capsys.readouterr()
    assert run(["restore", str(tmp_path / "once.png"), "-o", str(tmp_path / "twice.png"), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    once, twice = mark_of(tmp_path / "once.png"), mark_of(tmp_path / "twice.png")
    first, whole = float(once["Imagined"]), float(twice["Imagined"])
    assert whole == pytest.approx(1 - (1 - first) * (1 - told["imagined"]), abs=0.02)
    assert whole >= first
    assert (twice["Restorations"], told["restored_before"]) == ("2", 1)
    assert told["imagined_in_all"] == pytest.approx(whole, abs=0.02)
    assert "it was restored before" in err
    assert "in 2 restorations" in Image.open(tmp_path / "twice.png").text["Comment"]


def test_marks_of_which_one_says_no_share_say_none_in_all():
    said = provenance.entries("ab", 0, 1, 1, 0.5)
    once = provenance.add_to_metadata(Metadata(), provenance.entries("cd", 0, 1, 1, None))
    twice = provenance.add_to_metadata(once, said)
    assert "Imagined" not in provenance.read(twice.xmp)
    assert provenance.read(twice.xmp)["Restorations"] == "2"
    thrice = provenance.add_to_metadata(twice, said)
    assert provenance.read(thrice.xmp)["Restorations"] == "3"


def report(imagined):
    return FaceReport([], [], 0.0, imagined, {}, None)


def test_a_face_that_is_nearly_all_imagined_is_said_to_be():
    assert "nearly all" in describe(report(NEARLY_ALL))
    assert "nearly all" not in describe(report(NEARLY_ALL - 0.01))
    assert [as_dict(report(share))["nearly_all_imagined"] for share in (0.99, 0.1, None)] == [True, False, False]
    small = [Damage("down", 0.9, width, "low resolution") for width in (TINY, TINY + 1)]
    assert [replace(report(0.3), damages=[each]).nearly_all_imagined for each in small] == [True, False]


@pytest.mark.parametrize("name", ["24px-face-comes-out-as-blocks", "strong-blur-face-comes-out-scarred"])
def test_a_face_that_is_hardly_there_becomes_one_with_a_warning(name, faults, tmp_path, capsys):
    target = tmp_path / "out.png"
    assert run(["restore", str(faults / f"{name}.png"), "-o", str(target), "--aligned", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["faces"][0]["nearly_all_imagined"]
    assert "nearly all of the face is imagined" in err
    assert "not where an aligned crop has it" in err
    (face,) = CenterFace()(np.asarray(Image.open(target)))
    assert face.score > 0.9
    left, right = face.landmarks[:2]
    assert np.hypot(*(right - left)) == pytest.approx(265, abs=30), "eyes are where the input has them"


def test_faces_below_the_smallest_size_are_counted(tmp_path, capsys):
    page = Image.new("RGB", (900, 300), "gray")
    page.paste(FACE, (20, 20))
    for i in range(3):
        page.paste(FACE.resize((95, 95)), (320 + 150 * i, 100))
    page.save(tmp_path / "in.png")
    restore(tmp_path / "in.png")
    out, err = capsys.readouterr()
    assert ": 1 face," in out
    assert "skipped 3 faces smaller than 48 px; see --min-face" in err
    page.crop((300, 0, 900, 300)).save(tmp_path / "small.png")
    restore(tmp_path / "small.png", code=3)
    assert "no face at least 48 px wide found, but 3 smaller; see --min-face" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "in.png"), "--min-face", "48"]) == 0
    assert "1 face, 3 faces smaller than 48 px; see --min-face" in capsys.readouterr().out


def test_numbers_on_small_faces_can_be_read(tmp_path):
    page = Image.new("RGB", (300, 200), "gray")
    page.paste(FACE.resize((70, 70)), (100, 60))
    page.save(tmp_path / "in.png")
    assert run(["inspect", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]) == 0
    drawn = Image.open(tmp_path / "out.png")
    assert drawn.width >= 600
    black = (np.asarray(drawn) == 0).all(2)
    rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
    assert len(rows) >= 12  # the plate behind a number is that high
    assert len(columns) >= 8
