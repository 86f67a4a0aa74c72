"""Degraded copies of a folder of faces, with a manifest of the degradations."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from panini.degradation.recipes import DISTRIBUTIONS, draw
from panini.errors import PaniniError, one_line
from panini.photo import io as photo_io

MANIFEST = "manifest.json"


def degrade_folder(
    source: Path, target: Path, distribution: str, seed: int = 0, copies: int = 1
) -> list[dict[str, Any]]:
    """Writes `copies` degraded copies of every picture under `source` to the same relative path under `target`, as PNG.

    `target` must be new or empty; it is written atomically. Its manifest.json, also returned, lists `name`,
    `source`, `seed`, `degradation` (as `Degradation.to_dict`) and `words` of every copy.
    `Degradation.from_dict(entry["degradation"]).apply(picture, entry["seed"])` reproduces the copy. The damage of a
    picture depends on `seed`, its name and the number of the copy, not on the other files.

    Raises PaniniError for wrong arguments, folders and pictures, and for names that only differ in their suffix.
    """
    if distribution not in DISTRIBUTIONS:
        raise PaniniError(f"unknown distribution {distribution!r}: choose from {', '.join(DISTRIBUTIONS)}")
    if seed < 0 or copies < 1:
        raise PaniniError("the seed must be at least 0, the number of copies at least 1")
    if not source.is_dir():
        raise PaniniError(f"{source} is not a folder")
    pictures = sorted(path for path in source.rglob("*") if path.suffix.lower() in photo_io.FORMATS and path.is_file())
    if not pictures:
        raise PaniniError(f"there is no picture in {source}")
    work: Path | None = None
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise PaniniError(f"{target} exists already and is not an empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        entries = []
        for path, copy in itertools.product(pictures, range(copies)):
            relative = path.relative_to(source)
            name = relative.with_name(f"{relative.stem}-{copy}.png" if copies > 1 else f"{relative.stem}.png")
            if (work / name).exists():
                raise PaniniError(f"{path}: another picture has the same output name {name}")
            chance = np.random.SeedSequence([seed, zlib.crc32(os.fsencode(relative.as_posix())), copy])
            pixel_seed = int(chance.generate_state(1)[0])
            damage = draw(distribution, np.random.default_rng(chance))
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(damage.apply(photo_io.load(path).pixels, pixel_seed)).save(work / name)
            entries.append(
                {
                    "name": name.as_posix(),
                    "source": relative.as_posix(),
                    "seed": pixel_seed,
                    "degradation": damage.to_dict(),
                    "words": str(damage),
                }
            )
        (work / MANIFEST).write_text(json.dumps(entries, indent=1) + "\n", encoding="ascii")
        work.chmod(0o755)  # mkdtemp makes it private
        if target.exists():
            target.rmdir()
        work.replace(target)
    except OSError as error:
        raise PaniniError(f"{target} cannot be written: {one_line(error)}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return entries
