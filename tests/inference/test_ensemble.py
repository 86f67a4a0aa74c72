"""Test-time augmentation: passes over shifted and mirrored copies of a face, averaged."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from panini.errors import PaniniError
from panini.inference import BicubicEngine, at_every_level, restore_averaged, restore_crop
from panini.inference.onnx import OnnxEngine
from panini.photo.pixels import read_rgb, resize, to_signed

FACE = min((Path(__file__).parents[1] / "data/prior").glob("*.webp"))


@pytest.fixture(scope="module")
def portrait():
    return resize(read_rgb(FACE), 512, cv2.INTER_AREA)


def restored(engine, faces, passes):
    own = engine.degradation(faces)
    return restore_averaged(engine, faces, at_every_level(own, engine.levels), own, passes)


@pytest.mark.parametrize("passes", [2, 3, 8])
def test_passes_are_registered(passes, portrait):
    """For an engine that treats every place alike, the mean equals the first pass."""
    face = to_signed(cv2.GaussianBlur(portrait, (0, 0), 3))[None]
    once, mean = (restored(BicubicEngine(), face, count) for count in (1, passes))
    assert np.abs(mean.images - once.images)[..., 32:-32, 32:-32].max() < 0.002
    assert np.abs(mean.images - once.images).max() < 0.02, "at the edges, too"


def test_two_passes_are_the_mean_of_a_face_and_its_mirror_image(tiny_weights, tiny_faces):
    engine = OnnxEngine(tiny_weights)
    own = engine.degradation(tiny_faces)
    v = at_every_level(own, engine.levels)
    plain, mirrored = (
        engine.restore(np.ascontiguousarray(f), v, own).images for f in (tiny_faces, tiny_faces[..., ::-1])
    )
    both = restore_averaged(engine, tiny_faces, v, own, 2)
    np.testing.assert_allclose(both.images, (plain + mirrored[..., ::-1]) / 2, atol=1e-6)
    assert np.abs(both.images - plain).max() > 1e-3


def test_several_faces_at_once_are_the_same_as_one_by_one(tiny_weights, tiny_faces):
    engine = OnnxEngine(tiny_weights)
    together = restored(engine, tiny_faces, 3)
    for i in range(len(tiny_faces)):
        alone = restored(engine, tiny_faces[i : i + 1], 3)
        np.testing.assert_allclose(together.images[i], alone.images[0], atol=1e-6)
        np.testing.assert_array_equal(together.prior_share[i], alone.prior_share[0])


@pytest.mark.parametrize("passes", [0, 9])
def test_the_number_of_passes_is_limited(passes, portrait):
    with pytest.raises(PaniniError, match="from 1 to 8"):
        restore_crop(BicubicEngine(), portrait, passes=passes)
