"""Recipes: every field can be set, nothing unknown or of a wrong type gets in, and those that ship are valid."""

from pathlib import Path

import pytest

from panini.errors import PaniniError
from panini.training.config import load
from panini.training.restoration import RestorationConfig
from panini.training.udrl import UDRLConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_that_ship_are_valid(path: Path) -> None:
    config = load(UDRLConfig if path.stem.startswith("udrl") else RestorationConfig, path)
    assert config.output.endswith(path.stem)


def test_overrides_reach_every_level(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("steps = 7\n[optimizer]\nlr = 1e-3\nwarmup = 3\n[mixture]\npaper = 1.0\n")
    config = load(
        RestorationConfig,
        path,
        [
            "optimizer.lr=2e-4",
            "output=some/where",
            'preset="paper_mfr"',
            "losses.l1=3",
            "mixture.wild=0.5",
            "batch = 2",
        ],
    )
    assert (config.steps, config.batch, config.output, config.preset) == (7, 2, "some/where", "paper_mfr")
    assert (config.optimizer.lr, config.optimizer.warmup, config.losses.l1) == (2e-4, 3, 3)
    assert config.mixture == {"paper": 1.0, "wild": 0.5}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepps=3", "unknown stepps"),
        ("optimizer.rate=3", "unknown rate"),
        ("steps=many", "steps is 'many', not int"),
        ("steps=1.5", "steps is 1.5, not int"),
        ("optimizer=3", "optimizer is a table"),
        ("rule=best", "rule is 'best', not 'interpolate' or 'half' or 'add'"),
        ("mixture=3", "mixture is 3"),
        ("steps", "KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_said(override: str, message: str) -> None:
    with pytest.raises(PaniniError, match=message):
        load(RestorationConfig, CONFIGS / "default.toml", [override])
