"""The reports of a restored folder: `report.json`, and `report.html`, which opens offline."""

from __future__ import annotations

import hashlib
import html
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image

from panini.api import Restoration
from panini.errors import PaniniError
from panini.files import write_atomically
from panini.jobs.journal import COPIED, FAILED, RESTORED, Entry
from panini.photo.pixels import resize
from panini.report.face_report import share_in_words

_HEIGHT = 160  # pixels: height of a thumbnail


def thumbnail(made: Restoration, folder: Path, name: str) -> str:
    """Writes a thumbnail of the photo and its largest face before and after. Returns its path in the output."""
    pixels = made.photo.pixels
    width = min(3 * _HEIGHT, max(1, round(_HEIGHT * pixels.shape[1] / pixels.shape[0])))
    parts = [np.asarray(cv2.resize(pixels, (width, _HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)]
    for crop in (crop for face in made.faces[:1] for crop in (face.before, face.after)):
        parts += [np.full((_HEIGHT, 4, 3), 255, np.uint8), resize(crop, _HEIGHT, cv2.INTER_AREA)]
    strip = Image.fromarray(np.hstack(parts))
    path = folder / thumbnail_name(name)
    write_atomically(path, lambda file: strip.save(file, "JPEG", quality=85))
    return f"{folder.name}/{path.name}"


def thumbnail_name(name: str) -> str:
    """The name of the thumbnail for the photo with this relative name."""
    return f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.jpg"


def report_paths(target: Path) -> list[Path]:
    """The paths of the reports in an output folder."""
    return [target / "report.json", target / "report.html"]


def write_reports(source: Path | str, target: Path, summary: Mapping[str, Any], entries: list[Entry]) -> list[Path]:
    """Writes both reports into the output folder `target`. Returns their paths. Raises PaniniError.

    source: the folder of the originals, or its URL. summary: from `FolderJob.summary`.
    """

    def as_json(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="ascii", write_through=True)
        json.dump({**summary, "files": [asdict(entry) for entry in entries]}, text, indent=1)
        text.detach()

    def as_html(file: IO[bytes]) -> None:
        for part in _page(source, target, summary, entries):
            file.write(part.encode("utf-8", "replace"))

    paths = report_paths(target)
    try:
        for path, write in zip(paths, (as_json, as_html), strict=True):
            write_atomically(path, write)
    except OSError as error:
        raise PaniniError(f"the report cannot be written to {target}: {error.strerror}") from error
    return paths


def _skipped(others: int, ours: int) -> str:
    """Sentences about the files that were skipped."""
    counts = ((ours, "made by Panini"), (others, "of other types"))
    return " ".join(f"Skipped {n} {'file' if n == 1 else 'files'} {what}." for n, what in counts if n)


def _page(source: Path | str, target: Path, summary: Mapping[str, Any], entries: list[Entry]) -> list[str]:
    def link(path: Path | str, words: str) -> str:
        if isinstance(path, str):
            address = quote(path, safe="/:")
        else:
            address = quote(os.fsencode(os.path.relpath(path, target)).replace(os.sep.encode(), b"/"))
        return f'<a href="{address}">{html.escape(words)}</a>'

    failures = [entry for entry in entries if entry.outcome == FAILED]
    parts = [
        _HEAD,
        f"<h1>{html.escape(str(source))}</h1><p>{summary['restored']} restored ({summary['faces']} faces), "
        f"{summary['copied']} without a face copied, {summary['failed']} failed; {summary['seconds']} s in this run. "
        f"{_skipped(summary['other_files'], summary['own_files'])}</p>",
    ]
    if failures:
        rows = (f"<tr><td>{html.escape(e.source)}<td>{html.escape(e.error)}" for e in failures)
        parts.append(f"<h2>Failed: no new results</h2><table>{''.join(rows)}</table>")
    parts.append("<h2>Restored</h2><p>Each photo, with its largest face before and after.</p><main>")
    for entry in entries:
        if entry.outcome == RESTORED:
            shares = [face["imagined"] for face in entry.faces if face.get("imagined") is not None]
            imagined = f", {share_in_words(float(np.mean(shares)))} of the detail imagined" if shares else ""
            sentence = entry.faces[0].get("summary", "")
            result = link(target / entry.output, entry.output)
            picture = f'<img loading="lazy" src="{quote(entry.thumbnail)}" alt="">' if entry.thumbnail else ""
            there = f"{source}/{entry.source}" if isinstance(source, str) else source / entry.source
            original = link(there, "original")
            parts.append(
                f"<figure>{picture}<figcaption>{result} ({original}), "
                f"{len(entry.faces)} {'face' if len(entry.faces) == 1 else 'faces'}{imagined}, {entry.seconds:.1f} s"
                f"{f'; <b>{html.escape(entry.note)}</b>' if entry.note else ''}"
                f"{f'<br>{html.escape(sentence)}' if sentence else ''}"
                "</figcaption></figure>"
            )
    parts.append("</main>")
    copied = [entry for entry in entries if entry.outcome == COPIED]
    if copied:
        rows = (f"<li>{link(target / entry.output, entry.output)}" for entry in copied)
        parts.append(f"<h2>No face found</h2><ul>{''.join(rows)}</ul>")
    return parts


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Panini</title><style>
:root { color-scheme: light dark }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; overflow-wrap: anywhere }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26em), 1fr)); gap: 1.5em }
figure { margin: 0 } figcaption { font-size: 13px }
img { display: block; max-width: 100%; margin-bottom: .3em }
td { padding: 0 1em .3em 0; vertical-align: top; min-width: 6em }
</style>"""
