"""Configs: every field can be set and is explained, nothing unknown or of a wrong type gets in, those that ship are
valid."""

from pathlib import Path

import pytest

from panini.errors import PaniniError
from panini.training.config import RestorerConfig, UDRLConfig, describe, load

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_configs_that_ship_are_valid(path: Path) -> None:
    config = load(UDRLConfig if path.stem.startswith("udrl") else RestorerConfig, path)
    assert config.output.endswith(path.stem)
    assert config.minutes or config.steps
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("cls", [RestorerConfig, UDRLConfig])
def test_every_field_is_explained(cls: type) -> None:
    settings = {setting.name: setting for setting in describe(cls())}
    assert all(setting.meaning for setting in settings.values())
    assert settings["optimizer.lr"].default == "0.0004"
    assert settings["hardware.bf16"].default == "true"
    assert "adamw | adam | sgd" in settings["optimizer.name"].kind


def test_overrides_reach_every_level(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    tables = ("[discriminator_optimizer]\nlr = 1e-3", "[optimizer]\nlr = 1e-3\nwarmup = 3", "[mixture]\npaper = 1.0")
    path.write_text("\n".join(("steps = 7", *tables)))
    overrides = ["optimizer.lr=2e-4", "output=some/where", 'preset="paper_mfr"', "losses.l1=3", "mixture.wild=0.5"]
    config = load(RestorerConfig, path, [*overrides, 'train=["ife"]', "batch = 2"])
    assert (config.steps, config.batch, config.output, config.preset) == (7, 2, "some/where", "paper_mfr")
    assert (config.optimizer.lr, config.optimizer.warmup, config.losses.l1) == (2e-4, 3, 3)
    assert config.mixture == {"paper": 1.0, "wild": 0.5}
    assert config.train == ("ife",)
    optimizer = config.discriminator_optimizer
    assert (optimizer.lr, optimizer.momentum) == (1e-3, 0.0), "what a table leaves out is this table's default"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepps=3", "unknown stepps"),
        ("optimizer.rate=3", "unknown rate"),
        ("steps=many", "steps is 'many', not int"),
        ("steps=1.5", "steps is 1.5, not int"),
        ("optimizer=3", "optimizer is a table"),
        ("rule=best", "rule is 'best', not 'interpolate' or 'constant' or 'half' or 'add'"),
        ("mixture=3", "mixture is 3"),
        ("train=[1]", "train is"),
        ("steps", "KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_said(override: str, message: str) -> None:
    with pytest.raises(PaniniError, match=message):
        load(RestorerConfig, CONFIGS / "b.toml", [override])
