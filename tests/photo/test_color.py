"""Nearly gray is not gray: tints keep their place and their strength, and gray stays exactly gray."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.api import Restorer
from panini.inference import BicubicEngine
from panini.photo.color import is_monochrome, match_color

GRAY = np.repeat(np.asarray(Image.fromarray(data.astronaut()[0:220, 110:330]).convert("L"))[..., None], 3, 2)


def tinted(picture, color, x, y, radius):
    """`picture` with a soft spot of a color added."""
    down, across = np.mgrid[: picture.shape[0], : picture.shape[1]]
    weight = np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * radius**2))
    return np.clip(picture + weight[..., None] * color, 0, 255).astype(np.uint8)


def red_over_blue(picture, x, y, radius=6):
    part = picture[y - radius : y + radius, x - radius : x + radius].astype(float).mean((0, 1))
    return part[0] - part[2]


def test_tinted_cheeks_stay_tinted_and_the_background_gray():
    original = tinted(GRAY, (25, -5, -15), 80, 120, 14)
    assert is_monochrome(original)
    restored = match_color(GRAY, original, monochrome=True)
    assert red_over_blue(restored, 80, 120) == pytest.approx(red_over_blue(original, 80, 120), rel=0.2)
    assert abs(red_over_blue(restored, 200, 20)) < 3


def test_gray_stays_exactly_gray_and_sepia_sepia():
    assert np.ptp(match_color(np.roll(GRAY, 3, 0), GRAY, monochrome=True).astype(int), axis=2).max() == 0
    sepia = np.clip(GRAY * [1.0, 0.88, 0.7], 0, 255).astype(np.uint8)
    restored = match_color(GRAY, sepia, monochrome=True)
    assert is_monochrome(sepia)
    difference = restored.astype(float) - sepia
    assert np.abs(difference.mean((0, 1))).max() < 2


def test_faded_color_keeps_its_low_frequencies():
    photo = data.astronaut()[0:220, 110:330]
    faded = np.clip(0.08 * (photo.astype(float) - 128) + 0.92 * (GRAY.astype(float) - 128) + 128, 0, 255).astype(
        np.uint8
    )
    restored = match_color(GRAY, faded, monochrome=is_monochrome(faded))

    def chroma(picture):
        small = np.asarray(Image.fromarray(picture).resize((16, 16), Image.Resampling.BOX), float)
        return small - small.mean(2, keepdims=True)

    assert np.abs(chroma(restored) - chroma(faded)).mean() < 1


def test_the_hand_tinted_photo_keeps_its_pink(faults):
    path = faults / "hand-tinted-cheeks-lose-pink.jpg"
    before = np.asarray(Image.open(path).convert("RGB"))
    result = Restorer(BicubicEngine()).restore(path)
    after = np.asarray(result.image)
    chroma = before.astype(float) - before.mean(2, keepdims=True)
    pinkest = np.unravel_index(
        np.asarray(
            Image.fromarray((chroma[..., 0] - chroma[..., 2] + 128).clip(0, 255).astype(np.uint8)).reduce(8), int
        ).argmax(),
        (before.shape[0] // 8, before.shape[1] // 8),
    )
    y, x = (int(8 * v + 4) for v in pinkest)
    assert red_over_blue(before, x, y) > 20
    assert red_over_blue(after, x, y) == pytest.approx(red_over_blue(before, x, y), rel=0.2)
    plain = (np.abs(chroma).max(2) < 2) & (np.asarray(Image.fromarray(before).convert("L")) > 30)
    assert np.abs((after - after.mean(2, keepdims=True))[plain]).mean() < 1.5
