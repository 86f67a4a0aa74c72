"""`panini devices`: the devices that can run the network on this machine, and their speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def devices(
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure a weights file written by `panini export`.")
    ] = None,
) -> None:
    """List the devices that can run the network. Measures the seconds per face of each."""
    from panini.inference.devices import measure, ways

    chosen = ways("auto")[0].name
    for way, found in measure(weights):
        took = f"{found:.3f} s per face" if isinstance(found, float) else f"fails: {found}"
        print(f"{way.name:10} {way.library:12} {took}{', used by auto' if way.name == chosen else ''}", flush=True)
