import cv2
import numpy as np
import pytest
from skimage import data

from panini.faces import align, blend

FACE = align.ffhq_transform(np.array([(205, 101), (246, 103), (222, 124), (205, 142), (240, 143)]), 512)
AT_CORNER = np.add(FACE, [[0, 0, 200], [0, 0, 260]])  # leaves the picture at the top left


def identity(photo, transform):
    """The crop that a network without effect would return."""
    crop = align.warp(photo, transform, (512, 512))
    return cv2.resize(crop, (1024, 1024), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("transform", [FACE, AT_CORNER])
def test_nothing_changes_outside_the_crop_and_little_inside(transform):
    photo = data.astronaut()
    result = photo.copy()
    blend.paste(result, identity(photo, transform), transform, 512)
    difference = np.abs(result.astype(int) - photo).max(axis=2)
    inside = align.warp(np.ones((512, 512), np.float32), align.invert(transform), (512, 512), border=0) > 0
    assert difference[~inside].max() == 0
    assert 0 < difference[inside].mean() < 4


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_face_lands_where_it_was(scale):
    photo = cv2.GaussianBlur(data.astronaut(), (0, 0), 1.5)
    large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    result = large.copy()
    blend.paste(result, identity(photo, FACE), FACE, 512, scale)
    difference = result.astype(np.float64) - large
    assert np.abs(difference).mean(axis=2).max() < 8
    # Half a pixel of shift would show as a likeness of the gradient.
    gradient = np.gradient(large.astype(np.float64), axis=(0, 1))
    assert all(abs((difference * g).sum() / (g * g).sum()) < 0.03 for g in gradient)


def test_no_seam_when_everything_changes():
    photo = np.full((400, 400, 3), 100, np.uint8)
    transform = np.array([[2.0, 0, -144], [0, 2.0, -144]])
    blend.paste(photo, np.full((1024, 1024, 3), 160, np.uint8), transform, 512)
    assert photo[200, 200, 0] == 160
    steps = np.abs(np.diff(photo[..., 0].astype(int), axis=0))
    assert steps.max() <= 5  # of 60, spread over the feather


def test_mask_is_zero_at_the_border_and_one_inside():
    mask = blend.feathered_mask(256)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() == 0
    assert mask[40:-40, 40:-40].min() == 1
    np.testing.assert_array_equal(mask, mask.T)


def test_colour_and_light_come_from_the_photo():
    photo = data.astronaut()
    crop = align.warp(photo, FACE, (512, 512))
    restored = np.clip(identity(photo, FACE).astype(int) * 0.8 + [40, 0, -20], 0, 255).astype(np.uint8)
    matched = blend.match_colour(restored, crop)
    assert np.abs(matched.mean((0, 1)) - crop.mean((0, 1))).max() < 1.5


def test_a_grey_photo_stays_exactly_grey():
    grey = np.repeat(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert blend.is_toned(grey)
    matched = blend.match_colour(identity(data.astronaut(), FACE), align.warp(grey, FACE, (512, 512)), toned=True)
    assert np.ptp(matched, axis=2).max() == 0


def test_sepia_is_one_tone_and_stays_so():
    luma = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[..., None] / 255
    sepia = (255 * luma ** [0.8, 1.0, 1.3]).astype(np.uint8)
    assert blend.is_toned(sepia)
    crop = align.warp(sepia, FACE, (512, 512))
    matched = blend.match_colour(identity(data.astronaut(), FACE), crop, toned=True)
    assert blend.is_toned(matched)
    assert np.abs(matched.mean((0, 1)) - crop.mean((0, 1))).max() < 4


def test_a_colour_photo_is_not_one_tone():
    assert not blend.is_toned(data.astronaut())
