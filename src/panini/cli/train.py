"""`panini train` and `ablate`: training. They need the extra `train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import needs_train_extra
from panini.training.config import RestorerConfig, UDRLConfig, describe

Recipe = Annotated[Path, typer.Option("--config", metavar="FILE", help="A recipe, such as configs/b.toml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a field of the recipe: steps=100, optimizer.lr=2e-4, … Repeatable."
    ),
]


def config_fields() -> str:
    """Every field of the configs, its default and its meaning: the end of `panini train --help`."""
    parts = []
    for network, cls in (("restorer", RestorerConfig), ("udrl", UDRLConfig)):
        lines = [f"Fields of the configs of {network}, for --set FIELD=VALUE:"]
        lines += [f"  {s.name} = {s.default or repr('')} ({s.kind}): {s.meaning}" for s in describe(cls)]
        parts.append("\b\n" + "\n".join(lines))  # \b: lines are not joined
    return "\n\n".join(parts)


class Network(StrEnum):
    """What can be trained."""

    UDRL = "udrl"
    RESTORER = "restorer"


def train(
    network: Annotated[Network, typer.Argument(show_default=False)],
    config: Recipe,
    overrides: Overrides = None,
) -> None:
    """Train the degradation encoder (udrl) or the restorer. The same command resumes a run that was stopped."""
    with needs_train_extra("train"):
        from panini.training import config as configs
        from panini.training.restorer import RestorerTraining
        from panini.training.udrl import UDRLTraining

    if network == Network.UDRL:
        UDRLTraining(configs.load(configs.UDRLConfig, config, overrides or ())).run()
    else:
        RestorerTraining(configs.load(configs.RestorerConfig, config, overrides or ())).run()


def ablate(config: Recipe, overrides: Overrides = None) -> None:
    """Train the paper's ablations at equal compute; print their scores and plot DAFI's weights by damage."""
    with needs_train_extra("ablate"):
        from panini.training import config as configs
        from panini.training.ablation import ablate as compare

    print(compare(configs.load(configs.RestorerConfig, config, overrides or ())))
