from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.cli.demo import demo_photo
from panini.errors import PaniniError
from panini.faces import align
from panini.faces.detect import CenterFace, Face, choose

SLOW = pytest.mark.slow
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


@pytest.mark.parametrize("width", [24, 40, 150, 400, pytest.param(700, marks=SLOW), pytest.param(1400, marks=SLOW)])
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


def scattered(width: float, angle: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Nine faces, some cut round, `width` pixels wide and turned by `angle` degrees, on bricks; and their middles."""
    step = int(2.8 * width)
    canvas = np.repeat(cv2.resize(data.brick(), (3 * step, 3 * step))[..., None], 3, axis=2)
    middles, turn, zoom = [], np.deg2rad(angle), width / 0.58 / 384
    disc = np.hypot(*(np.mgrid[:384, :384] - 191.5)) < 180
    for i in range(9):
        middles.append((np.array([i % 3, i // 3]) + 0.5) * step)
        linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        there = np.hstack([linear, (middles[-1] - linear @ [192, 192])[:, None]])
        face = np.asarray(Image.open(PRIOR[i % len(PRIOR)]).convert("RGB"))
        face, mask = (
            align.warp(part, there, canvas.shape[1::-1], border=cv2.BORDER_CONSTANT)
            for part in (face, disc.astype(np.float32)[..., None])
        )
        canvas = np.where(mask[..., None] > 0.5, face, canvas)
    return canvas, middles


@pytest.mark.parametrize("angle", [30, 90, 180, -135])
@pytest.mark.parametrize("width", [30, 64])
def test_faces_at_any_angle_are_found_once(detector, width, angle):
    canvas, middles = scattered(width, angle)
    faces = detector(canvas)
    assert len(faces) == len(middles)
    for middle in middles:
        (face,) = (face for face in faces if np.hypot(*(face.center - middle)) < width / 2)
        assert abs((face.angle - angle + 180) % 360 - 180) < 8
        assert face.spread < 0.2


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_faces_next_to_upright_ones_are_found(detector, angle):
    """Two prints on an album page: one with large upright faces, one that lies on its side or upside down."""
    page = np.full((760, 1400, 3), 215, np.uint8)
    upright, places = scattered(80, 0)
    turned, more = scattered(28, angle)
    page[40:712, 40:712], page[300:534, 1000:1234] = upright, turned
    places += list(np.add(more, (960, 260)))
    faces = detector(page)
    assert len(faces) == len(places)
    for x, y in np.add(places, 40):
        assert any(np.hypot(face.center[0] - x, face.center[1] - y) < face.box[2] / 2 for face in faces)


@pytest.mark.parametrize("turned", [False, True])
def test_only_a_photo_with_turned_faces_is_searched_in_full(turned):
    page = np.full((1200, 1600, 3), 127, np.uint8)
    page[300:812, 300:812] = data.astronaut()
    told, detector = [], CenterFace()
    detector.progress = lambda done, of: told.append((done, of))
    assert len(detector(np.rot90(page) if turned else page)) == 1
    done, of = zip(*told, strict=True)
    assert list(done) == sorted(set(done))
    assert len(set(of)) == 1
    assert (done[-1] == of[0] - 1) == turned


def test_faces_are_chosen_by_number_and_by_place():
    faces = [Face((x, 10.0, 20.0, 20.0), 0.9, np.zeros((5, 2), np.float32)) for x in (0.0, 100.0, 200.0)]
    assert choose(faces) == faces
    assert choose(faces, [2]) == faces[1:2]
    assert choose(faces, [3, 1, 1]) == [faces[0], faces[2]]
    assert choose(faces, [1], [(205, 0, 20, 40)]) == [faces[0], faces[2]]
    with pytest.raises(PaniniError, match="3 found"):
        choose(faces, [4])
    with pytest.raises(PaniniError, match="300,0,9,9"):
        choose(faces, [], [(300, 0, 9, 9)])


@pytest.mark.parametrize("picture", ["brick", "grass", "gravel", "coins", "page", "text", "moon", "clock", "chelsea"])
def test_no_face_on_textures(detector, picture):
    image = getattr(data, picture)()
    assert detector(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3000, 2), (5, 7)])
def test_slivers_have_no_face(detector, shape):
    assert detector(np.zeros((*shape, 3), np.uint8)) == []
