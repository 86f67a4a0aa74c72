"""The kit for a short-lived GPU machine, rehearsed on a CPU with a small network: pack, check, train, join."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from panini.errors import PaniniError
from panini.evaluation.stlpips import STLPIPS
from panini.training import kit
from panini.training.pieces import LIMIT, cut, put_together, read_manifest
from panini.training.restorer import RestorerTraining
from panini.weights.eight_bit import from_8bit, to_8bit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / ".kit"
    arguments = ["pack", "--toy", "--stage", "B", "--real", str(faces), "--kit", str(folder), "--limit", "20"]
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        assert kit.main([*arguments, "--set", "real_share=0.5"]) == 0
    finally:
        os.chdir(before)
    return folder


def test_device_kit_from_pack_to_join(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(kit, "_CHECK_SECONDS", 1.0)
    runs, out, result = tmp_path / "runs", tmp_path / "out", tmp_path / "b.pt"
    common = ["--kit", str(packed), "--output", str(runs)]
    assert kit.main(["check", *common]) == 0
    table = capsys.readouterr().out
    assert "50 steps" in table
    assert "parity: network" in table
    assert "samples/s" in table
    assert table.count("operator ") == 10, "the profile"
    assert "aten::convolution" in (runs / "check/profile.txt").read_text()
    assert kit.main(["train", *common, "--minutes", "0.05", "--out", str(out)]) == 0
    assert all(path.stat().st_size <= LIMIT for path in out.iterdir())
    assert len(list(out.iterdir())) <= 8
    assert (
        kit.main(["join", str(out), "--output", str(result), "--prior", str(packed / "whole/prior.safetensors")]) == 0
    )
    assert (tmp_path / "b-grid.jpg").exists()
    state = torch.load(result, weights_only=True)
    config = kit.run_config(packed / "whole", tmp_path / "next")
    again = RestorerTraining(kit.replace(config, start=str(result)))
    average = state["modules"]["average"]
    assert all(torch.equal(average[name], tensor) for name, tensor in again.network.state_dict().items())


def test_sigterm_writes_what_there_is(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "panini.training.kit", "train", "--kit", str(packed), "--minutes", "5"]
    command += ["--output", str(tmp_path / "runs"), "--out", str(out)]
    log = tmp_path / "runs/b/log.csv"
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}) as process:
        for _ in range(600):
            time.sleep(0.1)
            if log.exists() or process.poll() is not None:
                break
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    ((name, entry),) = read_manifest(out)["files"].items()
    assert len(put_together(entry, name, [out])) == entry["size"]


def test_a_transfer_that_is_gone_is_said_at_once(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kit.main(["check", "--kit", str(tmp_path / "none")]) == 2
    assert "has no transfer in it" in capsys.readouterr().err
    copy = tmp_path / ".kit"
    (copy / "1").mkdir(parents=True)
    for path in (packed / "1").iterdir():
        (copy / "1" / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((copy / "1/manifest.json").read_text())
    manifest["parts"]["9"] = []
    (copy / "1/manifest.json").write_text(json.dumps(manifest))
    assert kit.main(["check", "--kit", str(copy)]) == 2
    assert "an earlier call's files are gone" in capsys.readouterr().err


def test_a_damaged_piece_is_noticed(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10
    ((_, (entry, pieces)),) = cut({"x": data}).items()
    for piece, part in pieces.items():
        (tmp_path / piece).write_bytes(part)
    assert put_together(entry, "x", [tmp_path]) == data
    (tmp_path / "x.000").write_bytes(b"?" + data[1:])
    with pytest.raises(PaniniError, match="damaged"):
        put_together(entry, "x", [tmp_path])
    (tmp_path / "x.000").unlink()
    with pytest.raises(PaniniError, match="missing"):
        put_together(entry, "x", [tmp_path])


def test_what_is_taken_home_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.pieces_out(tmp_path, b"one")
    kit.pieces_out(tmp_path, b"two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b-result.tar.000", "manifest.json"]

    def full(*_: object) -> None:
        raise PaniniError("no room")

    monkeypatch.setattr(kit, "write_manifest", full)
    with pytest.raises(PaniniError):
        kit.pieces_out(tmp_path, b"three")
    ((name, entry),) = read_manifest(tmp_path)["files"].items()
    assert put_together(entry, name, [tmp_path]) == b"two"


def test_the_perceptual_network_in_8_bits_is_the_same_to_a_percent() -> None:
    whole = STLPIPS()
    packed = to_8bit(whole.state_dict())
    assert sum(t.numel() * t.element_size() for t in packed.values()) < 15 * 2**20
    torch.manual_seed(0)
    ours, truth = torch.nn.functional.interpolate(torch.rand(2, 3, 16, 16) * 2 - 1, 64, mode="bicubic").split(1)
    with torch.no_grad():
        expected = whole(ours, truth)
        whole.load_state_dict(from_8bit(packed))
        torch.testing.assert_close(whole(ours, truth), expected, rtol=0.01, atol=0)
