"""Samples are a function of seed and index, training faces are not validation faces."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from panini.errors import PaniniError
from panini.training.data import Faces, RestorationSamples, check_disjoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.roll(astronaut(), 40 * i, 0)[..., ::-1])
    return tmp_path


def test_a_sample_depends_on_seed_and_index_alone(folder: Path) -> None:
    def samples(seed: int) -> RestorationSamples:
        return RestorationSamples(Faces.open(folder), None, {"paper": 1.0}, 0.0, seed)

    one, again, other = samples(1)[7], samples(1)[7], samples(2)[7]
    assert one["given"].shape == one["truth"].shape == (3, 512, 512)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["given"], other["given"])


def test_faces_of_the_prior_keep_their_latents(folder: Path) -> None:
    latents = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    np.save(folder / "w.npy", latents)
    faces = Faces.open(folder)
    sample = RestorationSamples(faces, faces, {"sr16": 1.0}, 1.0, 0)[0]
    (row,) = np.flatnonzero((latents == sample["w"].numpy()).all(1))
    assert sample["known"] == 1
    assert torch.equal(sample["truth"], torch.from_numpy(faces[row].transpose(2, 0, 1).copy()) / 127.5 - 1)


def test_looks_count_as_the_damage_s_distribution_says(folder: Path) -> None:
    faces = Faces.open(folder)
    samples = RestorationSamples(faces, None, {"sr16": 0.5, "wild": 0.5}, 0.0, 3, realism={"wild": 0.25})
    sr16 = RestorationSamples(faces, None, {"sr16": 1.0}, 0.0, 3).degradation(0)[0]
    seen = set()
    for i in range(12):
        assert (samples.degradation(i)[0] == sr16) == (samples.distribution(i) == "sr16")
        realism = float(samples[i]["realism"])
        assert realism == (0.25 if samples.distribution(i) == "wild" else 1.0)
        seen.add(realism)
    assert len(seen) == 2


def test_training_on_a_validation_face_is_refused(folder: Path) -> None:
    with pytest.raises(PaniniError, match="also among the training faces"):
        check_disjoint([Faces.open(folder)], folder)


def test_no_faces_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PaniniError, match="no faces"):
        Faces.open(tmp_path)
