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


def readme_lines() -> list[str]:
    """The lines about photos, in the order in which they stand."""
    blocks = (ROOT / "README.md").read_text().split("## Restore a photo")[1].split("## Know what is real")[0]
    return re.findall(r"^panini .*", blocks, re.MULTILINE)


@pytest.mark.slow
def test_the_readmes_lines_work_one_after_another(tmp_path, faults, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """As they are written, in a folder that has nothing but the files that they name."""
    pytest.importorskip("av")
    face = Image.open(faults / "same-without-scratches.png").convert("RGB")
    for name in ("grandmother.jpg", "group.jpg", "scan.jpg", "other-scan.jpg"):
        face.resize((120, 120)).save(tmp_path / name)
    face.save(tmp_path / "face.png")
    face.resize((64, 64)).save(tmp_path / "small.png")
    (tmp_path / "Photos" / "1962").mkdir(parents=True)
    face.resize((130, 130)).save(tmp_path / "Photos" / "1962" / "garden.jpg")
    shutil.copy(faults / "interlaced-flag-lost.mp4", tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    lines = readme_lines()
    assert len(lines) >= 14
    for line in lines:
        words = shlex.split(line.split(" #")[0])
        spread = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words[1:]]
        assert run([word for some in spread for word in some]) == 0, line
    assert Path("grandmother-restored.jpg").exists()
    assert Path("Restored/1962/garden.jpg").exists()
