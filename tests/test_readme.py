"""The README's commands are the ones that CI runs and that exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from panini.cli import run

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_readmes_test_command() -> None:
    tests = (ROOT / "README.md").read_text().split("## Tests")[1]
    (command,) = re.findall(r"```sh\n(.+)\n```", tests)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_verb_of_the_readme_exists(capsys) -> None:  # type: ignore[no-untyped-def]
    verbs = set(re.findall(r"^panini (\S+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert verbs >= {"restore", "evaluate", "train"}
    for verb in verbs:
        assert run([verb, "--help"]) == 0, verb
    assert "Usage" in capsys.readouterr().out


def commands(text: str) -> list[list[str]]:
    """The arguments of the commands in a document, in order."""
    return [shlex.split(line.split(" #")[0])[1:] for line in re.findall(r"^panini .*", text, re.MULTILINE)]


def work(lines: list[list[str]], *options: str) -> None:
    """Runs commands one after another."""
    for words in lines:
        spread = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
        assert run([*(word for some in spread for word in some), *(options if words[0] == "restore" else ())]) == 0, (
            words
        )


@pytest.mark.slow
def test_the_readmes_lines_work_one_after_another(tmp_path, faults, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """As they are written, in a folder that has nothing but the files that they name."""
    pytest.importorskip("av")
    face = Image.open(faults / "same-without-scratches.png").convert("RGB")
    for name in ("grandmother.jpg", "scan.jpg", "other-scan.jpg"):
        face.resize((120, 120)).save(tmp_path / name)
    group = Image.new("RGB", (320, 150), "gray")
    for x in (15, 180):
        group.paste(face.resize((120, 120)), (x, 15))
    group.save(tmp_path / "group.jpg")
    face.save(tmp_path / "face.png")
    face.resize((64, 64)).save(tmp_path / "small.png")
    (tmp_path / "Photos" / "1962").mkdir(parents=True)
    face.resize((130, 130)).save(tmp_path / "Photos" / "1962" / "garden.jpg")
    shutil.copy(faults / "interlaced-flag-lost.mp4", tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    lines = commands((ROOT / "README.md").read_text().split("## Restore a photo")[1].split("## Know what is real")[0])
    assert len(lines) >= 14
    work(lines)
    assert Path("grandmother-restored.jpg").exists()
    assert Path("Restored/1962/garden.jpg").exists()


@pytest.mark.slow
def test_the_lines_about_photos_work_one_after_another(tmp_path, faults, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Also after those of the README about the same photo and folder."""
    pytest.importorskip("av")
    face = Image.open(faults / "same-without-scratches.png").convert("RGB")
    album = Image.new("RGB", (840, 600), "gray")
    for x, y, side in (
        (140, 150, 220),
        (140, 450, 210),
        (415, 165, 200),
        (415, 450, 190),
        (700, 150, 180),
        (700, 450, 170),
    ):
        album.paste(face.resize((side, side)), (x - side // 2, y - side // 2))
    album.save(tmp_path / "album.jpg")
    for name in ("grandmother.jpg", "page.tif"):
        face.resize((120, 120)).save(tmp_path / name)
    (tmp_path / "Photos" / "1962").mkdir(parents=True)
    face.resize((130, 130)).save(tmp_path / "Photos" / "1962" / "garden.jpg")
    shutil.copy(faults / "interlaced-flag-lost.mp4", tmp_path / "clip.mov")
    monkeypatch.chdir(tmp_path)
    lines = commands((ROOT / "docs" / "photos.md").read_text())
    assert len(lines) >= 7
    work(
        [["restore", "grandmother.jpg"], ["restore", "Photos", "-o", "Restored", "-r"], *lines], "--network", "bicubic"
    )
    assert Path("third.jpg").exists()
    assert Path("clip-restored.mp4").exists()
