"""`panini calibrate`, `figures` and `probe`: what some weights do and know. They need the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import needs_train_extra

WeightsFile = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="A weights file; the package's own if not given.")
]


def calibrate(
    data: Annotated[Path, typer.Option("--data", metavar="FACES", help="Aligned faces to fit on: a folder or tars.")],
    validation: Annotated[Path, typer.Option("--validation", metavar="FOLDER", help="Other faces, to report on.")],
    weights: WeightsFile = None,
    count: Annotated[int, typer.Option(help="More is better and slower: 9 restorations each.")] = 64,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the dial's curve.")] = None,
) -> None:
    """Measure the dial, the damage and the share imagined of some weights; writes calibration.json beside them."""
    with needs_train_extra("calibrate"):
        from panini.evaluation.calibrate import calibrate as measure
        from panini.evaluation.calibrate import plot_dial
        from panini.evaluation.validation import load_truths
        from panini.training.data import Faces

    from panini.inference.onnx import OnnxEngine
    from panini.weights import DEFAULT
    from panini.weights.calibration import NAME

    path = DEFAULT if weights is None else weights
    made = measure(OnnxEngine(path), Faces.open(data), load_truths(validation), count)
    made.save(path.with_name(NAME))
    print(f"{path.with_name(NAME)}: for the weights {made.weights[:12]}")
    if plot is not None:
        plot_dial(made, plot)


def figures(
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces that were not trained on.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A folder to write to.")],
    weights: WeightsFile = None,
) -> None:
    """Draw how DAFI's weights move with the strength of each damage, and v_DR's clusters."""
    with needs_train_extra("figures"):
        from panini.evaluation.figures import write_figures
        from panini.evaluation.validation import load_truths

    from panini.weights import DEFAULT

    for path in write_figures(DEFAULT if weights is None else weights, load_truths(data), output):
        print(path)


def probe(
    encoders: Annotated[
        list[str], typer.Argument(metavar="[PRESET:]FILE…", help="best.pt of `panini train udrl`, or a weights file.")
    ],
    train: Annotated[Path, typer.Option("--train", metavar="FOLDER", help="Faces that probes are fitted on.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces that no training saw.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.")] = Path("probe"),
    count: Annotated[int, typer.Option(min=100, help="Damaged faces of each side.")] = 2000,
) -> None:
    """Show what degradation encoders know: a table of linear probes and neighbours, and a plot of v_DR by damage.

    An untrained encoder of each preset stands beside them.
    """
    with needs_train_extra("probe"):
        from panini.evaluation.probe import report
        from panini.evaluation.validation import load_truths
        from panini.training.data import Faces

    print(report(encoders, Faces.open(train), load_truths(data), output, count))
