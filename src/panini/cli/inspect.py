"""`panini inspect`: the faces of a photo as a list and as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panini.cli.common import DEFAULT_MIN_FACE, MinFace, load_restorer, one_line

if TYPE_CHECKING:
    from PIL import Image

    from panini.faces.detect import Face
    from panini.photo.io import Photo


def inspect(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Also write a picture with the faces marked.")
    ] = None,
    min_face: MinFace = DEFAULT_MIN_FACE,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """List the faces in PHOTO, largest first: place, score, damage, and how much a restoration would imagine."""
    from panini.api import FaceSettings
    from panini.photo import io as photo_io
    from panini.photo.color import is_monochrome
    from panini.photo.pixels import laplacian_variance
    from panini.report.face_report import describe

    photo_io.check_input(photo)
    if output is not None:
        photo_io.check_output(output, photo, overwrite=overwrite)
    restorer, loaded = load_restorer("default", min_face), photo_io.load(photo)
    faces, monochrome = restorer.detector(loaded.pixels), is_monochrome(loaded.pixels)
    height, width = loaded.pixels.shape[:2]
    print(f"{one_line(photo)}: {width}x{height}, {len(faces)} {'face' if len(faces) == 1 else 'faces'}")
    for number, face in enumerate(faces, 1):
        x, y, w, h = (round(v) for v in face.box)
        transform = restorer.transform(loaded.pixels, face)
        made = restorer.restore_face(loaded.pixels, face, transform, monochrome, FaceSettings(), {})
        print(
            f"{number:3}: box {x},{y},{w},{h}  score {face.score:.2f}  points within {face.spread:.0%} of the eyes' "
            f"distance  turned {face.angle:+.0f} degrees  sharpness {laplacian_variance(made.before):.0f}"
        )
        print(f"     {describe(made.report)}")
    if output is not None:
        photo_io.save(photo_io.load(draw(loaded, faces)), output, overwrite=overwrite)


def draw(photo: Photo, faces: list[Face]) -> Image.Image:
    """The photo with the faces' boxes, numbers and landmarks drawn in."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(photo.pixels)
    pen = ImageDraw.Draw(image)
    for number, face in enumerate(faces, 1):
        x, y, w, h = face.box
        line = max(1, round(w / 60))
        pen.rectangle((x, y, x + w, y + h), outline=(255, 220, 0), width=line)
        pen.text((x + 2 * line, y + line), str(number), fill=(255, 220, 0), font_size=max(10, w / 6))
        for px, py in face.landmarks.tolist():
            r = max(1.0, w / 40)
            pen.ellipse((px - r, py - r, px + r, py + r), fill=(0, 230, 255))
    return image
