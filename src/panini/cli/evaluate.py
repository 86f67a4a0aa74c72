"""`panini evaluate`: scores restored faces against the ground truth. Needs the extra `train`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panini import __version__
from panini.cli.common import needs_train_extra
from panini.errors import PaniniError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from panini.api import RestoreOptions
    from panini.evaluation import table
    from panini.inference import Engine


class Part(StrEnum):
    """The subset of the validation faces."""

    ALL = "all"
    EVEN = "even"
    ODD = "odd"


class Task(StrEnum):
    """The damage to undo."""

    MFR = "mfr"
    SR16 = "sr16"
    HEAVY = "heavy"
    WILD = "wild"


def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Validation faces (manifest.json, gt/, mfr/, sr16/), or sharp faces to degrade.",
        ),
    ],
    tasks: Annotated[
        list[Task] | None,
        typer.Option(
            "--task",
            help="mfr: the paper's mixed damage; sr16: 16x super-resolution; heavy: the strongest damage; "
            "wild: more steps of damage. Repeatable. Default: mfr and sr16.",
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine to score: default or bicubic.")] = "default",
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Score a weights file, run in PyTorch.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FOLDER",
            help="Score the results of another method. Needs one --task; each file has the name of its input.",
        ),
    ] = None,
    dial: Annotated[float, typer.Option(metavar="-1…1", help="Faithful (-1) to realistic (1); see `restore`.")] = 0.0,
    consistent: Annotated[
        bool | None,
        typer.Option("--consistent/--no-consistent", help="Match the input when downsampled; see `restore`."),
    ] = None,
    passes: Annotated[int, typer.Option(metavar="1…8", help="Number of passes per face; see `restore`.")] = 1,
    part: Annotated[
        Part, typer.Option(help="Subset of faces: even names to choose a recipe, odd names to report its scores.")
    ] = Part.ALL,
    limit: Annotated[int | None, typer.Option("--faces", metavar="N", min=1, help="Use at most N per task.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for damage and confidence intervals.")] = 0,
    beside: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare with the --json file of an earlier run, or docs/scores.json."),
    ] = None,
    as_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the scores per face.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON.")] = None,
    chart: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write a bar chart.")] = None,
    sheet: Annotated[Path | None, typer.Option("--grid", metavar="FILE", help="Write a picture of ten faces.")] = None,
) -> None:
    """Score restored faces against their originals. Also scores the inputs, by type and strength of damage."""
    # Long, because each option of the command line is an argument.
    with needs_train_extra("evaluate"):
        from panini.evaluation import table

    from panini.api import RestoreOptions

    if results is not None and len(tasks or ()) != 1:
        raise PaniniError("--results needs exactly one --task, because faces of different tasks share their names")
    earlier = None if beside is None else table.read_json(beside)
    options = RestoreOptions(aligned=True, dial=dial, consistent=consistent, passes=passes)
    runner = _engine(engine, weights) if results is None else None
    restored = _restorer(runner, options) if runner is not None else table.results_of(results or data)
    rows: list[table.Scored] = []
    found: list[table.Group] = []
    for task in tasks or (Task.MFR, Task.SR16):
        faces = table.cases(data, task.value, seed, limit, part.value)
        scored = _score(restored, faces, task.value)
        named = [replace(group, name=f"{task.value}: {group.name}") for group in table.groups(scored, seed)]
        rows, found = [*rows, *scored], [*found, *named]
    print(table.markdown(found, earlier))
    settings = {
        "version": __version__,
        "weights": "" if runner is None else runner.digest,
        "dial": dial,
        "consistent": consistent,
        "passes": passes,
        "seed": seed,
        "results": None if results is None else str(results),
    }
    if as_csv is not None:
        table.write_csv(as_csv, rows)
    if as_json is not None:
        table.write_json(as_json, found, settings)
    if chart is not None:
        table.plot(chart, found)
    if sheet is not None:
        table.write_grid(rows, sheet)


def _engine(name: str, weights: Path | None) -> Engine:
    from panini.inference import load_engine

    if weights is None:
        return load_engine(name)
    from panini.inference.torch import TorchEngine

    return TorchEngine(weights)


def _restorer(engine: Engine, options: RestoreOptions) -> table.Restore:
    from panini.api import Restorer

    restorer = Restorer(engine)
    return lambda case: restorer.restore(case.given, options).photo.pixels


def _score(restored: table.Restore, faces: Sequence[Any], task: str) -> list[table.Scored]:
    """Scores each face, with a progress bar on stderr."""
    from rich.console import Console

    from panini.evaluation import table
    from panini.progress import Bar

    with Bar(Console(stderr=True)) as progress:
        bar = progress.add_task(task, total=len(faces))
        return table.score(restored, faces, lambda done, count: progress.reached(bar, done, count))
