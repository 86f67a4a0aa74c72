"""The command line: one function a verb, each thin. What it cannot do, it says in one line."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from panini import __version__
from panini.cli.research import VERBS
from panini.errors import PaniniError

app = typer.Typer(
    help="Restores the faces in a photo, and says how much of them is real.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Scale(StrEnum):
    """How many times larger the result is."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"panini {__version__}")
        raise typer.Exit


@app.callback()
def panini(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Restores the faces in a photo, and says how much of them is real."""


MinFace = Annotated[float, typer.Option(help="Width in pixels below which faces are left alone.")]
Looks = Annotated[
    int | None,
    typer.Option(
        metavar="1…8",
        help="Restore each face so many times and average: calmer, slower. By default 2 where noise or JPEG is found.",
    ),
]


@app.command()
def restore(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…|FOLDER|VIDEO", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Where to write, a folder for several photos; PHOTO-restored beside each if not given.",
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="FOLDER's folders too.")] = False,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="PHOTO is already a square face crop, of any size.")
    ] = False,
    scale: Annotated[Scale, typer.Option(help="Enlarge the whole photo.")] = Scale.ONE,
    only: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="This face alone, by its number in `panini inspect`. May repeat."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,W,H", help="The faces alone whose middle is in this box; may repeat."),
    ] = None,
    min_face: MinFace = 24,
    grain: Annotated[float, typer.Option(help="How much of the photo's grain to keep on faces, 0 to 1.")] = 0.0,
    background: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A super-resolution network (ONNX) for --scale, such as Real-ESRGAN."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the photo even if no face is found in it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    dial: Annotated[
        float, typer.Option(metavar="-1…1", help="-1: faithful to the photo; 1: realistic; 0: as the network judges.")
    ] = 0.0,
    dial_level: Annotated[
        int | None, typer.Option(metavar="4|8|…", help="Turn the dial at one resolution of the network alone.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Treat the faces as if damaged as in this other photo.")
    ] = None,
    strength: Annotated[float, typer.Option(metavar="0…1", help="Blend with the photo: 0 keeps it, 1 restores.")] = 1.0,
    looks: Looks = None,
    consistent: Annotated[
        bool | None,
        typer.Option(
            "--consistent/--no-consistent",
            help="Enlarging: made small again, the result is the photo. By default for small, clean --aligned faces.",
        ),
    ] = None,
    strip: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Write N settings of the dial side by side to PHOTO-strip.png, and nothing else."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Write before, after and a map of what is doubtful to OUT-explained.png, too."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print what is known of each face as JSON, a line for each of several photos."),
    ] = False,
    no_mark: Annotated[
        bool, typer.Option("--no-mark", help="Don't say in OUT's metadata that it was restored.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another weights file, as `panini export` writes it.")
    ] = None,
    engine: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore the faces in each PHOTO, in FOLDER or in VIDEO, and write them anew; originals stay as they are."""
    from panini.cli import terminal
    from panini.photo import io as images

    if weights is not None:
        if weights.suffix != ".safetensors":
            raise PaniniError(f"--weights wants a weights file, ….safetensors, not {weights}")
        engine = str(weights)
    if dial_level is not None and not dial:
        raise PaniniError("--dial-level wants --dial: at 0 there is nothing to turn")
    one_photo: dict[str, object] = {
        "aligned": aligned,
        "only": only,
        "box": box,
    }
    one_photo |= {"consistent": consistent is not None, "strip": strip, "explain": explain, "json": as_json}
    choices: dict[str, Any] = {"grain": grain, "dial": dial, "dial_level": dial_level, "strength": strength}
    photo, *others = photos
    if others:
        terminal.refuse("several photos", strip=strip)
        for path in photos:
            if images.is_folder(path) or images.is_video(path):
                raise PaniniError(f"{path} is no photo: name a folder or a video alone")
    if images.is_folder(photo):
        terminal.refuse("a folder", **one_photo, like=like)
        switches = {"recursive": recursive, "overwrite": overwrite, "mark": not no_mark}
        settings = {"scale": int(scale.value)} | choices
        terminal.restore_folder(photo, output, engine, min_face, looks, settings, background, **switches)
    elif images.is_video(photo):
        photos_only: dict[str, object] = {"scale": scale != Scale.ONE, "background": background, "keep": keep}
        terminal.refuse("a video", **one_photo, **photos_only, recursive=recursive)
        terminal.restore_clip(
            photo, output, engine, min_face, looks, overwrite=overwrite, mark=not no_mark, like=like, **choices
        )
    elif recursive:
        terminal.refuse("a photo", recursive=recursive)
    elif strip is not None:
        rest = {name: value for name, value in one_photo.items() if name not in ("aligned", "strip")}
        turns: dict[str, object] = {
            "like": like,
            "dial": dial,
            "dial-level": dial_level,
            "strength": strength < 1,
            "keep": keep,
        }
        terminal.refuse("--strip", **rest, **turns, grain=grain, scale=scale != Scale.ONE, background=background)
        terminal.write_strip(
            photo, output, engine, min_face, looks, strip, aligned=aligned, overwrite=overwrite, mark=not no_mark
        )
    else:
        terminal.restore_photos(
            photos,
            output,
            engine,
            min_face,
            looks,
            overwrite=overwrite,
            mark=not no_mark,
            explain=explain,
            as_json=as_json,
            background=background,
            aligned=aligned,
            scale=int(scale.value),
            keep=keep,
            only=only or (),
            boxes=[terminal.parse_box(text) for text in box or ()],
            like=like,
            consistent=consistent,
            **choices,
        )


@app.command()
def inspect(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Draw the faces into a picture.")
    ] = None,
    min_face: MinFace = 24,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """List the faces in PHOTO, largest first: where, how sure, what damage each has and how much would be imagined."""
    from panini.cli import terminal

    terminal.inspect(photo, output, min_face, overwrite=overwrite)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.")] = Path(
        "panini-demo"
    ),
    engine: Annotated[str, typer.Option(hidden=True)] = "default",
) -> None:
    """Restore a small bad photo that the package carries; writes before, after and both side by side."""
    from panini.api import Restorer
    from panini.cli.demo import run_demo
    from panini.cli.terminal import count
    from panini.inference import load_engine

    start = perf_counter()
    made = run_demo(output, Restorer(load_engine(engine)))
    print(f"before:       {made.before}")
    print(f"after:        {made.after} ({count(len(made.restoration.faces))}, {perf_counter() - start:.1f} s)")
    print(f"side by side: {made.side_by_side}")


for verb in VERBS:
    app.command()(verb)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs the command line and exits with its code; what fails is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may be no text in the terminal's encoding, or in any
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        result = app(arguments or ["--help"], prog_name="panini", standalone_mode=False)
        sys.stdout.flush()
        if result == 130:  # the library catches Ctrl-C and says nothing
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except PaniniError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output left; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return _fail("not enough memory", 2)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # how the command-line library words a usage error
        if usage is None:
            raise
        return _fail(usage().replace("Value error, ", ""), 2)


def _fail(message: str, code: int) -> int:
    print(f"panini: {' '.join(message.split())}", file=sys.stderr)
    return code
