from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.demo import demo_photo
from panini.faces import align
from panini.faces.detect import CenterFace

PRIOR = sorted((Path(__file__).parents[1] / "data/prior").glob("*.webp"))


@pytest.fixture(scope="module")
def detector():
    return CenterFace()


def test_astronaut_has_one_face_with_its_points_in_place(detector):
    (face,) = detector(data.astronaut())
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    expected = [(205, 101), (246, 103), (222, 124), (205, 142), (240, 143)]
    assert np.abs(face.landmarks - expected).max() < 6
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert 0.5 < face.score <= 1


def test_demo_photo_has_three_faces_none_twice(detector, tmp_path):
    path = tmp_path / "demo.jpg"
    path.write_bytes(demo_photo())
    assert len(detector(np.asarray(Image.open(path)))) == 3


@pytest.mark.parametrize("width", [24, 40, 150, 700, 1400])
def test_faces_of_all_sizes_are_found_once_and_whole(detector, width):
    # The face's box is about 0.58 of the width of a picture aligned as FFHQ.
    picture = Image.open(PRIOR[3]).convert("RGB")
    side = round(width / 0.58)
    canvas = Image.new("RGB", (max(640, side), max(480, side)), (90, 100, 110))
    canvas.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (0, 0))
    (face,) = detector(np.asarray(canvas))
    assert face.box[2] == pytest.approx(width, rel=0.25)


def test_a_face_on_a_tile_border_of_a_large_scan_is_found_once(detector):
    canvas = np.full((700, 2400, 3), 200, np.uint8)
    face = np.asarray(Image.open(PRIOR[0]).convert("RGB"))
    for x in (0, 820, 1400, 2016):
        canvas[100:484, x : x + 384] = face
    assert len(detector(canvas)) == 4


@pytest.mark.parametrize("picture", ["brick", "grass", "gravel", "coins", "page"])
def test_no_face_on_textures(detector, picture):
    assert detector(np.repeat(getattr(data, picture)()[..., None], 3, axis=2)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3000, 2), (5, 7)])
def test_slivers_have_no_face(detector, shape):
    assert detector(np.zeros((*shape, 3), np.uint8)) == []


def test_crops_are_recovered_from_pictures_aligned_by_construction(detector):
    rng = np.random.default_rng(0)
    square = np.array([[0, 0, 1], [384, 0, 1], [0, 384, 1], [384, 384, 1]])
    errors = []
    for file in PRIOR:
        turn, zoom = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(0.5, 1.5)
        linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        truth = np.hstack([linear, (np.array([500, 400]) - linear @ [192, 192])[:, None]])
        canvas = align.warp(np.asarray(Image.open(file).convert("RGB")), truth, (1000, 800), border=0)
        (face,) = detector(canvas)
        found = align.ffhq_transform(face.landmarks, 384, align.DETECTED_ZOOM)
        corners = square @ truth.T @ found[:, :2].T + found[:, 2]
        errors.append(np.hypot(*(corners - square[:, :2]).T).mean() / 384)
    # Of the crop's side; a quarter of it is the distance of the eyes.
    assert np.median(errors) < 0.04
    assert max(errors) < 0.09
