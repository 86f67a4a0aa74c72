"""Prints: thin scratches do not stop a restoration, and no smooth patch lies around a head."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.api import Restorer
from panini.faces import align, blend
from panini.photo import scratches
from panini.photo.pixels import read_rgb, resize
from panini.report.face_report import as_dict, describe


def crop_of(path):
    return np.asarray(Image.open(path).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def restorer():
    return Restorer()


def test_a_scratched_face_is_restored_as_without_scratches(faults, restorer):
    scratched, whole = (
        restorer.restore(faults / name, aligned=True).faces[0]
        for name in ("three-scratches-stop-restoration.png", "same-without-scratches.png")
    )
    mask = scratches.find(scratched.before)
    assert mask is not None
    wide = np.asarray(Image.fromarray(mask).resize((1024, 1024))) > 0
    difference = np.abs(scratched.after.astype(int) - whole.after).mean(2)
    assert np.median(difference[~wide]) <= 3
    assert difference[~wide].mean() < 5  # the lines themselves differ by 100 and more
    assert difference[wide].mean() < 25
    (found,) = [damage for damage in scratched.report.found if damage.kind == "scratches"]
    assert 0.01 < found.strength < 0.06
    assert "scratches" in describe(scratched.report)
    assert "scratches" in {damage["kind"] for damage in as_dict(scratched.report)["damage"]}
    assert "scratches" not in describe(whole.report)


# A bright line down a bright face shows only in pieces, too short to be told from hair: not among these.
@pytest.mark.parametrize(
    ("angle", "level"), [*((angle, 15) for angle in (0, 20, 75, 90, 130)), (0, 245), (20, 245), (75, 245)]
)
def test_scratches_at_any_angle_are_found_and_nothing_else(angle, level):
    import cv2

    face = np.array(Image.fromarray(data.astronaut()[0:220, 110:330]).resize((512, 512), Image.Resampling.BICUBIC))
    assert scratches.find(face) is None
    way = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    ends = [tuple(np.rint(np.array([250, 230]) + reach * way).astype(int).tolist()) for reach in (-200, 200)]
    drawn = np.zeros(face.shape[:2], np.uint8)
    cv2.line(drawn, *ends, 1, 3)
    line = drawn > 0
    # Where a line can be told from what lies beside it.
    telling = line & (np.abs(face.mean(2) - level) > 60)
    face[line] = level
    mask = scratches.find(face)
    assert mask is not None
    assert mask[telling].mean() > 0.6
    assert mask[~(cv2.dilate(drawn, np.ones((15, 15))) > 0)].mean() < 0.002


def test_no_smooth_patch_lies_around_a_head_in_halftone(faults, restorer):
    path = faults / "halftone-leaves-smooth-patch.jpg"
    result = restorer.restore(path)
    (face,) = result.faces
    before = np.asarray(Image.open(path).convert("L"), np.float32)
    after = np.asarray(result.image.convert("L"), np.float32)
    transform = restorer.transform(np.asarray(Image.open(path).convert("RGB")), face.face)
    y, x = np.mgrid[: before.shape[0], : before.shape[1]] + 0.5
    across, down = ((row[0] * x + row[1] * y + row[2]) / 512 for row in transform)
    inside = (across > 0.05) & (across < 0.95) & (down > 0.05) & (down < 0.95)
    around = inside & (np.hypot((across - 0.5) / 0.36, (down - 0.5) / 0.52) > 1)

    def texture(picture, where):
        fine = picture - np.asarray(Image.fromarray(picture).resize((75, 92)).resize(picture.shape[::-1]), np.float32)
        return float(fine[where].std())

    assert texture(after, around) > 0.85 * texture(before, around)
    # The face is turned to the left: no halo beside its far cheek, where an upright ellipse would reach.
    beside = (across > 0.2) & (across < 0.27) & (down > 0.4) & (down < 0.75)
    assert texture(after, beside) > 0.95 * texture(before, beside)
    face_itself = np.hypot((across - 0.5) / 0.15, (down - 0.55) / 0.2) < 1
    assert texture(after, face_itself) < 0.85 * texture(before, face_itself)


def test_a_head_before_a_plain_wall_is_taken_whole():
    plain = np.full((512, 512, 3), 120, np.uint8)
    assert blend.share_around(plain, plain, 1.0).min() == 1
    grainy = np.clip(plain + np.random.default_rng(0).normal(0, 12, plain.shape), 0, 255).astype(np.uint8)
    share = blend.share_around(grainy, plain, 1.0)
    assert share[128, 128] == 1
    assert share[:5, :5].max() < 0.1
    assert blend.share_around(grainy, grainy, 1.0).min() == pytest.approx(1, abs=0.1)
    assert align.scale_of(np.eye(2, 3)) == 1


@pytest.mark.parametrize("blob", [1, 2, 4])
def test_colored_and_coarse_grain_leaves_no_smooth_patch(blob):
    plain = np.full((512, 512, 3), 120, np.uint8)
    grain = np.random.default_rng(0).normal(0, 5, (512 // blob, 512 // blob, 3))
    grainy = np.clip(120 + cv2.resize(grain, (512, 512), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    share = blend.share_around(grainy, plain, 1.0)
    assert share[128, 128] == 1
    assert share[:5, :5].max() < 0.15


def test_a_turned_face_is_narrower_on_the_side_that_it_turns_to(restorer):
    grainy = np.clip(np.random.default_rng(0).normal(120, 12, (512, 512, 3)), 0, 255).astype(np.uint8)
    plain = np.full_like(grainy, 120)
    straight, left, right = (blend.share_around(grainy, plain, 1.0, yaw) for yaw in (0.0, -0.3, 0.3))
    np.testing.assert_allclose(left[:, ::-1], right, atol=1e-6)
    assert left[:, :128].sum() < 0.75 * straight[:, :128].sum()
    assert left[:, 128:].sum() > straight[:, 128:].sum()
    assert np.abs(np.diff(left, axis=1)).max() < 0.15  # no hard edge
    assert left[128, 90] == 1  # the far eye
    face = Image.fromarray(data.astronaut()[0:220, 110:330])
    yaws = []
    for picture in (face, face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), face.rotate(90)):
        (found,) = restorer.detector(np.asarray(picture))
        yaws.append(found.yaw)
    assert yaws[1] == pytest.approx(-yaws[0], abs=0.05)
    assert yaws[2] == pytest.approx(yaws[0], abs=0.05)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "data/prior").glob("*.webp")), ids=lambda p: p.stem
)
def test_hair_is_not_scratched(path):
    assert scratches.find(resize(read_rgb(path), 512, cv2.INTER_AREA)) is None
