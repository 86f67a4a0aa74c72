"""`panini restore FOLDER --engine ray`: a folder or an object store, on one or many machines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from panini.cli.common import load_restorer
from panini.cli.restore import Loader, Output, print_folder, stop_gently, tell_entry
from panini.errors import PaniniError

if TYPE_CHECKING:
    from panini.api import RestoreOptions
    from panini.jobs.cluster import Crew


def restore_on_cluster(
    load: Loader, source: Path, to: Output, options: RestoreOptions, crew: Crew, recursive: bool
) -> None:
    """Restores a folder or an object store with Ray; Ctrl-C stops it, and the same command goes on.

    Raises SomeFailedError at the end if files failed, StoppedError if the user stopped it.
    """
    from rich.console import Console

    from panini.jobs.cluster import ClusterJob, Plan, open_places
    from panini.progress import Bar

    if to.target is None:
        raise PaniniError(f"{source} is a folder: name one for the results with -o")
    given, target = open_places(source, to.target)
    restorer = replace(load, device="cpu")()  # this machine may lack the device
    restorer.prepare(options)
    maker = f"{restorer.engine.digest}, {load}"
    del restorer
    device = "cuda" if crew.gpus and load.device == "auto" else load.device
    make = partial(load_restorer, load.network, load.min_face, device, strict=True)
    start = perf_counter()
    plan = Plan(given, target, make, options, maker, to.mark, to.salvage, to.again)
    job = ClusterJob(plan, crew, recursive=recursive, overwrite=to.overwrite)
    if not job.names and not job.unreadable:
        deeper = "" if recursive else " (-r looks into its folders too)"
        ours = f" but {job.ours} of Panini's own" if job.ours else ""
        raise PaniniError(f"there is no picture in {given.name}{ours}{deeper}")
    console = Console(stderr=True)
    with stop_gently() as stopped, Bar(console) as progress:
        bar = progress.add_task("restoring", total=len(job.todo))
        for done, entry in enumerate(job.run(stopped), 1):
            progress.reached(bar, done, len(job.todo))
            if entry.error or entry.note:
                tell_entry(progress.console, entry)
    for entry in job.unreadable:
        tell_entry(console, entry)
    print_folder(job, perf_counter() - start, stopped())
