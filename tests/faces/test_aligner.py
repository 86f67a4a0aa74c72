from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.faces import align
from panini.faces.aligner import Aligner
from panini.faces.detect import CenterFace

PRIOR = sorted((Path(__file__).parents[1] / "data/prior").glob("*.webp"))
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
# Where FFHQ's crop has eyes, nose and mouth.
POINTS = np.array([[0.375, 0.475], [0.625, 0.475], [0.5, 0.605], [0.402, 0.728], [0.598, 0.728]])


def apply(transform, points):
    return points @ transform[:, :2].T + transform[:, 2]


def placed(face, rng, width):
    """A face `width` pixels wide at a random angle in front of a cup of coffee; and from its crop to there."""
    side = width / 0.58
    zoom, turn = side / 384, rng.uniform(-np.pi, np.pi)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    canvas = cv2.resize(data.coffee(), (int(side * 1.8), int(side * 1.6)))
    middle = np.array(canvas.shape[1::-1]) / 2 + rng.uniform(-0.05, 0.05, 2) * side
    there = np.hstack([linear, (middle - linear @ [192, 192])[:, None]])
    edge = np.abs(np.mgrid[:384, :384] - 191.5).max(0)
    fade = np.clip((188 - edge) / 16, 0, 1).astype(np.float32)[..., None]
    face, fade = (align.warp(part, there, canvas.shape[1::-1], border=cv2.BORDER_CONSTANT) for part in (face, fade))
    canvas = canvas + fade[..., None] * (face.astype(np.float32) - canvas)
    return np.rint(canvas).astype(np.uint8), align.scaled(there, source=1 / 384)


def test_crops_are_recovered_from_pictures_aligned_by_construction():
    rng, detector, aligner = np.random.default_rng(0), CenterFace(), Aligner()
    points, corners = [], []
    for file in 2 * PRIOR:
        photo, truth = placed(np.asarray(Image.open(file).convert("RGB")), rng, rng.choice([60, 100, 180]))
        face = max(detector(photo), key=lambda face: face.score)
        start = align.ffhq_transform(face.landmarks, 512, align.DETECTED_ZOOM)
        found = align.scaled(aligner(photo, start, 512), target=1 / 512)
        for errors, where in ((points, POINTS), (corners, CORNERS)):
            # Of the eyes' distance, which is a quarter of the crop.
            errors.append(4 * np.hypot(*(apply(found, apply(truth, where)) - where).T).mean())
    assert np.median(points) < 0.02
    assert np.quantile(points, 0.95) < 0.05
    assert np.median(corners) < 0.06
    assert np.quantile(corners, 0.95) < 0.15


def test_a_damaged_face_is_aligned_as_the_sound_one():
    rng, detector, aligner = np.random.default_rng(1), CenterFace(), Aligner()
    for file in PRIOR[:3]:
        photo, truth = placed(np.asarray(Image.open(file).convert("RGB")), rng, 100)
        bad = cv2.GaussianBlur(photo, (0, 0), 2.5) + rng.normal(0, 12, photo.shape)
        bad = np.clip(bad, 0, 255).astype(np.uint8)
        face = max(detector(bad), key=lambda face: face.score)
        found = aligner(bad, align.ffhq_transform(face.landmarks, 1, align.DETECTED_ZOOM), 1)
        assert 4 * np.hypot(*(apply(found, apply(truth, POINTS)) - POINTS).T).mean() < 0.08


@pytest.mark.parametrize("size", [256, 512])
def test_what_is_no_face_stays_where_it_is(size):
    photo = np.zeros((300, 300, 3), np.uint8)
    transform = np.array([[2.0, 0, -40], [0, 2.0, -40]])
    moved = apply(Aligner()(photo, transform, size), apply(align.invert(transform), size * CORNERS)) - size * CORNERS
    assert np.hypot(*moved.T).mean() < 0.2 * size
