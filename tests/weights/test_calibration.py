from dataclasses import replace

import numpy as np
import pytest

from panini import PaniniError
from panini.weights import DEFAULT, read_header
from panini.weights.calibration import NAME, load, shift_v


@pytest.fixture(scope="module")
def digest():
    return read_header(DEFAULT).digest


@pytest.fixture(scope="module")
def shipped(digest):
    calibration = load(DEFAULT.with_name(NAME), digest)
    assert calibration is not None, "the weights are new: `panini calibrate` measures them"
    return calibration


def test_it_comes_back_as_it_was_written(shipped, digest, tmp_path):
    shipped.save(tmp_path / "a.json")
    again = load(tmp_path / "a.json", digest)
    again.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    np.testing.assert_allclose(again.direction, shipped.direction, rtol=1e-4)
    assert again.probes.keys() == shipped.probes.keys()


def test_of_other_weights_it_says_nothing(shipped, tmp_path):
    replace(shipped, weights="0" * 64).save(tmp_path / NAME)
    assert load(tmp_path / NAME, shipped.weights) is None
    assert load(tmp_path / "missing.json", shipped.weights) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "panini-calibration-1", "weights": "%s"}'])
def test_damaged(text, digest, tmp_path):
    (tmp_path / NAME).write_text(text.replace("%s", digest))
    with pytest.raises(PaniniError, match="damaged"):
        load(tmp_path / NAME, digest)


def test_unwritable(shipped, tmp_path):
    with pytest.raises(PaniniError, match="cannot write"):
        shipped.save(tmp_path / "nowhere" / NAME)


def test_the_dial_turns_v_and_keeps_its_length(shipped):
    v = np.random.default_rng(0).standard_normal((5, len(shipped.direction))).astype(np.float32)
    np.testing.assert_allclose(shipped.apply_dial(v, 0.0), v, rtol=1e-5)
    along = [shipped.apply_dial(v, dial) @ shipped.direction for dial in (-1, -0.5, 0, 0.5, 1)]
    assert (np.diff(along, axis=0) > 0).all()
    for dial in (-1, 1):
        np.testing.assert_allclose(
            np.linalg.norm(shipped.apply_dial(v, dial), axis=1), np.linalg.norm(v, axis=1), rtol=1e-5
        )
    np.testing.assert_array_equal(shipped.apply_dial(v, 1.0)[2], shipped.apply_dial(v[2], 1.0))


def test_v_moves_in_training_as_it_does_in_use(shipped):
    v = np.random.default_rng(0).standard_normal((5, len(shipped.direction))).astype(np.float32)
    step = np.array([[-1], [-0.5], [0], [0.2], [1]], np.float32)
    ours = shift_v(v, shipped.direction, step)
    torch = pytest.importorskip("torch")
    theirs = shift_v(torch.from_numpy(v), torch.from_numpy(shipped.direction), torch.from_numpy(step))
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-5, atol=1e-6)


def test_what_was_measured_holds_what_the_dial_and_the_map_promise(shipped):
    rows = shipped.measured["dial"]
    assert [row["dial"] for row in rows] == [-1, -0.5, 0, 0.5, 1]
    psnr, sharp, share = (np.array([row[name] for row in rows]) for name in ("psnr", "detail", "prior"))
    assert (np.diff(psnr) < 0).all()
    assert psnr[-1] < psnr[0] - 0.3
    assert (np.diff(sharp) > 0).all()
    assert (np.diff(share) > 0).all()
    assert shipped.measured["truth"]["map"] >= 0.5
    assert shipped.measured["truth"]["map"] > shipped.measured["truth"]["laplacian"]
