"""`panini devices`: what can run the network here, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def devices(
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure another weights file, written by `panini export`.")
    ] = None,
) -> None:
    """List what can run the network here, for `--device`, with the seconds that one face takes."""
    from panini.inference.devices import measure, ways

    chosen = ways("auto")[0].name
    for way, found in measure(weights):
        took = f"{found:.3f} s per face" if isinstance(found, float) else f"fails: {found}"
        print(
            f"{way.name:10} {way.library:12} {took}{', the choice of auto' if way.name == chosen else ''}", flush=True
        )
