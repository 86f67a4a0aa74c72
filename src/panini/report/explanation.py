"""Pictures that explain a restoration: before, after and a map of likely errors, or several results in a row."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from panini.errors import PaniniError
from panini.photo.pixels import Pixels, resize
from panini.report.face_report import FaceReport, describe

SIDE = 512  # side of each face in these pictures, in pixels
MOST = 40.0  # expected error, of 255, in the brightest color of the map
_LINE = 30
_FONT = 20
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


class ExplainableFace(Protocol):
    """The fields of `panini.api.RestoredFace` that are drawn."""

    @property
    def before(self) -> Pixels: ...
    @property
    def after(self) -> Pixels: ...
    @property
    def inside(self) -> NDArray[np.bool_]: ...
    @property
    def report(self) -> FaceReport: ...


def explanation(faces: Sequence[ExplainableFace]) -> Image.Image:
    """Draws a row for each face: before, after and the error map, with the text of the report below.

    Raises PaniniError if there is no face.
    """
    if not faces:
        raise PaniniError("there is no face to explain")
    rows = []
    for face in faces:
        before, after = (_to_side(picture) for picture in (face.before, face.after))
        panels = [before, after, *([] if face.report.map is None else [heat_map(face.report, after)])]
        titles = ["before", "after", f"expected error (dark: 0, bright: {MOST:.0f} of 255)"]
        rows.append(_captioned([_of_photo(p, face) for p in panels], titles, describe(face.report)))
    return _stacked(rows)


def heat_map(report: FaceReport, after: Pixels) -> Pixels:
    """Overlays the error map in color on the gray result [S, S, 3]. Without a map, returns the result."""
    if report.map is None:
        return after
    side = after.shape[0]
    levels = cv2.resize(report.map, (side, side), interpolation=cv2.INTER_CUBIC)
    heat = np.clip(levels * (255 / MOST), 0, 255).astype(np.uint8)
    colors = np.asarray(cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), np.uint8)[..., ::-1]
    gray = np.repeat(after.mean(2, keepdims=True), 3, 2)
    return np.rint(0.25 * gray + 0.75 * colors).astype(np.uint8)


def comparison(rows: Sequence[Sequence[ExplainableFace]], titles: Sequence[str]) -> Image.Image:
    """Draws a row for each face: its crop, then the results of several restorations, with these titles."""
    pages = []
    for same in rows:
        panels = [_to_side(picture) for picture in (same[0].before, *(face.after for face in same))]
        pages.append(_captioned([_of_photo(panel, same[0]) for panel in panels], titles, ""))
    return _stacked(pages)


def _to_side(picture: Pixels) -> Pixels:
    return resize(picture, SIDE, cv2.INTER_AREA if picture.shape[0] > SIDE else cv2.INTER_CUBIC)


def _of_photo(panel: Pixels, face: ExplainableFace) -> Pixels:
    """The panel, white where the crop lies outside the photo."""
    inside = cv2.resize(face.inside.astype(np.uint8), panel.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.where(inside[..., None] > 0, panel, np.uint8(255))


def _captioned(panels: Sequence[Pixels], titles: Sequence[str], sentence: str) -> Image.Image:
    width = SIDE * len(panels)
    lines = wrap(sentence, width // 11)
    page = Image.new("RGB", (width, _LINE + SIDE + _LINE * len(lines) + (_LINE // 2 if lines else 0)), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT)
    for i, (panel, title) in enumerate(zip(panels, titles, strict=False)):
        page.paste(Image.fromarray(panel), (i * SIDE, _LINE))
        draw.text((i * SIDE + 6, 3), title, _INK, font)
    for i, line in enumerate(lines):
        draw.text((6, _LINE + SIDE + 6 + i * _LINE), line, _INK, font)
    return page


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    page = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), _PAPER)
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page
