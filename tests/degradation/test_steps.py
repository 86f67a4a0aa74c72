"""The damage model's value, its distributions, the NumPy path and the folder command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from panini.cli import run
from panini.degradation.folder import degrade_folder
from panini.degradation.recipes import DISTRIBUTIONS, draw
from panini.degradation.steps import (
    KINDS,
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
    Sharpen,
    Step,
    Tone,
    WebP,
)
from panini.errors import PaniniError

FACE = np.asarray(
    Image.fromarray(data.astronaut()).crop((140, 0, 300, 160)).resize((512, 512), Image.Resampling.BICUBIC)
)
SMALL = np.asarray(Image.fromarray(FACE).resize((96, 96), Image.Resampling.BOX))

drawn = st.builds(
    lambda name, seed: draw(name, np.random.default_rng(seed)),
    st.sampled_from(list(DISTRIBUTIONS)),
    st.integers(0, 2**32),
)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2))))


@given(drawn)
def test_serialization_round_trip(damage: Degradation) -> None:
    again = Degradation.from_dict(json.loads(json.dumps(damage.to_dict())))
    assert again == damage
    assert str(again) == str(damage)
    assert all((damage.strength(kind) > 0) <= (kind in damage.kinds) for kind in KINDS)


@settings(max_examples=30, deadline=None)
@given(drawn, st.integers(0, 2**32), st.integers(1, 80), st.integers(1, 80))
def test_apply_keeps_shape_and_is_reproducible(damage: Degradation, seed: int, height: int, width: int) -> None:
    picture = SMALL[:height, :width]
    before = picture.copy()
    result = damage.apply(picture, seed)
    assert result.shape == picture.shape
    assert result.dtype == np.uint8
    assert np.array_equal(result, damage.apply(picture, seed))
    assert np.array_equal(picture, before)


@pytest.mark.parametrize(
    "steps",
    [
        [(Blur(s),) for s in (1, 2, 4, 8)],
        [(Blur(s, 0.4, 30),) for s in (1, 2, 4, 8)],
        [(Motion(s, 60),) for s in (4, 8, 16, 32)],
        *([(Sharpen(a, s),) for a in (0.3, 1, 3)] for s in (0.5, 2)),
        *(
            [(Downsample(f, k), Enlarge("bilinear")) for f in (2, 4, 8, 16)]
            for k in ("area", "bicubic", "bicubic-aa", "nearest")
        ),
        *([(Noise(s, gray, shot),) for s in (3, 9, 27)] for gray in (False, True) for shot in (False, True)),
        [(Jpeg(q),) for q in (95, 70, 40, 15)],
        [(WebP(q),) for q in (95, 70, 40, 15)],
        [(Tone(a, True),) for a in (0.2, 0.5, 1.0)],
        [(Fade(c, 1.0),) for c in (0.9, 0.6, 0.3)],
        [(Contrast(f, 0.4),) for f in (1.2, 2.0, 4.0)],
    ],
    ids=lambda steps: str(Degradation(steps[0])),
)
def test_more_damage_is_worse(steps: list[tuple[Step, ...]]) -> None:
    damages = [Degradation(each) for each in steps]
    (kind,) = damages[0].kinds
    strengths = [damage.strength(kind) for damage in damages]
    scores = [psnr(FACE, damage.apply(FACE, 0)) for damage in damages]
    assert strengths == sorted(strengths)
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_a_halftone_keeps_the_tone_in_dots_of_ink() -> None:
    for value in (64, 128, 192):
        dots = Degradation((Halftone(8.0, 20.0),)).apply(np.full((512, 512, 3), value, np.uint8), 0)
        assert abs(dots.mean() - value) < 25
        assert ((dots < 40) | (dots > 215)).mean() > 0.65, "ink or paper"
    none = np.full((64, 64, 3), 100, np.uint8)
    assert np.array_equal(Degradation((Halftone(8.0, amount=0.0),)).apply(none, 0), none)


def test_seed_decides_the_noise() -> None:
    damage = Degradation((Noise(10),))
    assert not np.array_equal(damage.apply(SMALL, 1), damage.apply(SMALL, 2))


def test_words() -> None:
    damage = Degradation((Blur(3.14), Downsample(4), Noise(12), Jpeg(35), Enlarge("nearest")))
    assert str(damage) == "blur σ=3.1 px, down 4x (area), noise 12/255, JPEG q 35, up (nearest)"
    assert str(Degradation()) == "untouched"
    assert damage.kinds == ("blur", "down", "noise", "jpeg")


def test_strengths_are_those_of_a_512_face() -> None:
    """A face of twice the size, damaged and halved, looks as the face itself damaged."""
    large = np.asarray(Image.fromarray(FACE).resize((1024, 1024), Image.Resampling.BICUBIC))
    for damage in (Degradation((Blur(4),)), Degradation((Motion(16, 30),)), Degradation((Downsample(6), Enlarge()))):
        halved = Image.fromarray(damage.apply(large, 0)).resize((512, 512), Image.Resampling.BOX)
        assert psnr(np.asarray(halved), damage.apply(FACE, 0)) > 40, damage


@pytest.mark.parametrize(
    "make",
    [
        lambda: Blur(-1),
        lambda: Blur(float("nan")),
        lambda: Blur("3"),  # type: ignore[arg-type]
        lambda: Jpeg(50.5),  # type: ignore[arg-type]
        lambda: Jpeg(True),
        lambda: Noise(3, gray=1),  # type: ignore[arg-type]
        lambda: Downsample(2, "lanczos"),
        lambda: Degradation((Downsample(2),)),
        lambda: Degradation(("blur",)),  # type: ignore[arg-type]
        lambda: Degradation().strength("rust"),
        lambda: draw("mild", np.random.default_rng(0)),
        lambda: Degradation().apply(SMALL[..., 0], 0),
        lambda: Degradation().apply(SMALL.astype(np.float32), 0),
        lambda: Degradation().apply(SMALL[:0], 0),
        lambda: Degradation.from_dict({}),
        lambda: Degradation.from_dict({"steps": [], "more": 1}),
        lambda: Degradation.from_dict({"steps": ["blur"]}),
        lambda: Degradation.from_dict({"steps": [{"step": "rust"}]}),
        lambda: Degradation.from_dict({"steps": [{"step": "blur"}]}),
        lambda: Degradation.from_dict({"steps": [{"step": "blur", "sigma": 1, "color": 1}]}),
    ],
)
def test_wrong_values_are_named(make: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make()


# --- distributions ---------------------------------------------------------------------------------------------------


def test_paper_has_the_validation_kinds() -> None:
    """Kinds and extremes of the fixed validation damage; each is drawn, and often enough."""
    rng = np.random.default_rng(0)
    draws = [draw("paper", rng) for _ in range(4000)]
    share: dict[str, float] = {}
    for name, holds in {
        "blur": lambda d: d.kinds == ("blur",),
        "noise": lambda d: d.kinds == ("noise",),
        "pixelated": lambda d: d.kinds == ("down",) and d.steps[-1] == Enlarge("nearest"),
        "blur+jpeg": lambda d: d.kinds == ("blur", "jpeg"),
        "down+noise+jpeg": lambda d: d.kinds == ("down", "noise", "jpeg"),
        "down+blur+noise": lambda d: d.kinds == ("blur", "down", "noise"),
        "all-heavy": lambda d: d.kinds == ("blur", "down", "noise", "jpeg") and d.strength("down") > np.log2(6),
        "near-clean": lambda d: all(
            d.strength(kind) <= most
            for kind, most in {"blur": 0.8, "motion": 0, "down": 0, "noise": 3, "jpeg": 30}.items()
        ),
    }.items():
        share[name] = float(np.mean([holds(damage) for damage in draws]))
    assert min(share.values()) > 0.02, share
    assert 0.1 < share["near-clean"] < 0.16
    assert 0.1 < share["all-heavy"] < 0.2
    for kind, lowest, highest in (
        ("blur", 1.457, 7.659),
        ("noise", 4.356, 27.964),
        ("down", 1, np.log2(12)),
        ("jpeg", 11, 85),
    ):
        strengths = [damage.strength(kind) for damage in draws if kind in damage.kinds]
        assert min(strengths) <= lowest, kind
        assert max(strengths) >= highest, kind


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_shares_add_up(distribution: str) -> None:
    assert sum(recipe.share for recipe in DISTRIBUTIONS[distribution]) == pytest.approx(1, abs=0.03)


def test_half_of_the_factors_are_powers_of_two() -> None:
    rng = np.random.default_rng(0)
    factors = [step.factor for _ in range(2000) for step in draw("paper", rng).steps if isinstance(step, Downsample)]
    whole = [factor for factor in factors if factor in (2, 4, 8, 16, 32)]
    assert 0.4 < len(whole) / len(factors) < 0.6
    assert set(whole) == {2, 4, 8, 16, 32}
    assert min(factors) >= 1.5
    assert max(factors) <= 32


def test_wild_reaches_every_kind() -> None:
    rng = np.random.default_rng(0)
    assert {kind for _ in range(500) for kind in draw("wild", rng).kinds} == set(KINDS)


def test_sr16_is_fixed_and_leaves_64_pixels() -> None:
    damages = {draw("sr16", np.random.default_rng(seed)) for seed in range(5)}
    assert len(damages) == 1
    down = damages.pop().steps[0]
    assert isinstance(down, Downsample)
    assert down.size((512, 512), (512, 512)) == down.size((1024, 1024), (1024, 1024)) == (64, 64)


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    Image.fromarray(SMALL).save(source / "a.png")
    Image.fromarray(SMALL[::-1].copy()).save(source / "deep" / "b.webp")
    (source / "notes.txt").write_text("no picture")
    return source


def test_folder_is_mirrored_and_described(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    entries = degrade_folder(folder, target, "wild", seed=3, copies=2)
    assert json.loads((target / "manifest.json").read_text(encoding="utf-8")) == entries
    assert [entry["name"] for entry in entries] == ["a-0.png", "a-1.png", "deep/b-0.png", "deep/b-1.png"]
    for entry in entries:
        picture = np.asarray(Image.open(folder / entry["source"]).convert("RGB"))
        again = Degradation.from_dict(entry["degradation"]).apply(picture, entry["seed"])
        assert np.array_equal(again, np.asarray(Image.open(target / entry["name"])))
    (folder / "a.png").unlink()
    assert degrade_folder(folder, tmp_path / "rest", "wild", seed=3, copies=2) == entries[2:]


@pytest.mark.parametrize("wrong", ["missing", "no pictures", "broken", "full target", "unknown", "clash"])
def test_folder_is_made_whole_or_not_at_all(folder: Path, tmp_path: Path, wrong: str) -> None:
    target = tmp_path / "out"
    source, distribution = folder, "unknown" if wrong == "unknown" else "paper"
    if wrong == "missing":
        source = tmp_path / "nowhere"
    elif wrong == "no pictures":
        source = tmp_path / "empty"
        source.mkdir()
    elif wrong == "broken":
        (folder / "z.png").write_bytes(b"no picture")
    elif wrong == "full target":
        target.mkdir()
        (target / "mine").touch()
    elif wrong == "clash":
        Image.fromarray(SMALL).save(folder / "a.jpg")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PaniniError):
        degrade_folder(source, target, distribution)
    assert sorted(tmp_path.rglob("*")) == before


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["degrade", str(folder), "-o", str(tmp_path / "out"), "--distribution", "sr16"]
    assert run(arguments) == 0
    assert (tmp_path / "out" / "deep" / "b.png").is_file()
    assert run(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
