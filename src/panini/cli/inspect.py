"""`panini inspect`: lists the faces in a photo and draws them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panini.cli.common import Device, MinFace, Salvage, count, load_restorer
from panini.errors import one_line
from panini.faces import MIN_FACE

_YELLOW = (255, 220, 0)
_READABLE = 48  # pixels: drawings are enlarged, at most four times, until each face is this wide
_SMALLEST_FONT = 16
_LARGEST = 100_000_000  # values: drawings are not enlarged beyond this size

if TYPE_CHECKING:
    from PIL import Image

    from panini.api import Restorer
    from panini.faces.detect import Face
    from panini.photo.io import Photo


def inspect(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Also write a picture with the faces numbered.")
    ] = None,
    min_face: MinFace = MIN_FACE,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    salvage: Salvage = False,
    device: Device = "auto",
) -> None:
    """List the faces in PHOTO, largest first.

    Prints the position and the damage of each, and the share of detail that a restoration would imagine.
    """
    from panini.api import FaceSettings
    from panini.photo import io as photo_io
    from panini.photo.color import is_monochrome
    from panini.photo.pixels import laplacian_variance
    from panini.photo.provenance import inspected
    from panini.report.face_report import describe

    photo_io.check_input(photo)
    if output is not None:
        photo_io.check_output(output, photo, overwrite=overwrite)
    restorer, loaded = load_restorer("default", min_face, device), photo_io.load(photo, salvage=salvage)
    faces, monochrome = restorer.detector(loaded.pixels), is_monochrome(loaded.pixels)
    height, width = loaded.pixels.shape[:2]
    print(f"{one_line(photo)}: {width}x{height}, {count(len(faces))}{_smaller(restorer)}")
    for number, face in enumerate(faces, 1):
        x, y, w, h = (round(v) for v in face.box)
        transform = restorer.transform(loaded.pixels, face)
        made = restorer.restore_face(loaded.pixels, face, transform, monochrome, FaceSettings(), {})
        print(
            f"{number:3}: box {x},{y},{w},{h}  score {face.score:.2f}  landmark error {face.spread:.0%} of the eye "
            f"distance  rotated {face.angle:+.0f} degrees  sharpness {laplacian_variance(made.before):.0f}"
        )
        print(f"     {describe(made.report)}")
    if output is not None:
        drawing = photo_io.load(draw(loaded, faces))
        drawing = replace(drawing, metadata=inspected(drawing.metadata))
        photo_io.save(drawing, output, overwrite=overwrite)


def _smaller(restorer: Restorer) -> str:
    number, limit = getattr(restorer.detector, "smaller", 0), getattr(restorer.detector, "min_face", 0)
    words = f"{count(number)} smaller than {limit:g} px; see --min-face"
    return f", {words}" if number else ""


def draw(photo: Photo, faces: list[Face]) -> Image.Image:
    """The photo with the faces' boxes, numbers and landmarks drawn in."""
    from PIL import Image, ImageDraw

    enlarge = _enlargement(faces, photo.pixels.size)
    image = Image.fromarray(photo.pixels)
    if enlarge > 1:
        image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for number, face in enumerate(faces, 1):
        x, y, w, h = (value * enlarge for value in face.box)
        line = max(1, round(w / 60))
        pen.rectangle((x, y, x + w, y + h), outline=_YELLOW, width=line)
        _write_number(pen, image.size, number, (x, y, w, h))
        for px, py in (face.landmarks * enlarge).tolist():
            r = max(1.0, w / 40)
            pen.ellipse((px - r, py - r, px + r, py + r), fill=(0, 230, 255))
    return image


def _enlargement(faces: list[Face], size: int) -> int:
    """The factor that makes the number on the smallest face readable. size: number of values in the photo."""
    smallest = min((face.box[2] for face in faces), default=_READABLE)
    return int(max(1, min(4, -(-_READABLE // smallest), (_LARGEST / size) ** 0.5)))


def _write_number(pen: Any, size: tuple[int, int], number: int, box: tuple[float, float, float, float]) -> None:
    """Writes the number of a face on a dark background, above its box or, if necessary, inside."""
    x, y, w, _ = box
    font = max(_SMALLEST_FONT, w / 6)
    left, top, right, bottom = pen.textbbox((0, 0), str(number), font_size=font)
    width, height = right - left + 4, bottom - top + 4
    at_x = min(max(x, 0), size[0] - width)
    at_y = y - height if y >= height else min(max(y, 0), size[1] - height)
    pen.rectangle((at_x, at_y, at_x + width, at_y + height), fill=(0, 0, 0))
    pen.text((at_x + 2 - left, at_y + 2 - top), str(number), fill=_YELLOW, font_size=font)
