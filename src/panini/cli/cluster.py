"""`panini restore FOLDER --engine ray`: a folder or an object store, on one or many machines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from panini.cli.common import load_restorer
from panini.cli.restore import Loader, Output, run_folder
from panini.errors import PaniniError

if TYPE_CHECKING:
    from panini.api import RestoreOptions
    from panini.jobs.cluster import WorkerPool

_GPUS = ("cuda", "tensorrt", "migraphx", "xpu")
"""Devices that Ray hides from workers which do not reserve a GPU."""


def restore_on_cluster(
    load: Loader, source: Path, to: Output, options: RestoreOptions, pool: WorkerPool, recursive: bool
) -> None:
    """Restores a folder or an object store with Ray. Ctrl-C stops it; the same command resumes.

    Raises SomeFailedError at the end if files failed, StoppedError if the user stopped it.
    """
    from panini.inference.devices import ways
    from panini.jobs.cluster import ClusterJob, Plan, open_places

    if to.target is None:
        raise PaniniError(f"{source} is a folder: choose an output folder with -o")
    if not pool.gpus and load.device.removeprefix("torch:") in _GPUS:
        raise PaniniError(f"--engine ray --device {load.device} needs --worker-gpus, such as --worker-gpus 1")
    given, target = open_places(source, to.target)
    ways(load.device)  # raises PaniniError if the name is unknown
    restorer = replace(load, device="cpu")() if pool.gpus else load()  # this machine may lack the workers' GPUs
    restorer.prepare(options)
    maker = f"{restorer.engine.digest}, {load}"
    del restorer
    device = "cuda" if pool.gpus and load.device == "auto" else load.device
    make = partial(load_restorer, load.network, load.min_face, device, strict=pool.gpus > 0)
    start = perf_counter()
    plan = Plan(given, target, make, options, maker, to.mark, to.salvage, to.again)
    job = ClusterJob(plan, pool, recursive=recursive, overwrite=to.overwrite)
    run_folder(job, job.run, given.name, recursive, start)
