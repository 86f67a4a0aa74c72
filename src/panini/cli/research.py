"""The command line's verbs for researchers and developers, each thin; most want the extra `train`."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from panini import __version__
from panini.cli.common import needs_train_extra
from panini.errors import PaniniError


def degrade(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A new or empty folder.")],
    distribution: Annotated[str, typer.Option(help="What damage to draw: paper, wild or sr16.")] = "paper",
    seed: Annotated[int, typer.Option(help="The same seed makes the same damage.")] = 0,
    copies: Annotated[int, typer.Option(help="How many of each picture.")] = 1,
) -> None:
    """Write degraded copies of the face crops in FOLDER, and a manifest of what was done to each."""
    from panini.degradation.folder import MANIFEST, degrade_folder

    entries = degrade_folder(folder, output, distribution, seed, copies)
    print(f"{output}: {len(entries)} pictures, described in {output / MANIFEST}")


def import_prior(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="SOURCE with the suffix .safetensors if not given."),
    ] = None,
) -> None:
    """Turn SOURCE, a random-face wheel or a StyleGAN2 checkpoint, into a safetensors file of the prior in it."""
    with needs_train_extra("import-prior"):
        from panini.weights import prior_wheel

    target = source.with_suffix(".safetensors") if output is None else output
    origin = prior_wheel.import_prior(source, target)
    print(f"{target}: {' '.join(filter(None, (origin.name, origin.version)))}, sha256 {origin.sha256}")


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write; CHECKPOINT's if not given.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Of what preset a training checkpoint is.")] = "default",
    samples: Annotated[int | None, typer.Option(help="How many samples training has seen, to be noted.")] = None,
) -> None:
    """Write the ONNX graphs of CHECKPOINT, a weights file; of a training checkpoint (.pt), weights and graphs."""
    with needs_train_extra("export"):
        from panini.weights.export import export as write

    folder = checkpoint.parent if output is None else output
    weights = write(checkpoint, folder, preset, {} if samples is None else {"samples": str(samples)})
    for path in (weights, folder / "dre.onnx", folder / "restorer.onnx"):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


Recipe = Annotated[Path, typer.Option("--config", metavar="FILE", help="A recipe, such as configs/default.toml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of it: steps=100, optimizer.lr=2e-4, …"),
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
    """Train the degradation encoder (udrl) or the restorer; the same command goes on with a run that was stopped."""
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
    count: Annotated[int, typer.Option(min=1, help="How many faces.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same faces.")] = 0,
    prior: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What import-prior reads; the small prior if not given.")
    ] = None,
) -> None:
    """Write faces sampled from the prior, with their latents, for the restorer to learn from (sampled=FOLDER)."""
    with needs_train_extra("sample"):
        from panini.training.sample import sample_faces
        from panini.weights.downloads import PRIOR, fetch_wheel
        from panini.weights.prior_wheel import load_prior

    sample_faces(load_prior(prior or fetch_wheel(PRIOR))[0], output, count, seed)
    print(f"{output}: {count} faces")


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


WeightsFile = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="A weights file; the package's own if not given.")
]


class Part(StrEnum):
    """Of the validation faces."""

    ALL = "all"
    EVEN = "even"
    ODD = "odd"


class Task(StrEnum):
    """What is to be undone."""

    MFR = "mfr"
    SR16 = "sr16"
    WILD = "wild"


def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Validation faces (manifest.json, gt/, mfr/, sr16/), or sharp ones to damage.",
        ),
    ],
    tasks: Annotated[
        list[Task] | None,
        typer.Option(
            "--task",
            help="Mixed damage, 16 times smaller, as life has it; may be given again. If not: mfr and sr16.",
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="default or bicubic.")] = "default",
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Another weights file, run in PyTorch.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FOLDER",
            help="Score these results of anyone, of one --task; a face has its input's name.",
        ),
    ] = None,
    dial: Annotated[float, typer.Option(metavar="-1…1", help="From faithful to realistic.")] = 0.0,
    consistent: Annotated[
        bool | None,
        typer.Option("--consistent/--no-consistent", help="Results that shrink to the input; see `restore`."),
    ] = None,
    passes: Annotated[int | None, typer.Option(metavar="1…8", help="Over each face; see `restore`.")] = None,
    part: Annotated[
        Part, typer.Option(help="Which names: even ones choose between recipes, odd ones report.")
    ] = Part.ALL,
    limit: Annotated[int | None, typer.Option("--faces", metavar="N", min=1, help="At most so many of a task.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of damage that is drawn, and of the confidence intervals.")] = 0,
    beside: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Show an earlier run's results, too: its --json, or docs/scores.json."),
    ] = None,
    as_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every face's scores.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as data.")] = None,
    chart: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write a bar chart.")] = None,
    sheet: Annotated[Path | None, typer.Option("--grid", metavar="FILE", help="Write ten faces to look at.")] = None,
) -> None:
    """Print how near restored faces come to the truth beside their inputs, by kind and strength of damage."""
    with needs_train_extra("evaluate"):
        from panini.evaluation import table
        from panini.evaluation.validation import Face

    from panini.api import RestoreOptions, Restorer
    from panini.inference import load_engine
    from panini.photo.pixels import Pixels

    if results is not None and len(tasks or ()) != 1:
        raise PaniniError("--results wants one --task: the tasks' faces have the same names")
    digest = ""
    earlier = None if beside is None else table.read_json(beside)
    if results is not None:
        restored = table.results_of(results)
    else:
        if weights is None:
            runner = load_engine(engine)
        else:
            from panini.inference.torch import TorchEngine

            runner = TorchEngine(weights)
        restorer, options = (
            Restorer(runner),
            RestoreOptions(aligned=True, dial=dial, consistent=consistent, passes=passes),
        )
        digest = runner.digest

        def restored(case: Face) -> Pixels:
            return restorer.restore(case.given, options).photo.pixels

    def progress(done: int, count: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {count} faces", end="\n" if done == count else "", file=sys.stderr)

    rows: list[table.Scored] = []
    found: list[table.Group] = []
    for task in tasks or (Task.MFR, Task.SR16):
        faces = table.cases(data, task.value, seed, limit, part.value)
        scored = table.score(restored, faces, progress)
        named = [replace(group, name=f"{task.value}: {group.name}") for group in table.groups(scored, seed)]
        rows, found = [*rows, *scored], [*found, *named]
    print(table.markdown(found, earlier))
    if as_csv is not None:
        table.write_csv(as_csv, rows)
    if as_json is not None:
        settings = {
            "version": __version__,
            "weights": digest,
            "dial": dial,
            "consistent": consistent,
            "passes": passes,
            "seed": seed,
            "results": None if results is None else str(results),
        }
        table.write_json(as_json, found, settings)
    if chart is not None:
        table.plot(chart, found)
    if sheet is not None:
        table.write_grid(rows, sheet)


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


VERBS = (degrade, sample, train, ablate, export, import_prior, probe, evaluate, calibrate, figures)
"""In the order in which `panini --help` lists them."""
