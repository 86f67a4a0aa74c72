"""Nothing leaves the machine, and nothing is left in the home folder: in every way that Panini is started."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from programs import needed

PHOTO = "same-without-scratches.png"
LIBRARY = "import panini; panini.restore({photo!r}, aligned=True)"
ENGINE = "from panini.inference.onnx import OnnxEngine; OnnxEngine()"
DETECTOR = "from panini.faces.detect import CenterFace; CenterFace()"
UPSCALER = "import panini.photo.upscale"
RESEARCH = "import panini.cli.evaluate, panini.weights.released, onnxruntime"
CHILD = (
    "import panini, subprocess, sys;"
    "subprocess.run([sys.executable, '-c', 'import onnxruntime; onnxruntime.get_available_providers()'], check=True)"
)
WAYS = [LIBRARY, ENGINE, DETECTOR, UPSCALER, RESEARCH, CHILD]


def started(home: Path, *command: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A fresh process whose environment has no more than a home folder."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = kept | {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*prefix, sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("code", WAYS)
def test_no_file_is_left_in_the_home_folder(home, faults, code):
    if code == RESEARCH:
        pytest.importorskip("torch")
    done = started(home, "-c", code.format(photo=str(faults / PHOTO)))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.rglob("*")) == []


def test_restoring_opens_no_socket_and_leaves_no_file(home, faults, tmp_path):
    strace = needed("strace")
    log = tmp_path / "calls"
    prefix = (strace, "-f", "-qq", "-e", "trace=network", "-o", str(log))
    command = ("-m", "panini.cli", "restore", str(faults / PHOTO), "-o", str(tmp_path / "out.png"))
    done = started(home, *command, prefix=prefix)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [line for line in log.read_text().splitlines() if "AF_INET" in line] == []
    assert list(home.rglob("*")) == []


@pytest.mark.slow
def test_a_run_of_many_seconds_looks_nothing_up(home, faults, tmp_path):
    log = tmp_path / "calls"
    prefix = (needed("strace"), "-f", "-qq", "-e", "trace=network", "-o", str(log))
    code = LIBRARY.format(photo=str(faults / PHOTO)) + "; import time; time.sleep(14)"
    done = started(home, "-c", code, prefix=prefix)
    assert done.returncode == 0, done.stderr
    assert log.read_text() == ""
    assert list(home.rglob("*")) == []


def test_a_home_folder_that_cannot_be_written_to_is_no_warning(faults, tmp_path):
    # Even root cannot write here.
    done = started(Path("/proc/nobody"), "-m", "panini.cli", "inspect", str(faults / PHOTO))
    assert (done.returncode, done.stderr) == (0, "")


def test_python_opens_no_socket(home, faults, tmp_path):
    code = (
        "import sys; calls = [];"
        "sys.addaudithook(lambda event, _: calls.append(event) if event.startswith('socket.') else None);"
        "from panini.cli import run;"
        f"code = run(['restore', {str(faults / PHOTO)!r}, '-o', {str(tmp_path / 'out.png')!r}, '--explain', '--json']);"
        "sys.exit(code or ' '.join(calls) or 0)"
    )
    done = started(home, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_child_processes_inherit_it():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(os.getenv, ("ORT_DISABLE_TELEMETRY",)) == "1"
