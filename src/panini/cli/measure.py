"""`panini calibrate`, `figures` and `probe`: measurements of weights. They need the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import needs_train_extra

WeightsFile = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="A weights file. Default: the package's own.")
]


def calibrate(
    data: Annotated[
        Path, typer.Option("--data", metavar="FACES", help="Aligned faces to fit on: a folder, or tar files.")
    ],
    validation: Annotated[
        Path, typer.Option("--validation", metavar="FOLDER", help="Other faces, to measure the quality on.")
    ],
    weights: WeightsFile = None,
    count: Annotated[int, typer.Option(help="Number of samples; each takes 9 restorations.")] = 64,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve of the dial.")] = None,
) -> None:
    """Measure the dial and the report's predictions for some weights; writes calibration.json beside them."""
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
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces that training did not use.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A folder to write to.")],
    weights: WeightsFile = None,
) -> None:
    """Draw DAFI's weights over the strength of each damage, and the clusters of v_DR."""
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
    train: Annotated[Path, typer.Option("--train", metavar="FOLDER", help="Faces to fit the probes on.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces that training did not use.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.")] = Path("probe"),
    count: Annotated[int, typer.Option(min=100, help="Number of damaged faces, for fitting and for testing.")] = 2000,
) -> None:
    """Show what degradation encoders encode: a table of linear probes and neighbors, and plots of v_DR by damage.

    The table also has an untrained encoder of each preset.
    """
    with needs_train_extra("probe"):
        from panini.evaluation.probe import report
        from panini.evaluation.validation import load_truths
        from panini.training.data import Faces

    print(report(encoders, Faces.open(train), load_truths(data), output, count))
