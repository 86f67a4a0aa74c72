import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini import __version__
from panini.cli import run
from panini.cli.demo import demo_photo
from panini.photo import provenance

ENGINE = ["--network", "bicubic", "--min-face", "48"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture
def wall(tmp_path):
    path = tmp_path / "wall.png"
    Image.fromarray(data.brick()).save(path)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fails(capsys, arguments, code=2):
    """The one line that the command line says when it fails with `code`."""
    assert run([str(a) for a in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("panini: ")
    assert err.count("\n") == 1
    return err


def test_restore_writes_beside_the_photo(photo, capsys):
    before = photo.read_bytes()
    assert run(["restore", str(photo), *ENGINE]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{photo.parent / 'photo-restored.jpg'}: 1 face, ")
    assert out.count("\n") == 1
    assert names(photo.parent) == {"photo.jpg", "photo-restored.jpg"}
    assert photo.read_bytes() == before


def test_restore_with_choices(photo, capsys):
    output = photo.with_name("out.webp")
    assert run(["restore", str(photo), "-o", str(output), "--scale", "2", *ENGINE]) == 0
    assert Image.open(output).size == (1024, 1024)
    capsys.readouterr()
    assert "exists" in fails(capsys, ["restore", photo, "-o", output, *ENGINE])
    assert run(["restore", str(photo), "-o", str(output), "--aligned", "--overwrite", *ENGINE]) == 0


def test_several_photos(tmp_path, photo, wall, capsys):
    other = tmp_path / "other.gif"
    Image.fromarray(data.astronaut()).save(other)
    before = photo.read_bytes()
    assert run(["restore", str(photo), str(other), *ENGINE]) == 0
    assert capsys.readouterr().out.count(": 1 face, ") == 2
    assert {"photo-restored.jpg", "other-restored.png"} < names(tmp_path)
    # One without a face and one that is not there don't stop the others.
    folder = tmp_path / "new" / "folder"
    missing = tmp_path / "missing.jpg"
    assert run(["restore", *map(str, (wall, missing, photo, other)), "-o", str(folder), *ENGINE]) == 1
    out, err = capsys.readouterr()
    assert out.count(": 1 face, ") == 2
    assert re.fullmatch(r"panini: .*missing\.jpg.*\npanini: 1 of 4 failed\n", err)
    assert re.search(r"wall\.png: no face .*found, copied", out)
    assert names(folder) == {"photo.jpg", "other.gif.png", "wall.png"}
    assert run(["restore", str(photo), str(other), "--json", "--overwrite", "-o", str(folder), *ENGINE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["photo"] for line in lines] == [str(photo), str(other)]
    assert run(["restore", str(photo), "-o", str(folder), "--overwrite", *ENGINE]) == 0  # as `cp` does
    capsys.readouterr()
    assert "dial" in fails(capsys, ["restore", photo, other, "--dial", "5", *ENGINE])
    # Nothing is written twice, or over an original.
    restored = tmp_path / "photo-restored.jpg"
    assert "written twice" in fails(capsys, ["restore", photo, restored, "--again", "--overwrite", *ENGINE])
    twice = ["restore", photo, folder / "photo.jpg", "--again", "-o", tmp_path / "x", *ENGINE]
    assert "written twice" in fails(capsys, twice)
    assert "is a folder" in fails(capsys, ["restore", photo, folder, *ENGINE])
    assert "as a folder" in fails(capsys, ["restore", photo, other, "-o", photo, *ENGINE])
    assert "--strip" in fails(capsys, ["restore", photo, other, "--strip", "3", *ENGINE])
    assert photo.read_bytes() == before


def test_bad_input(tmp_path, photo, capsys):
    def said(name, content=None):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        return fails(capsys, ["restore", tmp_path / name, *ENGINE])

    before = names(tmp_path)
    assert "does not exist" in said("missing.jpg")
    assert "is empty" in said("empty.jpg", b"")
    assert "not a picture" in said("text.jpg", b"hello, I am text\n" * 100)
    assert "cannot be read" in said("truncated.jpg", photo.read_bytes()[:9000])
    assert "folder" in said(".")
    assert "does not exist" in said("new\nline.jpg")
    assert names(tmp_path) - before == {"empty.jpg", "text.jpg", "truncated.jpg"}


def test_bad_output(tmp_path, photo, capsys):
    def said(output, *options):
        return fails(capsys, ["restore", photo, "-o", output, *options, *ENGINE])

    assert "unknown suffix '.xyz'" in said(tmp_path / "out.xyz")
    assert "unknown suffix ''" in said(tmp_path / "out")
    assert "no folder" in said(tmp_path / "nowhere/out.jpg")
    assert "the photo itself" in said(photo, "--overwrite")
    assert names(tmp_path) == {"photo.jpg"}


def test_unwritable_folder(photo, capsys):
    # Even root cannot write here.
    assert fails(capsys, ["restore", photo, "-o", "/proc/out.jpg", *ENGINE])


def test_no_face(wall, capsys):
    assert "no face" in fails(capsys, ["restore", wall, *ENGINE], code=3)
    assert names(wall.parent) == {"wall.png"}
    assert run(["restore", str(wall), "--keep", *ENGINE]) == 0
    assert "no face" in capsys.readouterr().out
    np.testing.assert_array_equal(np.asarray(Image.open(wall.with_name("wall-restored.png"))), data.brick())


def test_inspect_lists_and_draws(tmp_path, capsys):
    source = tmp_path / "demo.jpg"
    source.write_bytes(demo_photo())
    assert run(["inspect", str(source), "-o", str(tmp_path / "drawn.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{source}: 560x260, 3 faces"
    assert len(lines) == 7
    assert all("of the detail in this face is imagined" in line for line in lines[2::2])
    for number, line in enumerate(lines[1::2], 1):
        found = re.fullmatch(
            r" +(\d): box (-?\d+),(-?\d+),(\d+),(\d+)  score (0\.\d+|1\.00)  landmark error (\d+)% of the eye distance"
            r"  rotated ([+-]\d+) degrees  sharpness (\d+)",
            line,
        )
        assert int(found[1]) == number
        assert 60 < int(found[4]) < 120
        assert float(found[6]) > 0.7
        assert int(found[7]) < 15
        assert abs(int(found[8])) < 10
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"), int)
    assert (drawn == [255, 220, 0]).all(2).sum() > 300
    assert "exists" in fails(capsys, ["inspect", source, "-o", tmp_path / "drawn.png"])
    assert "photo itself" in fails(capsys, ["inspect", source, "-o", source, "--overwrite"])
    assert "does not exist" in fails(capsys, ["inspect", tmp_path / "missing.jpg"])


def test_faces_are_chosen(tmp_path, capsys):
    source, output = tmp_path / "demo.jpg", tmp_path / "out.png"
    source.write_bytes(demo_photo())
    before = np.asarray(Image.open(source), int)

    def changed(*options):
        """In which thirds of the page, which has a face in each."""
        assert run(["restore", str(source), "-o", str(output), "--overwrite", *options, *ENGINE]) == 0
        difference = np.abs(np.asarray(Image.open(output), int) - before).max(2)
        return [int(part.any()) for part in (difference[:, :180], difference[:, 190:360], difference[:, 380:])]

    assert changed() == [1, 1, 1]
    assert sum(changed("--only", "1", "--only", "3")) == 2
    assert changed("--box", "0,0,180,260", "--grain", "1") == [1, 0, 0]
    capsys.readouterr()
    assert "no face" in fails(capsys, ["restore", source, *ENGINE, "--min-face", "200"], code=3)
    assert "no face 4" in fails(capsys, ["restore", source, "--only", "4", *ENGINE])
    assert "box" in fails(capsys, ["restore", source, "--box", "1,2,3", *ENGINE])
    assert "in the box" in fails(capsys, ["restore", source, "--box", "0,0,5,5", *ENGINE])
    assert "grain" in fails(capsys, ["restore", source, "--grain", "2", *ENGINE])
    assert "min-face" in fails(capsys, ["restore", source, *ENGINE, "--min-face", "nan"])


def test_aligned_must_be_square(tmp_path, capsys):
    Image.new("RGB", (64, 65)).save(tmp_path / "in.png")
    assert "square" in fails(capsys, ["restore", tmp_path / "in.png", "--aligned", *ENGINE])


@pytest.mark.parametrize(
    "arguments",
    [["restore"], ["nonesuch"], ["restore", "a.jpg", "--scale", "3"], ["restore", "a.jpg", "--nonesuch"], ["--x"]],
)
def test_usage_errors_are_one_line(arguments, capsys):
    fails(capsys, arguments)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")
def test_interrupt(photo, capsys):
    """As by Ctrl-C, while the photo is restored."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        assert "interrupted" in fails(capsys, ["restore", photo, *ENGINE], code=130)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_demo(tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    for _ in range(2):
        assert run(["demo", "-o", str(folder), *ENGINE[:2]]) == 0
        out = capsys.readouterr().out
        assert "3 faces" in out
        assert all(str(folder / name) in out for name in names(folder))
    assert names(folder) == {"demo-before.jpg", "demo-after.jpg", "demo-side-by-side.jpg"}
    (tmp_path / "file").write_text("")
    fails(capsys, ["demo", "-o", tmp_path / "file" / "demo", *ENGINE[:2]])


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "panini.cli", *arguments], capture_output=True, text=True, check=False)


def test_real_process_version_and_help():
    assert command("--version").stdout == f"panini {__version__}\n"
    assert command("restore", "--help").returncode == 0


def test_real_process_error(tmp_path):
    result = command("restore", str(tmp_path / "missing.jpg"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"panini: {tmp_path / 'missing.jpg'} does not exist\n"


def test_reader_that_leaves_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "panini.cli", "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()


def test_what_is_known_as_json_and_as_a_picture(photo, capsys):
    assert run(["restore", str(photo), "--json", "--explain", *ENGINE]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert err == ""
    assert data["output"] == str(photo.with_name("photo-restored.jpg"))
    assert data["imagined"] is None
    assert len(data["faces"][0]["box"]) == 4
    assert names(photo.parent) == {"photo.jpg", "photo-restored.jpg", "photo-restored-explained.png"}
    assert "exists" in fails(capsys, ["restore", photo, "-o", photo.with_name("photo-restored.png"), "--explain"])


def test_the_number_of_passes_is_said(photo, capsys):
    assert run(["restore", str(photo), "--json", "--passes", "3"]) == 0
    assert [face["passes"] for face in json.loads(capsys.readouterr().out)["faces"]] == [3]
    assert provenance.read(Image.open(photo.with_name("photo-restored.jpg")).info["xmp"])["Passes"] == "3"


def test_the_dial_of_the_shipped_weights(photo, capsys):
    arguments = ["--dial", "1", "--strength", "0.8", "--like", str(photo), "--explain"]
    assert run(["restore", str(photo), *arguments]) == 0
    assert "detail in this face is imagined" in capsys.readouterr().out
    assert run(["restore", str(photo), "--strip", "2"]) == 0
    assert Image.open(photo.with_name("photo-strip.png")).width == 3 * 512
    said = {
        name: Image.open(photo.with_name(f"photo-{name}.png")).text["Comment"]
        for name in ("strip", "restored-explained")
    }
    assert "dial -1 to 1" in said["strip"]
    assert "dial 1, assuming the damage of another photo" in said["restored-explained"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dial", "2"], "dial must be"),
        (["--dial-level", "64"], "needs a --dial"),
        (["--strength", "2"], "strength must be"),
        (["--passes", "9"], "passes must be"),
        (["--background", "network.onnx"], "needs --scale"),
        (["--dial", "1"], "no dial"),
        (["--strip", "1"], "2 to 21"),
        (["--like", "missing.jpg"], "does not exist"),
        (["--consistent"], "larger result"),
        (["--weights", "photo.jpg"], "needs a .safetensors file"),
        (["--weights", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_choices_that_cannot_be(arguments, message, photo, capsys):
    assert message in fails(capsys, ["restore", photo, *arguments, *ENGINE])
    assert names(photo.parent) == {"photo.jpg"}


def test_calibrate_and_evaluate_say_what_is_wrong(tmp_path, capsys):
    pytest.importorskip("torch")
    assert "cannot read faces" in fails(capsys, ["calibrate", "--data", tmp_path / "x", "--validation", tmp_path])
    assert "no faces" in fails(capsys, ["evaluate", "--data", tmp_path])
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert "has no result called 000" in fails(
        capsys, ["evaluate", "--data", tmp_path, "--results", tmp_path / "x", "--task", "wild"]
    )
