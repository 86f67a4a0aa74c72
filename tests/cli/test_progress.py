"""One display of how far the work is, within a photo and over both steps of a video."""

import numpy as np
import pytest
from skimage import data

from panini import Restorer
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine


def test_progress_within_a_large_photo():
    page = np.full((1100, 2300, 3), 127, np.uint8)
    page[200:420, 300:520] = data.astronaut()[0:220, 110:330]
    told = []
    restorer = Restorer(BicubicEngine(), CenterFace(min_face=24))
    restorer.progress = lambda step, done, of: told.append((step, done, of))
    assert len(restorer.restore(page).faces) == 1
    searched = [(done, of) for step, done, of in told if step == "finding faces"]
    assert len(searched) >= 3
    assert [done for done, _ in searched] == list(range(len(searched)))
    assert len(searched) < searched[0][1]  # an upright face: the photo is not searched for turned faces at full size
    assert len({of for _, of in searched}) == 1
    assert [(done, of) for step, done, of in told if step == "restoring faces"] == [(0, 1)]


def test_one_bar_for_both_steps_of_a_video(faults, tmp_path, monkeypatch):
    pytest.importorskip("av")
    from panini import progress
    from panini.cli import run

    told = []
    monkeypatch.setattr(progress.Bar, "reached", lambda self, task, done, of: told.append((task, done, of)))
    out = tmp_path / "out.mp4"
    assert run(["restore", str(faults / "interlaced-flag-lost.mp4"), "-o", str(out), "--network", "bicubic"]) == 0
    assert len({task for task, _, _ in told}) == 1
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (3, 3)
