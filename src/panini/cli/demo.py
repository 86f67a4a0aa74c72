"""`panini demo`: restores the sample photo in the package."""

from __future__ import annotations

from importlib import resources
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from panini.cli.common import count, load_restorer

SCALE = 2


def demo_photo() -> bytes:
    """A badly damaged JPEG of an album page. Its faces come from a GAN; see `tools/make_demo_photo.py`."""
    return resources.files("panini").joinpath("data", "demo.jpg").read_bytes()


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Output folder.")] = Path(
        "panini-demo"
    ),
    network: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore a sample photo. Writes the pictures before, after and side by side."""
    import numpy as np
    from PIL import Image

    from panini.files import make_folder, write_atomically
    from panini.photo import io as photo_io

    start = perf_counter()
    make_folder(output)
    before, after, both = (output / f"demo-{name}.jpg" for name in ("before", "after", "side-by-side"))
    for path in (before, after, both):
        photo_io.check_output(path, overwrite=True)
    photo = demo_photo()
    write_atomically(before, lambda file: file.write(photo))
    result = load_restorer(network).restore(photo, scale=SCALE)
    result.save(after, overwrite=True)
    enlarged = Image.open(BytesIO(photo)).resize(result.image.size, Image.Resampling.BICUBIC)
    photo_io.save(photo_io.load(np.hstack((np.asarray(enlarged), np.asarray(result.image)))), both, overwrite=True)
    print(f"before:       {before}")
    print(f"after:        {after} ({count(len(result.faces))}, {perf_counter() - start:.1f} s)")
    print(f"side by side: {both}")
