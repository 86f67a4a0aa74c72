"""`panini train` and `ablate`. They need the extra `train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from panini.cli.common import needs_train_extra

Recipe = Annotated[Path, typer.Option("--config", metavar="FILE", help="Recipe, such as configs/b.toml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe field, such as steps=100. Repeatable.",
    ),
]


def config_fields() -> str:
    """Lists every field of the configs with its default and meaning, for the end of `panini train --help`."""
    from panini.training.config import RestorerConfig, UDRLConfig, describe

    parts = []
    for network, cls in (("restorer and picture", RestorerConfig), ("udrl", UDRLConfig)):
        lines = [f"Recipe fields for {network} (--set KEY=VALUE):"]
        lines += [f"  {s.name} = {s.default or repr('')} ({s.kind}): {s.meaning}" for s in describe(cls())]
        parts.append("\b\n" + "\n".join(lines))  # \b: lines are not joined
    return "\n\n".join(parts)


class TrainCommand(TyperCommand):
    """`panini train`. Reads the fields of the configs only for its help, because this takes time."""

    def format_epilog(self, *arguments: Any) -> None:
        self.epilog = config_fields()
        super().format_epilog(*arguments)


class Network(StrEnum):
    """What can be trained."""

    UDRL = "udrl"
    RESTORER = "restorer"
    PICTURE = "picture"


def train(
    network: Annotated[Network, typer.Argument(show_default=False)],
    config: Recipe,
    overrides: Overrides = None,
) -> None:
    """Train the degradation encoder (udrl) or the restorer, or fit a trained restorer's PictureDAFI (picture).

    To resume a stopped run of the first two, repeat the command.
    """
    with needs_train_extra("train"):
        from panini.training import config as configs
        from panini.training.picture import fit_picture
        from panini.training.restorer import RestorerTraining
        from panini.training.udrl import UDRLTraining

    if network == Network.UDRL:
        UDRLTraining(configs.load(configs.UDRLConfig, config, overrides or ())).run()
    elif network == Network.RESTORER:
        RestorerTraining(configs.load(configs.RestorerConfig, config, overrides or ())).run()
    else:
        print(fit_picture(configs.load(configs.RestorerConfig, config, overrides or ())))


def ablate(config: Recipe, overrides: Overrides = None) -> None:
    """Train the paper's ablations, with equal compute.

    Prints their scores, and plots the weights with which DAFI mixes photo and prior, by damage.
    """
    with needs_train_extra("ablate"):
        from panini.training import config as configs
        from panini.training.ablation import ablate as compare

    print(compare(configs.load(configs.RestorerConfig, config, overrides or ())))
