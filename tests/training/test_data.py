"""Faces are read as needed or decoded once; batches depend on seed and step alone."""

import json
import queue
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from panini.degradation import Blur, Degradation, Noise
from panini.degradation.steps import Fade, Tone
from panini.errors import PaniniError
from panini.training.batches import Ahead, SampledFaces, toned, varied
from panini.training.config import RestorerConfig
from panini.training.data import FaceBank, Faces, check_disjoint
from panini.training.restorer import RestorerTraining
from panini.weights.prior_wheel import load_prior

CPU = torch.device("cpu")


def test_a_tar_file_is_read_where_its_faces_lie(faces: Path, tmp_path: Path) -> None:
    paths = sorted(faces.glob("*.png"))
    with tarfile.open(tmp_path / "real-0.tar", "w") as archive:
        for path in paths:
            archive.add(path, path.name)
    folder, packed = Faces.open(faces), Faces.open(tmp_path)
    assert packed.names == [f"real-0.tar/{path.name}" for path in paths]
    assert all(np.array_equal(folder[i], packed[i]) for i in range(len(paths)))
    index = [{"name": path.name, "size": 256 if path.stem == "4" else 512} for path in paths]
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert len(Faces.open(tmp_path)) == 4
    assert len(Faces.open(tmp_path, least=0)) == 5, "small faces are of use, too"


def test_a_bank_gives_the_same_faces_whether_it_keeps_them_or_not(faces: Path) -> None:
    kept, read = (FaceBank(Faces.open(faces), CPU, memory) for memory in (1.0, 0.0))
    assert sorted(kept._kept) == [256, 512]
    assert all(tensor.dtype == torch.uint8 for tensor in kept._kept.values())
    for i in range(5):
        ours, theirs = kept.take([i]), read.take([i])
        assert ours.shape == theirs.shape == (1, 3, 512, 512)
        assert (ours - theirs).abs().max() < 0.02
    assert kept.take([4, 0, 1]).shape[0] == 3


def test_weights_say_how_often_a_face_is_drawn(faces: Path) -> None:
    bank = FaceBank(Faces.open(faces), CPU, 0.0, {"0": 0.0, "1": 0.0, "2": 0.0, "3": 0.0})
    assert torch.equal(bank.draw(1, np.random.default_rng(0)), bank.take([4]))


def test_a_batch_depends_on_seed_and_step_alone(toy_config: Callable[..., RestorerConfig]) -> None:
    batches = RestorerTraining(toy_config(real_share=0.5)).batches
    one, other, again = batches(7), batches(8), batches(7)
    assert one.truth.shape == one.given.shape == (4, 3, 128, 128)
    assert one.w.shape == (2, 17, 32)
    assert sorted(one.features) == [4, 8, 16, 32, 64]
    assert torch.equal(one.given, again.given)
    assert torch.equal(one.w, again.w)
    assert not torch.equal(one.given, other.given)
    assert not torch.equal(one.given, one.truth)
    assert -1 <= one.given.min() <= one.given.max() <= 1


def test_half_of_the_sampled_faces_have_two_w(toy_prior: Path) -> None:
    prior, _ = load_prior(toy_prior)
    chance = torch.Generator().manual_seed(0)
    w = SampledFaces(prior, 64, (0.5, 1.0), 0.5).latents(64, chance)
    mixed = (w[:, 0] != w[:, -1]).any(1).float().mean()
    assert 0.3 < mixed < 0.7
    alike = SampledFaces(prior, 64, (0.5, 1.0), 0.0).latents(8, chance)
    assert torch.equal(alike[:, 0], alike[:, -1])


def test_the_truth_has_the_tone_of_the_photo_and_no_other_damage() -> None:
    faces = torch.rand(4, 3, 32, 32) * 2 - 1
    damages = [Degradation((Tone(1.0), Noise(9.0), Fade(0.5, 1.0))), Degradation((Blur(2.0),))]
    truth = toned(faces, damages, 2)
    assert (truth[:2, 0] - truth[:2, 1]).abs().max() == 0, "a gray photo's face is gray"
    assert truth[:2].min() > -0.05, "a faded photo's face is faded"
    assert torch.equal(truth[2:], faces[2:])


def test_real_faces_vary_a_little() -> None:
    faces = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).expand(16, 3, 64, 64)
    changed = varied(faces, torch.Generator().manual_seed(0))
    assert changed.shape == faces.shape
    rising = (changed[..., -1] > changed[..., 0]).float().mean((1, 2))
    assert 0.2 < rising.mean() < 0.8, "half are mirrored"
    assert (changed.mean((1, 2, 3)).abs() < 0.5).all()


def test_training_on_a_validation_face_is_refused(faces: Path, tmp_path: Path) -> None:
    shutil.copy(faces / "0.png", tmp_path)
    with pytest.raises(PaniniError, match="also among the training faces"):
        check_disjoint([Faces.open(faces)], tmp_path)


def test_no_faces_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PaniniError, match="no faces"):
        Faces.open(tmp_path)


def test_a_step_s_batch_is_made_during_the_step_before() -> None:
    started: queue.Queue[int] = queue.Queue()

    def make(step: int) -> int:
        started.put(step)
        return 10 * step

    ahead = Ahead(make, CPU)
    assert ahead(3) == 30
    assert [started.get(timeout=10) for _ in range(2)] == [3, 4], "4 is made without being asked for"
    assert ahead(4) == 40
    assert ahead(9) == 90, "a step that is not the next one is made when it is asked for"
