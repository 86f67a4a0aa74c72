"""The faces of a photo at several settings of the dial, side by side."""

from __future__ import annotations

import numpy as np
from PIL import Image

from panini.api import Restoration, Restorer, Source
from panini.errors import PaniniError
from panini.report.explanation import comparison


def settings(count: int) -> list[float]:
    """`count` settings of the dial, evenly from -1 to 1. Raises PaniniError for fewer than 2 or more than 21."""
    if not 2 <= count <= 21:
        raise PaniniError(f"a strip must have 2 to 21 settings, not {count}")
    return [round(float(dial), 2) for dial in np.linspace(-1, 1, count)]


def strip(
    restorer: Restorer, image: Source, count: int = 5, *, aligned: bool = False
) -> tuple[Image.Image, Restoration]:
    """Restores a photo at `count` dial settings. Returns the picture and the last restoration.

    The picture has a row per face: the input, then the settings. Raises the errors of `Restorer.restore`.
    """
    results = [restorer.restore(image, aligned=aligned, dial=dial) for dial in settings(count)]
    titles = ["before", *(f"dial {dial:+g}" if dial else "dial 0" for dial in settings(count))]
    return comparison(list(zip(*(result.faces for result in results), strict=True)), titles), results[-1]
