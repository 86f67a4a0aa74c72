import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from panini.faces import align

# Eyes, nose and mouth where an FFHQ crop of 512 has them: eyes 128 apart, mouth 130 below.
POINTS = np.array([(192, 243), (320, 243), (256, 310), (206, 373), (306, 373)], np.float64)
SQUARE = np.array([[0, 0], [512, 0], [512, 512], [0, 512]], np.float64)

similarities = st.builds(
    lambda zoom, turn, x, y: np.array(
        [[zoom * np.cos(turn), -zoom * np.sin(turn), x], [zoom * np.sin(turn), zoom * np.cos(turn), y]]
    ),
    st.floats(0.05, 20),
    st.floats(-np.pi, np.pi),
    st.floats(-2000, 2000),
    st.floats(-2000, 2000),
)


def apply(transform, points):
    return points @ transform[:, :2].T + transform[:, 2]


def test_follows_the_published_formula():
    quad = published_quad(POINTS)
    np.testing.assert_allclose(apply(align.ffhq_transform(POINTS), quad), SQUARE[[0, 3, 2, 1]], atol=1e-6)


@given(similarities)
def test_crop_does_not_depend_on_how_the_face_lies(similarity):
    before, after = align.ffhq_transform(POINTS), align.ffhq_transform(apply(similarity, POINTS))
    np.testing.assert_allclose(apply(after, apply(similarity, SQUARE)), apply(before, SQUARE), atol=1e-3)


@given(similarities)
def test_inverse_undoes(similarity):
    np.testing.assert_allclose(apply(align.invert(similarity), apply(similarity, SQUARE)), SQUARE, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 3.0), st.floats(-np.pi, np.pi))
def test_warping_there_and_back_gives_the_picture_again(zoom, turn):
    photo = cv2.GaussianBlur(data.astronaut()[50:178, 170:298], (0, 0), 1.5)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    there = np.hstack([linear, (np.array([300, 300]) - linear @ [64, 64])[:, None]])
    back = align.warp(align.warp(photo, there, (600, 600)), align.invert(there), (128, 128))
    assert np.abs(back.astype(int) - photo)[4:-4, 4:-4].mean() < 1.5


def test_shrinking_does_not_alias():
    stripes = np.repeat(np.tile(np.uint8([0, 255]), 500)[None], 1000, axis=0)
    small = align.warp(stripes, np.array([[0.1, 0, 0], [0, 0.1, 0]]), (100, 100))
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_beyond_the_border_the_picture_is_mirrored():
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None], 100, axis=0)
    moved = align.warp(ramp, np.array([[1.0, 0, 30], [0, 1, 0]]), (100, 100))
    np.testing.assert_array_equal(moved[50, :31], np.arange(30, -1, -1))


def test_coinciding_landmarks_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        align.ffhq_transform(np.zeros((5, 2)))


def published_quad(points):
    """Corners of the crop as FFHQ's `align` computes them: top left, bottom left, bottom right, top right."""
    eyes, mouth = (points[0] + points[1]) / 2, (points[3] + points[4]) / 2
    eye_to_eye, eye_to_mouth = points[1] - points[0], mouth - eyes
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x = x / np.hypot(*x) * max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eyes + eye_to_mouth * 0.1
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])
