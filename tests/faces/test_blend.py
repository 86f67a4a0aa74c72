import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from panini.faces import align, blend
from panini.photo import color

FACE = align.ffhq_transform(np.array([(205, 101), (246, 103), (222, 124), (205, 142), (240, 143)]), 512)
AT_CORNER = np.add(FACE, [[0, 0, 200], [0, 0, 260]])  # leaves the picture at the top left


def identity(photo, transform):
    """The crop that a network without effect would return."""
    crop = align.warp(photo, transform, (512, 512))
    return cv2.resize(crop, (1024, 1024), interpolation=cv2.INTER_CUBIC)


def put(photo, restored, transform, scale=1, large=None):
    """`photo` (or its enlargement `large`) with one face replaced by `restored`."""
    result = (photo if large is None else large).copy()
    (mask,) = blend.masks([transform], 512)
    blend.paste(result, blend.patch(photo, restored, transform, 512), mask, transform, 512, scale)
    return result


@pytest.mark.parametrize("transform", [FACE, AT_CORNER])
def test_a_face_replaced_by_itself_changes_nothing(transform):
    photo = data.astronaut()
    difference = np.abs(put(photo, identity(photo, transform), transform).astype(int) - photo).max(axis=2)
    inside = align.warp(np.ones((512, 512), np.float32), align.invert(transform), (512, 512), border=0) > 0
    assert difference[~inside].max() == 0
    assert difference[inside].mean() < 1.5  # what enlarging, turning and shrinking cost


def test_a_face_larger_than_the_crop_keeps_its_finest_detail():
    photo = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3)).astype(np.uint8)
    transform = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    restored = np.asarray(align.warp(photo, align.scaled(transform, target=2), (1024, 1024)), np.uint8)
    difference = put(photo, np.clip(restored.astype(int) + 20, 0, 255).astype(np.uint8), transform)[512:1536, 512:1536]
    difference = difference.astype(int) - photo[512:1536, 512:1536]
    assert np.abs(difference[photo[512:1536, 512:1536] < 220] - 20).mean() < 1


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_face_lands_where_it_was(scale):
    photo = cv2.GaussianBlur(data.astronaut(), (0, 0), 1.5)
    large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    difference = put(photo, identity(photo, FACE), FACE, scale, large).astype(np.float64) - large
    assert np.abs(difference).mean(axis=2).max() < 8
    # Half a pixel of shift would show as a likeness of the gradient.
    gradient = np.gradient(large.astype(np.float64), axis=(0, 1))
    assert all(abs((difference * g).sum() / (g * g).sum()) < 0.03 for g in gradient)


def test_no_seam_when_everything_changes():
    photo = np.full((400, 400, 3), 100, np.uint8)
    transform = np.array([[2.0, 0, -144], [0, 2.0, -144]])
    result = put(photo, np.full((1024, 1024, 3), 160, np.uint8), transform)
    assert result[200, 200, 0] == 160
    steps = np.abs(np.diff(result[..., 0].astype(int), axis=0))
    assert steps.max() <= 5  # of 60, spread over the feather


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 0.5), st.floats(-0.5, 0.5), st.floats(0.4, 2.5), st.floats(-np.pi, np.pi))
def test_overlapping_faces_share_and_each_keeps_its_middle(x, y, zoom, turn):
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([256 + 512 * x, 256 + 512 * y])
    second = np.hstack([linear, ([256, 256] - linear @ middle)[:, None]])
    first = np.array([[1.0, 0, 0], [0, 1, 0]])
    one, two = blend.masks([first, second], 512)
    photo = np.zeros((512, 512, 3), np.uint8)
    for mask, transform in ((one, first), (two, second)):
        blend.paste(photo, blend.Patch(np.full((1024, 1024, 3), 200, np.float32), 0.0), mask, transform, 512)
    assert photo.max() <= 202  # together they never add more than one face does
    assert photo[256, 256, 0] > 195  # nor do they leave a hole
    if np.hypot(x, y) * 0.5 > 0.15 and np.hypot(*(second[:, :2] @ [256, 256] + second[:, 2] - 256)) > 150:
        assert one[128, 128] > 0.9
        assert two[128, 128] > 0.9


def test_grain_comes_back_if_asked():
    rng = np.random.default_rng(0)
    clean = cv2.GaussianBlur(data.astronaut(), (0, 0), 2)
    photo = np.clip(clean + rng.normal(0, 8, clean.shape), 0, 255).astype(np.uint8)
    restored = identity(clean, FACE)
    without = blend.patch(photo, restored, FACE, 512)
    grained = blend.patch(photo, restored, FACE, 512, grain=1.0)
    (mask,) = blend.masks([FACE], 512)
    spread = []
    for patch in (without, grained):
        result = photo.copy()
        blend.paste(result, patch, mask, FACE, 512)
        spread.append((result.astype(int) - clean)[80:160, 190:260].std())
    assert spread[0] < 1.5
    assert 4.5 < spread[1] < 9


def test_mask_is_zero_at_the_border_and_one_inside():
    mask = blend.feathered_mask(256)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() == 0
    assert mask[40:-40, 40:-40].min() == 1
    np.testing.assert_array_equal(mask, mask.T)


def test_color_and_light_come_from_the_photo():
    photo = data.astronaut()
    crop = align.warp(photo, FACE, (512, 512))
    restored = np.clip(identity(photo, FACE).astype(int) * 0.8 + [40, 0, -20], 0, 255).astype(np.uint8)
    matched = color.match_color(restored, crop)
    assert np.abs(matched.mean((0, 1)) - crop.mean((0, 1))).max() < 1.5


def test_a_gray_photo_stays_exactly_gray():
    gray = np.repeat(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert color.is_monochrome(gray)
    matched = color.match_color(identity(data.astronaut(), FACE), align.warp(gray, FACE, (512, 512)), monochrome=True)
    assert np.ptp(matched, axis=2).max() == 0


def test_sepia_is_one_tone_and_stays_so():
    luma = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[..., None] / 255
    sepia = (255 * luma ** [0.8, 1.0, 1.3]).astype(np.uint8)
    assert color.is_monochrome(sepia)
    crop = align.warp(sepia, FACE, (512, 512))
    matched = color.match_color(identity(data.astronaut(), FACE), crop, monochrome=True)
    assert color.is_monochrome(matched)
    assert np.abs(matched.mean((0, 1)) - crop.mean((0, 1))).max() < 4


def test_a_color_photo_is_not_one_tone():
    assert not color.is_monochrome(data.astronaut())
