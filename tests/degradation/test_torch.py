"""The torch path against the NumPy path: same pixels within the tolerances stated here."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.degradation.recipes import draw
from panini.degradation.steps import (
    SUBSAMPLING,
    Blur,
    Contrast,
    Degradation,
    Downsample,
    Enlarge,
    Fade,
    Halftone,
    Jpeg,
    Motion,
    Noise,
    Paper,
    Sharpen,
    Tone,
    WebP,
)

torch = pytest.importorskip("torch")
from panini.degradation.torch import apply_shared  # noqa: E402

ASTRONAUT = Image.fromarray(data.astronaut())
PICTURES = {
    "square": np.asarray(ASTRONAUT.crop((120, 0, 376, 256))),
    "odd": np.asarray(ASTRONAUT.crop((180, 10, 309, 201))),
}
# dB between both paths, at least; a flipped coefficient weighs more in a small picture, and flips add up
EXACT, ANTIALIASED, CODED, CODED_SMALL = 60.0, 50.0, 45.0, 40.0


def batch(picture: np.ndarray, damages: list[Degradation], seed: int = 0) -> np.ndarray:
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1
    generator = torch.Generator().manual_seed(seed)
    result = torch.cat([apply_shared(images[None], damage, generator) for damage in damages])
    return ((result + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2))))


PARITY = {
    "blur": (EXACT, [(Blur(1.0),), (Blur(9.0),), (Blur(6.0, 0.3, 30.0),)]),
    "motion": (EXACT, [(Motion(12.0, 70.0),), (Motion(40.0, 0.0),)]),
    "sharpen": (EXACT, [(Sharpen(0.5),), (Sharpen(3.0, 2.0),), (Downsample(4), Sharpen(2.0, 0.7), Enlarge())]),
    "color": (EXACT, [(Tone(),), (Tone(0.5),), (Tone(1.0, True),), (Fade(0.6, 0.7),), (Contrast(2.0, 0.4),)]),
    "down": (
        EXACT,
        [
            (Downsample(factor, kernel), Enlarge(up))
            for factor, kernel, up in (
                (4, "area", "nearest"),
                (5.3, "area", "bicubic"),
                (4, "bilinear", "bicubic"),
                (7.7, "bicubic", "bilinear"),
                (9, "nearest", "nearest"),
            )
        ],
    ),
    "antialiased": (
        ANTIALIASED,
        [(Downsample(8, "bicubic-aa"), Enlarge("bicubic")), (Downsample(3.1, "bilinear-aa"), Enlarge("bilinear"))],
    ),
    "jpeg": (CODED, [(Jpeg(quality, chroma),) for quality in (10, 40, 75, 98) for chroma in SUBSAMPLING]),
    "webp": (EXACT, [(WebP(40),)]),
    "halftone": (EXACT, [(Halftone(4.0),), (Halftone(9.0, 20.0, 0.5), Blur(1.0))]),
    "sequence": (
        CODED_SMALL,
        [
            (Blur(3.0), Downsample(4), Jpeg(40), Enlarge()),
            (Downsample(11.9), Jpeg(30), Enlarge("bilinear")),
            (Jpeg(80), Blur(2.0), Fade(0.7), Downsample(3), Jpeg(50), Jpeg(70), Enlarge("nearest")),
            (),
        ],
    ),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize(("least", "steps"), PARITY.values(), ids=PARITY)
def test_both_paths_agree(picture: np.ndarray, least: float, steps: list[tuple]) -> None:
    damages = [Degradation(each) for each in steps]
    for damage, result in zip(damages, batch(picture, damages), strict=True):
        score = psnr(result, damage.apply(picture, 0))
        assert score > least, f"{score:.1f} dB: {damage}"


@pytest.mark.parametrize("woven", [False, True])
def test_paper_has_the_same_statistics(woven: bool) -> None:
    """Deviation, and that of its mean over 4 x 4 pixels, which its grains decide (5 %)."""
    damage = Degradation((Paper(12.0, 6.0, woven),))
    flat = np.full((512, 512, 3), 128, np.uint8)
    host = damage.apply(flat, 0).astype(np.float32)[..., 0]
    (tensor,) = batch(flat, [damage])
    for pictures in (host, tensor.astype(np.float32)[..., 0]):
        assert pictures.std() == pytest.approx(12.0, rel=0.05)
    coarse = [p.reshape(128, 4, 128, 4).mean((1, 3)).std() for p in (host, tensor.astype(np.float32)[..., 0])]
    assert coarse[0] == pytest.approx(coarse[1], rel=0.05)
    assert coarse[0] > 6, "white noise would leave 3"


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("shot", [False, True])
def test_noise_has_the_same_statistics(gray: bool, shot: bool) -> None:
    """Mean, deviation (2 %) and correlation of channels, at two brightnesses."""
    damage = Degradation((Noise(12.0, gray, shot),))
    for value in (60, 180):
        flat = np.full((256, 256, 3), value, np.uint8)
        for result in (damage.apply(flat, 0), batch(flat, [damage])[0]):
            noise = result.astype(np.float64) - value
            assert noise.mean() == pytest.approx(0, abs=0.15)
            assert noise.std() == pytest.approx(12 * (np.sqrt(value / 255) if shot else 1), rel=0.02)
            assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(
                float(gray), abs=0.03
            )


def test_batch_does_not_change_a_picture() -> None:
    """Each picture comes out as it would alone, whatever shares its batch."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(np.stack([PICTURES["square"], PICTURES["square"][::-1]])).permute(0, 3, 1, 2) / 127.5 - 1
    quiet = [Degradation(tuple(s for s in draw("wild", rng).steps if s.kind != "noise")) for _ in range(6)]
    for damage in quiet:
        for together, image in zip(apply_shared(images, damage), images, strict=True):
            alone = apply_shared(image[None], damage)[0]
            assert psnr(127.5 * together.numpy(), 127.5 * alone.numpy()) > CODED, damage


def test_generator_decides_the_noise() -> None:
    damages = [Degradation((Noise(10.0),))] * 2
    first = batch(PICTURES["odd"], damages, seed=1)
    assert np.array_equal(first, batch(PICTURES["odd"], damages, seed=1))
    assert not np.array_equal(first, batch(PICTURES["odd"], damages, seed=2))
    assert not np.array_equal(first[0], first[1])


def test_pictures_of_a_batch_have_noise_of_their_own() -> None:
    images = torch.zeros(2, 3, 40, 40)
    first, second = apply_shared(images, Degradation((Noise(10.0),)))
    assert not torch.equal(first, second)


def test_type_and_device_stay() -> None:
    images = torch.rand(2, 3, 40, 40, dtype=torch.float16) * 2 - 1
    before = images.clone()
    for damage in (Degradation((Jpeg(50),)), Degradation((Blur(3.0),))):
        result = apply_shared(images, damage)
        assert result.dtype == torch.float16
        assert result.shape == images.shape
        assert torch.equal(images, before)
    assert apply_shared(images[:0], Degradation()).shape == (0, 3, 40, 40)


def test_wrong_batches_are_refused() -> None:
    for wrong in (torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="batch"):
            apply_shared(wrong, Degradation())
