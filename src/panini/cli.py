"""The command line: one function a verb, each thin. What it cannot do, it says in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from panini import __version__
from panini.errors import PaniniError

app = typer.Typer(
    help="Restores the faces in a photo, and says how much of them is real.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Scale(StrEnum):
    """How many times larger the result is."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"panini {__version__}")
        raise typer.Exit


@app.callback()
def panini(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Restores the faces in a photo, and says how much of them is real."""


MinFace = Annotated[float, typer.Option(help="Width in pixels below which faces are left alone.")]


@app.command()
def restore(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO|FOLDER|VIDEO", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Where to write; PHOTO-restored beside it if not given."),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="FOLDER's folders too.")] = False,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="PHOTO is already a square face crop, of any size.")
    ] = False,
    scale: Annotated[Scale, typer.Option(help="Enlarge the whole photo.")] = Scale.ONE,
    only: Annotated[
        list[int] | None, typer.Option(metavar="N", help="This face alone, by its number in `panini inspect`.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="X,Y,W,H", help="The faces alone whose middle is in this box.")
    ] = None,
    min_face: MinFace = 24,
    grain: Annotated[float, typer.Option(help="How much of the photo's grain to keep on faces, 0 to 1.")] = 0.0,
    background: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A super-resolution network (ONNX) for --scale, such as Real-ESRGAN."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the photo even if no face is found in it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    dial: Annotated[
        float, typer.Option(metavar="-1…1", help="-1: faithful to the photo; 1: realistic; 0: as the network judges.")
    ] = 0.0,
    dial_level: Annotated[
        int | None, typer.Option(metavar="4|8|…", help="Turn the dial at one resolution of the network alone.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Treat the faces as if damaged as in this other photo.")
    ] = None,
    strength: Annotated[float, typer.Option(metavar="0…1", help="Blend with the photo: 0 keeps it, 1 restores.")] = 1.0,
    consistent: Annotated[
        bool, typer.Option("--consistent", help="Enlarging: the result made small again is the photo.")
    ] = False,
    strip: Annotated[
        int | None, typer.Option(metavar="N", help="Write N settings of the dial side by side, and nothing else.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write before, after and a map of what is doubtful beside OUT, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is known of each face as JSON.")] = False,
    no_mark: Annotated[
        bool, typer.Option("--no-mark", help="Don't say in OUT's metadata that it was restored.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another weights file, as `panini export` writes it.")
    ] = None,
    engine: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore the faces in PHOTO, in those of FOLDER, or in VIDEO, and write them anew; originals stay as they are."""
    from panini import images, terminal

    if weights is not None:
        engine = str(weights)
    if dial_level is not None and not dial:
        raise PaniniError("--dial-level wants --dial: at 0 there is nothing to turn")
    one_photo: dict[str, object] = {
        "aligned": aligned,
        "only": only,
        "box": box,
    }
    one_photo |= {"consistent": consistent, "strip": strip, "explain": explain, "json": as_json}
    choices: dict[str, Any] = {"grain": grain, "dial": dial, "dial_level": dial_level, "strength": strength}
    if images.is_folder(photo):
        terminal.refuse("a folder", **one_photo, like=like)
        switches = {"recursive": recursive, "overwrite": overwrite, "mark": not no_mark}
        settings = {"scale": int(scale.value)} | choices
        terminal.restore_folder(photo, output, engine, min_face, settings, background, **switches)
    elif images.is_video(photo):
        photos_only: dict[str, object] = {"scale": scale != Scale.ONE, "background": background, "keep": keep}
        terminal.refuse("a video", **one_photo, **photos_only, recursive=recursive)
        terminal.restore_clip(
            photo, output, engine, min_face, overwrite=overwrite, mark=not no_mark, like=like, **choices
        )
    elif strip is not None:
        others = {name: value for name, value in one_photo.items() if name not in ("aligned", "strip")}
        turns = {"like": like, "dial": dial, "dial-level": dial_level, "strength": strength < 1}
        terminal.refuse("--strip", **others, **turns, grain=grain, scale=scale != Scale.ONE, background=background)
        terminal.write_strip(photo, output, engine, min_face, strip, aligned=aligned, overwrite=overwrite)
    else:
        terminal.restore_photo(
            photo,
            output,
            engine,
            min_face,
            overwrite=overwrite,
            mark=not no_mark,
            explain=explain,
            as_json=as_json,
            background=background,
            aligned=aligned,
            scale=int(scale.value),
            keep=keep,
            only=only or (),
            boxes=[terminal.parse_box(text) for text in box or ()],
            like=like,
            consistent=consistent,
            **choices,
        )


@app.command()
def inspect(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Draw the faces into a picture.")
    ] = None,
    min_face: MinFace = 24,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """List the faces in PHOTO, largest first: where and how sure, and what damage each has."""
    from panini import terminal

    terminal.inspect(photo, output, min_face, overwrite=overwrite)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.")] = Path(
        "panini-demo"
    ),
    engine: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore a small bad photo that the package carries; writes before, after and both side by side."""
    from panini.demo import run_demo
    from panini.engine import load_engine
    from panini.restorer import Restorer
    from panini.terminal import count

    start = perf_counter()
    made = run_demo(output, Restorer(load_engine(engine)))
    print(f"before:       {made.before}")
    print(f"after:        {made.after} ({count(len(made.restoration.faces))}, {perf_counter() - start:.1f} s)")
    print(f"side by side: {made.side_by_side}")


@app.command()
def degrade(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A new or empty folder.")],
    distribution: Annotated[str, typer.Option(help="What damage to draw: paper, wild or sr16.")] = "paper",
    seed: Annotated[int, typer.Option(help="The same seed makes the same damage.")] = 0,
    copies: Annotated[int, typer.Option(help="How many of each picture.")] = 1,
) -> None:
    """Write degraded copies of the face crops in FOLDER, and a manifest of what was done to each."""
    from panini.degrade_folder import MANIFEST, degrade_folder

    entries = degrade_folder(folder, output, distribution, seed, copies)
    print(f"{output}: {len(entries)} pictures, described in {output / MANIFEST}")


@app.command()
def import_prior(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="SOURCE with the suffix .safetensors if not given."),
    ] = None,
) -> None:
    """Turn SOURCE, a random-face wheel or a StyleGAN2 checkpoint, into a safetensors file of the prior in it."""
    with _needs_train_extra("import-prior"):
        from panini import prior_wheel

    target = source.with_suffix(".safetensors") if output is None else output
    origin = prior_wheel.import_prior(source, target)
    print(f"{target}: {' '.join(filter(None, (origin.name, origin.version)))}, sha256 {origin.sha256}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write; CHECKPOINT's if not given.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Of what preset a training checkpoint is.")] = "default",
    samples: Annotated[int | None, typer.Option(help="How many samples training has seen, to be noted.")] = None,
) -> None:
    """Write the ONNX graphs of CHECKPOINT, a weights file; of a training checkpoint (.pt), weights and graphs."""
    try:
        from panini.export import export as write
    except ModuleNotFoundError as error:
        raise PaniniError(f"export needs {error.name}: pip install 'panini[train]'") from error

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


@app.command()
def train(
    network: Annotated[Network, typer.Argument(show_default=False)],
    config: Recipe,
    overrides: Overrides = None,
) -> None:
    """Train the degradation encoder (udrl) or the restorer; the same command goes on with a run that was stopped."""
    with _needs_train_extra("train"):
        from panini.training import config as configs
        from panini.training.restoration import RestorationConfig, RestorationTraining
        from panini.training.udrl import UDRLConfig, UDRLTraining

    if network == Network.UDRL:
        UDRLTraining(configs.load(UDRLConfig, config, overrides or ())).run()
    else:
        RestorationTraining(configs.load(RestorationConfig, config, overrides or ())).run()


@app.command()
def ablate(config: Recipe, overrides: Overrides = None) -> None:
    """Train the paper's ablations at equal compute; print their scores and plot DAFI's weights by damage."""
    with _needs_train_extra("ablate"):
        from panini.evaluation.ablation import ablate as compare
        from panini.training import config as configs
        from panini.training.restoration import RestorationConfig

    print(compare(configs.load(RestorationConfig, config, overrides or ())))


@app.command()
def sample(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.")],
    count: Annotated[int, typer.Option(min=1, help="How many faces.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same faces.")] = 0,
    prior: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What import-prior reads; the small prior if not given.")
    ] = None,
) -> None:
    """Write faces sampled from the prior, with their latents, for the restorer to learn from (sampled=FOLDER)."""
    with _needs_train_extra("sample"):
        from panini.prior_wheel import load_prior
        from panini.training.sample import sample_faces
        from panini.wheels import PRIOR, fetch_wheel

    sample_faces(load_prior(prior or fetch_wheel(PRIOR))[0], output, count, seed)
    print(f"{output}: {count} faces")


@app.command()
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
    with _needs_train_extra("probe"):
        from panini.evaluation.probe import report

    print(report(encoders, train, data, output, count))


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


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="manifest.json, gt/, mfr/, sr16/; or faces.")],
    tasks: Annotated[list[Task] | None, typer.Option("--task", help="May be given again; mfr and sr16 if not.")] = None,
    engine: Annotated[str, typer.Option(help="default or bicubic.")] = "default",
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Another weights file, run in PyTorch.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="FOLDER", help="Score these pictures, called as the inputs are.")
    ] = None,
    dial: Annotated[float, typer.Option(metavar="-1…1", help="From faithful to realistic.")] = 0.0,
    consistent: Annotated[
        bool, typer.Option("--consistent", help="For sr16: results that shrink to the input.")
    ] = False,
    part: Annotated[
        Part, typer.Option(help="Which names: even ones choose between recipes, odd ones report.")
    ] = Part.ALL,
    limit: Annotated[int | None, typer.Option("--faces", metavar="N", help="At most so many of a task.")] = None,
    seed: Annotated[int, typer.Option(help="Of damage that is drawn, and of the confidence intervals.")] = 0,
    as_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every face's scores.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as data.")] = None,
    chart: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write a bar chart.")] = None,
    look: Annotated[Path | None, typer.Option("--grid", metavar="FILE", help="Write ten faces to look at.")] = None,
) -> None:
    """Print how near restored faces come to the truth beside their inputs, by kind and strength of damage."""
    with _needs_train_extra("evaluate"):
        from panini.evaluation import table
        from panini.evaluation.validation import Face

    from panini.engine import load_engine
    from panini.pixels import Pixels
    from panini.restorer import Restorer

    digest = ""
    if results is not None:
        restored = table.results_of(results)
    else:
        if weights is None:
            runner = load_engine(engine)
        else:
            from panini.engine.torch import TorchEngine

            runner = TorchEngine(weights)
        restorer = Restorer(runner)
        digest = runner.digest

        def restored(case: Face) -> Pixels:
            return restorer.restore(case.given, aligned=True, dial=dial, consistent=consistent).photo.pixels

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
    print(table.markdown(found))
    if as_csv is not None:
        table.write_csv(as_csv, rows)
    if as_json is not None:
        settings = {"version": __version__, "weights": digest, "dial": dial, "consistent": consistent, "seed": seed}
        table.write_json(as_json, found, settings | {"results": None if results is None else str(results)})
    if chart is not None:
        table.plot(chart, found)
    if look is not None:
        table.write_grid(rows, look)


@app.command()
def calibrate(
    data: Annotated[Path, typer.Option("--data", metavar="FACES", help="Aligned faces to fit on: a folder or tars.")],
    validation: Annotated[Path, typer.Option("--validation", metavar="FOLDER", help="Other faces, to report on.")],
    weights: WeightsFile = None,
    count: Annotated[int, typer.Option(help="More is better and slower: 9 restorations each.")] = 64,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the dial's curve.")] = None,
) -> None:
    """Measure the dial, the damage and the share imagined of some weights; writes calibration.json beside them."""
    with _needs_train_extra("calibrate"):
        from panini.evaluation.calibrate import calibrate as measure
        from panini.evaluation.calibrate import plot_dial
        from panini.evaluation.validation import load_truths
        from panini.training.data import Faces

    from panini.calibration import NAME
    from panini.engine.onnx import OnnxEngine
    from panini.weights import DEFAULT

    path = DEFAULT if weights is None else weights
    made = measure(OnnxEngine(path), Faces.open(data), load_truths(validation), count)
    made.save(path.with_name(NAME))
    print(f"{path.with_name(NAME)}: for the weights {made.weights[:12]}")
    if plot is not None:
        plot_dial(made, plot)


@app.command()
def figures(
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Faces that were not trained on.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A folder to write to.")],
    weights: WeightsFile = None,
) -> None:
    """Draw how DAFI's weights move with the strength of each damage, and v_DR's clusters."""
    with _needs_train_extra("figures"):
        from panini.evaluation.figures import write_figures
        from panini.evaluation.validation import load_truths

    from panini.weights import DEFAULT

    for path in write_figures(DEFAULT if weights is None else weights, load_truths(data), output):
        print(path)


@contextmanager
def _needs_train_extra(verb: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise PaniniError(f"{verb} needs {error.name}: pip install 'panini[train]'") from error


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs the command line and exits with its code; what fails is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may be no text in the terminal's encoding, or in any
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        result = app(arguments or ["--help"], prog_name="panini", standalone_mode=False)
        sys.stdout.flush()
        if result == 130:  # the library catches Ctrl-C and says nothing
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except PaniniError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output left; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return _fail("not enough memory", 2)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # how the command-line library words a usage error
        if usage is None:
            raise
        return _fail(usage().replace("Value error, ", ""), 2)


def _fail(message: str, code: int) -> int:
    print(f"panini: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
