from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini import PaniniError, Restorer
from panini.inference import BicubicEngine
from panini.photo import provenance
from panini.photo.consistency import consistent, shrunk

PRIOR = Path(__file__).parents[1] / "data/prior"


@pytest.fixture(scope="module")
def small():
    return np.asarray(Image.fromarray(data.astronaut()).resize((64, 64), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("side", [512, 1024])
def test_the_result_shrinks_to_the_input(small, side):
    wrong = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR))
    right = consistent(wrong, small)
    assert right.shape == (side, side, 3)
    assert np.abs(shrunk(right, (64, 64)) - small).max() < 1
    again = np.asarray(Image.fromarray(right).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(again - small).max() <= 1
    assert np.abs(shrunk(wrong, (64, 64)) - small).max() > 5


def test_the_kernel_is_pillows(small):
    theirs = np.asarray(Image.fromarray(small).resize((20, 31), Image.Resampling.BICUBIC))
    assert np.abs(shrunk(small, (20, 31)) - theirs).max() < 1.5  # it rounds twice


def test_what_fits_already_stays(small):
    picture = data.astronaut()
    assert np.abs(consistent(picture, small).astype(int) - picture).mean() < 0.5


def test_a_restorer_that_is_consistent(small, tmp_path):
    result = Restorer(BicubicEngine()).restore(small, aligned=True, consistent=True)
    again = shrunk(np.asarray(result.image), (64, 64))
    assert np.abs(again - small).max() < 1
    saved = Image.open(result.save(tmp_path / "out.png"))
    assert np.array_equal(result.faces[0].after, np.asarray(result.image)), "what is explained is what is saved"
    assert result.as_dict()["consistent"]
    assert provenance.read(saved.info["xmp"])["Consistent"] == "yes"
    assert "consistent with the photo" in saved.text["Comment"]
    photo = data.astronaut()[:200, 120:320]
    enlarged = Restorer(BicubicEngine()).restore(photo, scale=2, consistent=True)
    plain = Restorer(BicubicEngine()).restore(photo, scale=2)
    errors = [np.abs(shrunk(np.asarray(r.image), (200, 200)) - photo).mean() for r in (enlarged, plain)]
    assert errors[0] < errors[1] / 4


@pytest.mark.parametrize("name", ["00002", "00047", "00088"])
def test_a_small_face_that_is_plain_is_met_exactly_and_a_noisy_one_is_not(name):
    restorer = Restorer()
    face = Image.open(PRIOR / f"{name}.webp").convert("RGB")
    plain = np.asarray(face.resize((64, 64), Image.Resampling.BICUBIC))
    noisy = np.clip(plain + np.random.default_rng(0).normal(0, 8, plain.shape), 0, 255).astype(np.uint8)
    apart = {}
    for kind, small in (("plain", plain), ("noisy", noisy)):
        result = restorer.restore(small, aligned=True)
        assert result.consistent == (kind == "plain"), "and says so"
        apart[kind] = np.abs(shrunk(np.asarray(result.image), (64, 64)) - small).max()
    assert apart["plain"] < 1.1
    assert apart["noisy"] > 5
    free = restorer.restore(plain, aligned=True, consistent=False)
    assert not free.as_dict()["consistent"]
    assert np.abs(shrunk(np.asarray(free.image), (64, 64)) - plain).max() > 1.1


def test_nothing_to_choose(small):
    with pytest.raises(PaniniError, match="larger result"):
        consistent(small, small)
    with pytest.raises(PaniniError, match="larger result"):
        Restorer(BicubicEngine()).restore(data.astronaut(), consistent=True)
