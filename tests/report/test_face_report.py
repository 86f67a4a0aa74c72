"""With the shipped weights, on faces that the prior dreamt up: what is said of a face, and that it is about right."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini import NoFaceError, PaniniError, Restorer
from panini.degradation import Blur, Degradation, Downsample, Enlarge
from panini.inference import BicubicEngine
from panini.jobs.strip import settings, strip
from panini.photo.pixels import read_rgb, resize
from panini.report import face_report
from panini.report.explanation import explanation, heat_map

FACES = sorted((Path(__file__).parents[1] / "data/prior").glob("*.webp"))
HEAVY = Degradation((Blur(6.0), Downsample(8.0), Enlarge()))


@pytest.fixture(scope="module")
def restorer():
    return Restorer()


@pytest.fixture(scope="module")
def intact():
    return resize(read_rgb(FACES[0]), 512, cv2.INTER_AREA)


@pytest.fixture(scope="module")
def heavy(intact):
    return HEAVY.apply(intact, 0)


@pytest.fixture(scope="module")
def faces(restorer, intact, heavy):
    """A whole face and a damaged one, restored."""
    return [restorer.restore(picture, aligned=True).faces[0] for picture in (intact, heavy)]


def test_more_damage_is_more_imagination(faces):
    whole, damaged = (face.report for face in faces)
    assert 0 <= whole.imagined < damaged.imagined <= 1
    assert whole.map.shape == (128, 128)
    assert whole.map.min() >= 0
    assert whole.map.mean() < damaged.map.mean()


def test_the_map_ranks_the_error(faces, intact):
    error = face_report.true_error(faces[1].after, intact).ravel()
    told = faces[1].report.map.ravel()
    ranks = [np.argsort(np.argsort(values)) for values in (error, told)]
    assert np.corrcoef(*ranks)[0, 1] > 0.3


def test_it_can_be_said_and_stored(faces):
    said = face_report.describe(faces[1].report)
    assert "of the detail in this face is imagined; least certain: " in said
    data = json.loads(json.dumps(face_report.as_dict(faces[1].report)))
    assert data["summary"] == said
    assert set(data["expected_error"]) == {"eyes", "nose", "mouth", "skin", "hair and surroundings"}
    assert len(data["prior_share"]) == 5
    for damage in faces[1].report.damages:
        assert 0 <= damage.probability <= 1
        assert damage.words


def test_a_small_face_is_of_low_resolution_whatever_the_network_thinks(restorer, intact):
    small = np.asarray(Image.fromarray(intact).resize((96, 96), Image.Resampling.BICUBIC))
    (found,) = (d for d in restorer.restore(small, aligned=True).faces[0].report.damages if d.kind == "down")
    assert found.probability == 1
    assert 10 < found.strength <= 0.58 * 96 + 1
    (found,) = (d for d in restorer.restore(intact, aligned=True).faces[0].report.damages if d.kind == "down")
    assert found.probability < 1


def test_where_little_is_imagined_the_map_is_explained():
    unsure, sure = (
        face_report.FaceReport([], [], 0.0, 0.01, {"eyes": error}, np.full((4, 4), error, np.float32))
        for error in (20.0, 1.0)
    )
    assert face_report.describe(sure) == "Little of the detail in this face is imagined."
    assert face_report.describe(unsure).endswith("is imagined; where the map is bright, the photo itself may be wrong.")


def test_without_a_calibration_it_does_not_guess(intact):
    told = Restorer(BicubicEngine()).restore(intact, aligned=True).faces[0].report
    assert told.imagined is None
    assert told.map is None
    assert "not known" in face_report.describe(told)
    json.dumps(face_report.as_dict(told))


def test_what_is_imagined_of_equal_and_of_unlike_pictures(intact):
    assert face_report.imagined_share(intact, intact) < 1e-3
    noise = np.random.default_rng(0).integers(0, 256, intact.shape).astype(np.uint8)
    assert face_report.imagined_share(noise, intact) > 0.95
    assert face_report.true_error(intact, intact).max() == 0


def test_regions_share_the_face():
    masks = list(face_report.region_masks(64).values())
    assert (np.sum(masks, 0) == 1).all()
    assert all(mask.any() for mask in masks)


def test_the_dial_moves_the_face(restorer, heavy, faces):
    def after(**choices):
        return restorer.restore(heavy, aligned=True, **choices).faces[0]

    real, one = after(dial=1.0), after(dial=1.0, dial_level=64)
    assert (real.report.dial, real.report.strength) == (1.0, 1.0)
    assert (real.after != faces[1].after).mean() > 0.01
    moved = np.abs(one.prior_share - faces[1].prior_share) > 1e-6
    assert [*moved] == [False, False, False, False, True]
    np.testing.assert_array_equal(real.degradation, faces[1].degradation)


def test_like_another_photo(restorer, intact, heavy, faces):
    same = restorer.restore(heavy, aligned=True, like=heavy).faces[0]
    np.testing.assert_array_equal(same.after, faces[1].after)
    other = restorer.restore(heavy, aligned=True, like=intact).faces[0]
    assert (other.after != faces[1].after).mean() > 0.01


def test_strength_blends():
    crop = read_rgb(FACES[1])
    restorer = Restorer(BicubicEngine())
    faces = [restorer.restore(crop, aligned=True, strength=share).faces[0] for share in (0, 0.5, 1)]
    none, half, whole = (face.after.astype(int) for face in faces)
    assert np.abs(half - (none + whole) / 2).max() <= 1
    before = cv2.resize(faces[0].before, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(none, before)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"dial": 1.5}, "dial must be"),
        ({"strength": -1}, "strength must be"),
        ({"dial": 0.5}, "no dial"),
        ({"dial": float("nan")}, "dial must be"),
    ],
)
def test_settings_that_cannot_be(choices, message, intact):
    with pytest.raises(PaniniError, match=message):
        Restorer(BicubicEngine()).restore(intact, aligned=True, **choices)


def test_levels_and_photos_that_are_not_there(restorer, intact):
    with pytest.raises(PaniniError, match="must be one of 4, 8, 16"):
        restorer.restore(intact, aligned=True, dial=1.0, dial_level=5)
    with pytest.raises(NoFaceError):
        restorer.degradation(np.zeros((200, 200), np.uint8))


def test_pictures_that_explain(faces, intact):
    page = explanation(faces)
    assert page.width == 3 * 512
    assert page.height > 2 * 512
    assert heat_map(faces[1].report, intact).shape == intact.shape
    assert explanation([Restorer(BicubicEngine()).restore(intact, aligned=True).faces[0]]).width == 1024
    with pytest.raises(PaniniError, match="no face"):
        explanation([])


def test_what_lies_beyond_the_photo_is_not_shown():
    photo = np.minimum(data.astronaut()[:, 175:], 200)  # the face begins at the edge
    (face,) = Restorer(BicubicEngine()).restore(photo).faces
    assert 0.2 < face.inside.mean() < 0.95
    panel = np.asarray(explanation([face]))[30:542, :512]
    assert (panel[~face.inside] == 255).all()
    assert (panel[face.inside] < 255).all()


def test_strips(restorer, heavy):
    page, shown = strip(restorer, heavy, 2, aligned=True)
    assert shown.faces[0].report.dial == 1
    assert page.width == 3 * 512
    assert settings(5) == [-1, -0.5, 0, 0.5, 1]
    with pytest.raises(PaniniError, match="2 to 21"):
        strip(restorer, heavy, 1)
