"""`panini demo`: restores the small photo that comes with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from panini.cli.common import count, load_restorer
from panini.errors import PaniniError

if TYPE_CHECKING:
    from panini.api import Restoration, Restorer

SCALE = 2


@dataclass(frozen=True)
class Demo:
    """The three files that were written, and the restoration behind them."""

    before: Path
    after: Path
    side_by_side: Path
    restoration: Restoration


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.")] = Path(
        "panini-demo"
    ),
    engine: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore a sample photo that comes with the package; write before, after and both side by side."""
    start = perf_counter()
    made = run_demo(output, load_restorer(engine))
    print(f"before:       {made.before}")
    print(f"after:        {made.after} ({count(len(made.restoration.faces))}, {perf_counter() - start:.1f} s)")
    print(f"side by side: {made.side_by_side}")


def demo_photo() -> bytes:
    """A badly damaged JPEG of an album page. Its faces come from a GAN; see `tools/make_demo_photo.py`."""
    return resources.files("panini").joinpath("data", "demo.jpg").read_bytes()


def run_demo(folder: Path, restorer: Restorer) -> Demo:
    """Restores the demo photo at twice its size and writes before, after and both side by side into `folder`.

    Creates the folder if need be and replaces an earlier demo. Raises PaniniError if it cannot be written to.
    """
    from PIL import Image

    from panini.files import write_atomically
    from panini.photo import io as photo_io

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PaniniError(f"{folder} is no folder to write to: {error.strerror}") from error
    before, after, both = (folder / f"demo-{name}.jpg" for name in ("before", "after", "side-by-side"))
    for path in (before, after, both):
        photo_io.check_output(path, overwrite=True)

    data = demo_photo()
    restoration = restorer.restore(Image.open(BytesIO(data)), scale=SCALE)
    write_atomically(before, lambda file: file.write(data))
    restoration.save(after, overwrite=True)
    right = restoration.image
    page = Image.new("RGB", (2 * right.width, right.height))
    page.paste(Image.open(BytesIO(data)).resize(right.size, Image.Resampling.BICUBIC), (0, 0))
    page.paste(right, (right.width, 0))
    photo_io.save(photo_io.load(page), both, overwrite=True)
    return Demo(before, after, both, restoration)
