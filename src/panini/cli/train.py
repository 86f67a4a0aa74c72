"""`panini train`, `sample` and `ablate`: training and what it needs. They need the extra `train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import needs_train_extra

Recipe = Annotated[Path, typer.Option("--config", metavar="FILE", help="A recipe, such as configs/default.toml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a field of the recipe: steps=100, optimizer.lr=2e-4, … Repeatable."
    ),
]


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
        from panini.training.restoration import RestorationConfig, RestorationTraining
        from panini.training.udrl import UDRLConfig, UDRLTraining

    if network == Network.UDRL:
        UDRLTraining(configs.load(UDRLConfig, config, overrides or ())).run()
    else:
        RestorationTraining(configs.load(RestorationConfig, config, overrides or ())).run()


def ablate(config: Recipe, overrides: Overrides = None) -> None:
    """Train the paper's ablations at equal compute; print their scores and plot DAFI's weights by damage."""
    with needs_train_extra("ablate"):
        from panini.training import config as configs
        from panini.training.ablation import ablate as compare
        from panini.training.restoration import RestorationConfig

    print(compare(configs.load(RestorationConfig, config, overrides or ())))


def sample(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.")],
    count: Annotated[int, typer.Option(min=1, help="Number of faces.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same faces.")] = 0,
    prior: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file that import-prior reads. Default: the small prior.")
    ] = None,
) -> None:
    """Write faces sampled from the prior, with their latent codes, to train the restorer on (sampled=FOLDER)."""
    with needs_train_extra("sample"):
        from panini.training.sample import sample_faces
        from panini.weights.downloads import PRIOR, fetch
        from panini.weights.prior_wheel import load_prior

    sample_faces(load_prior(prior or fetch(PRIOR))[0], output, count, seed)
    print(f"{output}: {count} faces")
