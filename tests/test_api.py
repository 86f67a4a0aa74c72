import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from skimage import data

import panini
from panini.cli.demo import demo_photo
from panini.inference import BicubicEngine, load_engine


@pytest.fixture(scope="module")
def restorer():
    return panini.Restorer(BicubicEngine())


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(data.astronaut()).save(path, quality=95, subsampling=0, dpi=(200, 200))
    return path


def test_importing_panini_loads_nothing_heavy():
    code = "import panini, sys; print({'numpy', 'cv2', 'onnxruntime', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_restoring_needs_no_torch():
    code = (
        "import panini, sys, numpy; from panini.inference import BicubicEngine as E;"
        "panini.Restorer(E()).restore(numpy.zeros((64, 64), 'uint8'), keep=True); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_photo_goes_all_the_way(restorer, photo, tmp_path):
    result = restorer.restore(photo)
    original = np.asarray(Image.open(photo)).astype(int)
    (face,) = result.faces
    assert face.before.shape == (512, 512, 3)
    assert face.after.shape == (1024, 1024, 3)
    assert face.degradation.shape == (256,)
    assert set(result.timings) == {"read", "detect", "align", "network", "blend", "report"}
    difference = np.abs(np.asarray(result.image).astype(int) - original)
    assert difference[300:].max() == 0
    assert 0 < difference.mean() < 1
    written = Image.open(result.save(tmp_path / "out.jpg"))
    assert written.size == (512, 512)
    assert written.info["dpi"] == (200, 200)


@pytest.mark.parametrize("scale", [2, 4])
def test_scale_enlarges_the_photo(restorer, scale):
    image = restorer.restore(data.astronaut()[:200, 120:320], scale=scale).image
    assert image.size == (200 * scale, 200 * scale)


def test_gray_and_alpha_stay(restorer):
    gray = Image.fromarray(data.astronaut()).convert("L")
    assert restorer.restore(gray).image.mode == "L"
    gray_rgb = np.asarray(restorer.restore(gray.convert("RGB")).image)
    assert gray_rgb.shape == (512, 512, 3)
    assert np.ptp(gray_rgb, axis=2).max() == 0
    alpha = Image.linear_gradient("L").resize((512, 512))
    image = Image.fromarray(data.astronaut())
    image.putalpha(alpha)
    assert restorer.restore(image).image.getchannel("A").tobytes() == alpha.tobytes()


def test_every_face_of_the_demo_photo(restorer, tmp_path):
    path = tmp_path / "demo.jpg"
    path.write_bytes(demo_photo())
    assert len(demo_photo()) < 60_000
    assert len(restorer.restore(path).faces) == 3


@pytest.mark.parametrize("side", [64, 300, 512, 1500])
def test_aligned_crops_of_any_size(restorer, side):
    crop = Image.fromarray(data.astronaut()[:220, 115:335]).resize((side, side))
    result = restorer.restore(crop, aligned=True)
    assert result.image.size == (1024, 1024)
    assert len(result.faces) == 1


def test_a_crop_that_is_not_aligned_is_aligned(restorer):
    crop = restorer.restore(data.astronaut()).faces[0].before
    assert not restorer.restore(crop, aligned=True).realigned
    lower = np.pad(crop[:-60], ((60, 0), (0, 0), (0, 0)), "reflect")
    result = restorer.restore(lower, aligned=True)
    assert result.realigned
    assert any("aligned" in remark for remark in result.remarks)
    assert result.image.size == (1024, 1024)
    placed = result.faces[0].before.astype(float)
    assert np.abs(placed - crop)[150:400, 150:362].mean() < 10, "its crop is that of the aligned one"
    outside = np.asarray(result.image.resize((512, 512))).astype(float) - lower
    assert np.abs(outside).mean() < 5, "the result has the framing of the input"


def test_what_does_not_fit_is_said(restorer):
    with pytest.raises(panini.PaniniError, match="square"):
        restorer.restore(data.astronaut()[:100], aligned=True)
    with pytest.raises(panini.PaniniError, match="scale"):
        restorer.restore(data.astronaut(), scale=3)
    with pytest.raises(panini.PaniniError, match="aligned"):
        restorer.restore(data.astronaut(), scale=2, aligned=True)
    with pytest.raises(panini.NoFaceError, match="no face"):
        restorer.restore(data.brick())
    with pytest.raises(panini.PaniniError, match="engine"):
        load_engine("nonesuch")


def test_keep_returns_the_photo_unchanged(restorer):
    result = restorer.restore(data.brick(), keep=True)
    np.testing.assert_array_equal(np.asarray(result.image), data.brick())
    assert result.faces == []


def test_bytes_and_file_objects_in_and_out(restorer, photo):
    from_path = restorer.restore(photo)
    with photo.open("rb") as file:
        for source in (photo.read_bytes(), file):
            np.testing.assert_array_equal(restorer.restore(source).image, from_path.image)
    written = io.BytesIO()
    from_path.save(written, "PNG")
    np.testing.assert_array_equal(Image.open(written), from_path.image)
    with pytest.raises(panini.PaniniError, match="a file object needs a format: one of JPEG, PNG"):
        from_path.save(io.BytesIO())
    with pytest.raises(panini.PaniniError, match="the input is not a picture that Panini can read"):
        restorer.restore(b"text")


def test_options_are_given_once_or_one_by_one(restorer, photo):
    options = panini.RestoreOptions(scale=2, grain=0.5)
    larger = restorer.restore(photo, options)
    np.testing.assert_array_equal(restorer.restore(photo, scale=2, grain=0.5).image, larger.image)
    assert restorer.restore(photo, options, scale=1).image.size == (512, 512)
    for choices, message in (
        ({"passes": 9}, "passes must be"),
        ({"dial_level": 8}, "needs a --dial"),
        ({"background": photo}, "needs --scale"),
        ({"aligned": True, "grain": 1.0}, "aligned"),
    ):
        with pytest.raises(panini.PaniniError, match=message):
            panini.RestoreOptions(**choices)
    with pytest.raises(panini.PaniniError, match="--keep does not work with a folder"):
        panini.RestoreOptions(keep=True).check_for("a folder")


def test_sharp_irises_with_a_highlight_stay_as_they_are(faults):
    restorer = panini.Restorer()
    sharp = restorer.restore(faults / "strong-blur-face-comes-out-scarred.png").faces[0].after  # irises with highlights
    sharp = np.asarray(Image.fromarray(sharp).resize((512, 512), Image.Resampling.BOX))
    again = restorer.restore(sharp, aligned=True).faces[0]
    result = np.asarray(Image.fromarray(again.after).resize((512, 512), Image.Resampling.BOX)).astype(int)
    eyes = (slice(215, 275), slice(140, 370))
    assert sharp[eyes].max() > 240, "there is a highlight"
    assert np.abs(result - sharp)[eyes].mean() < 2
    assert result[eyes].max() > sharp[eyes].max() - 10
    assert again.report.imagined < 0.1
