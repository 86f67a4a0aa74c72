"""Several looks at a face, averaged."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.errors import PaniniError
from panini.inference import BicubicEngine, Ensemble, load_engine
from panini.inference.onnx import OnnxEngine
from panini.photo.pixels import read_rgb, resize, to_signed
from panini.weights import DEFAULT

FACE = min((Path(__file__).parents[1] / "data/prior").glob("*.webp"))


@pytest.fixture(scope="module")
def portrait():
    return resize(read_rgb(FACE), 512, cv2.INTER_AREA)


@pytest.mark.parametrize("looks", [2, 3, 8])
def test_looks_lie_upon_each_other(looks, portrait):
    """Of an engine to which it is all the same where a face lies, the mean is the first look."""
    face = to_signed(cv2.GaussianBlur(portrait, (0, 0), 3))[None]
    engine = BicubicEngine()
    once, mean = (e.restore(face, engine.degradation(face)) for e in (engine, Ensemble(engine, looks)))
    assert mean.looks == (looks,)
    assert np.abs(mean.images - once.images)[..., 32:-32, 32:-32].max() < 0.002
    assert np.abs(mean.images - once.images).max() < 0.02, "at the edges, too"


def test_two_looks_are_the_mean_of_a_face_and_its_mirror_image(tiny_weights, tiny_faces):
    engine = OnnxEngine(tiny_weights)
    v = engine.degradation(tiny_faces)
    plain, mirrored = (
        engine.restore(np.ascontiguousarray(f), v, v).images for f in (tiny_faces, tiny_faces[..., ::-1])
    )
    both = Ensemble(engine, 2).restore(tiny_faces, v, v)
    np.testing.assert_allclose(both.images, (plain + mirrored[..., ::-1]) / 2, atol=1e-6)
    assert np.abs(both.images - plain).max() > 1e-3


def test_a_folder_of_faces_is_looked_at_one_by_one(tiny_weights, tiny_faces):
    ensemble = Ensemble(OnnxEngine(tiny_weights), 3)
    v = ensemble.degradation(tiny_faces)
    together = ensemble.restore(tiny_faces, v)
    for i in range(len(tiny_faces)):
        alone = ensemble.restore(tiny_faces[i : i + 1], v[i : i + 1])
        np.testing.assert_allclose(together.images[i], alone.images[0], atol=1e-6)
        np.testing.assert_array_equal(together.prior_share[i], alone.prior_share[0])


@pytest.mark.skipif(not DEFAULT.exists(), reason="the package has no weights yet")
def test_a_second_look_is_for_what_lies_over_a_face(portrait):
    engine = load_engine()
    for steps, looks in (((Blur(4.0),), 1), ((Downsample(16.0), Enlarge()), 1), ((Noise(20.0),), 2), ((Jpeg(20),), 2)):
        face = to_signed(Degradation(steps).apply(portrait, 0))[None]
        assert engine.restore(face, engine.degradation(face)).looks == (looks,), steps
    assert load_engine(looks=3).restore(face, engine.degradation(face)).looks == (3,)


@pytest.mark.parametrize("looks", [0, 9])
def test_as_many_looks_as_there_are(looks):
    with pytest.raises(PaniniError, match="from 1 to 8"):
        Ensemble(BicubicEngine(), looks)
