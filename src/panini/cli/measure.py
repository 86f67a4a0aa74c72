"""`panini calibrate`, `figures` and `probe`: measure trained weights. They need the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import needs_train_extra

WeightsFile = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="Weights file. Default: the weights in the package.")
]


def calibrate(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="FACES", help="Aligned faces to fit on: pictures or tar files in a folder."),
    ],
    validation: Annotated[
        Path, typer.Option("--validation", metavar="FOLDER", help="Other faces, to measure the calibration error on.")
    ],
    weights: WeightsFile = None,
    count: Annotated[int, typer.Option(help="Number of samples; each needs 9 restorations.")] = 64,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Plot the curve of the dial.")] = None,
) -> None:
    """Calibrate the dial and the report for a weights file. Writes calibration.json next to it."""
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
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces not used in training.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Output folder.")],
    weights: WeightsFile = None,
) -> None:
    """Plot how a network responds to damage.

    Plots the weights with which DAFI mixes photo and prior by strength of damage, the clusters of v_DR (the network's
    description of the damage), and the gains of deblurring.
    """
    with needs_train_extra("figures"):
        from panini.evaluation.figures import write_figures
        from panini.evaluation.validation import load_truths

    from panini.weights import DEFAULT

    for path in write_figures(DEFAULT if weights is None else weights, load_truths(data), output):
        print(path)


def probe(
    encoders: Annotated[
        list[str], typer.Argument(metavar="[PRESET:]FILE…", help="best.pt from `panini train udrl`, or a weights file.")
    ],
    train: Annotated[Path, typer.Option("--train", metavar="FOLDER", help="Faces to fit the probes on.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces not used in training.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Output folder.")] = Path("probe"),
    count: Annotated[int, typer.Option(min=100, help="Number of degraded faces to fit on, and to test on.")] = 2000,
) -> None:
    """Evaluate degradation encoders.

    Fits linear probes of v_DR (the encoder's description of the damage), compares nearest neighbors, and plots v_DR by
    damage. The table includes an untrained encoder of each preset as a baseline.
    """
    with needs_train_extra("probe"):
        from panini.evaluation.probe import report
        from panini.evaluation.validation import load_truths
        from panini.training.data import Faces

    print(report(encoders, Faces.open(train), load_truths(data), output, count))
