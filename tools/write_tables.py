"""Puts what `panini evaluate` and `panini calibrate` printed into docs/results.md and the model card.

python tools/write_tables.py ODD ALL CALIBRATED

ODD and ALL: what `panini evaluate` printed for the faces with odd names (`--part odd`) and for all faces. The rows of
kinds of damage are those of ALL, because half of the kinds only have faces with even names.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS, CARD = ROOT / "docs/results.md", ROOT / "src/panini/weights/MODEL_CARD.md"
IN_THE_CARD = 5  # columns: group, faces, PSNR, SSIM, ST-LPIPS
DIAL = re.compile(
    r"dial ([+-][\d.]+): PSNR ([\d.]+) dB, detail ([\d.]+), .* ([\d.]+) \(features ([\d.]+), picture ([\d.]+)\)"
)


def put(path: Path, name: str, lines: list[str]) -> None:
    """Between the comments of that name; ValueError if they are not there."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, rest = path.read_text().split(begin)
    path.write_text(before + begin + "\n".join(lines) + end + rest.split(end)[1])


def with_kinds(odd: list[str], everything: list[str]) -> list[str]:
    """The rows of `odd`, with those of kinds of damage taken from `everything`, after the row of all faces."""
    kinds = [row for row in everything if _is_kind(row)]
    rows = []
    for row in odd:
        if not _is_kind(row):
            rows.append(row)
        if _name(row).endswith(": all"):
            task = _name(row).removesuffix("all")
            rows += [kind for kind in kinds if _name(kind).startswith(task)]
    return rows


def means(everything: list[str]) -> list[str]:
    """The table of the means over all faces, from the rows "TASK: all"."""
    titles, rows = [cell.strip() for cell in everything[0].strip("|").split("|")], []
    columns = [titles.index(name) for name in ("PSNR, dB", "ST-LPIPS", "identity distance")]
    for row in everything[2:]:
        if not _name(row).endswith(": all"):
            continue
        cells = [cell.strip() for cell in short(row, None).strip("|").split("|")]
        psnr, stlpips, identity = (cells[column] for column in columns)
        given, result = map(float, stlpips.split(" → "))
        rows.append(f"| {_name(row).removesuffix(': all')} | {psnr} | {stlpips} ({result / given:.3f}) | {identity} |")
        count = cells[1]
    return [f"| {count} faces | PSNR, dB | ST-LPIPS (ratio) | identity distance |", "| --- | --- | --- | --- |", *rows]


def _name(row: str) -> str:
    return row.strip("|").split("|")[0].strip()


def _is_kind(row: str) -> bool:
    """Whether a row is about a kind of damage, such as "mfr: blur", not about all faces, a strength or a skin tone."""
    _, _, group = _name(row).partition(": ")
    return bool(group) and group != "all" and not group.endswith((" damage", " skin"))


def table(printed: Path) -> list[str]:
    return [line for line in printed.read_text().splitlines() if line.startswith("|")]


def short(row: str, columns: int | None = IN_THE_CARD) -> str:
    """The first columns, with input and result alone: no earlier weights between them, no intervals."""
    cells = [cell.strip() for cell in row.strip("|").split("|")][:columns]
    for i, cell in enumerate(cells):
        if " → " in cell:
            values = re.sub(r" \(.*\)", "", cell).split(" → ")
            cells[i] = f"{values[0]} → {values[-1]}"
    return f"| {' | '.join(cells)} |"


def main(odd: Path, everything: Path, calibrated: Path) -> None:
    rows = with_kinds(table(odd), table(everything))
    put(RESULTS, "scores", rows)
    put(RESULTS, "all faces", means(table(everything)))
    put(CARD, "scores", [short(row) for row in rows if " damage |" not in row])
    turned = sorted((float(found[0]), found) for found in DIAL.findall(calibrated.read_text()))
    dial = [
        f"| {at:g} | {psnr} | {sharp} | {prior} | {kept} | {feature} |"
        for at, (_, psnr, sharp, prior, feature, kept) in turned
    ]
    titles = (
        "dial",
        "PSNR, dB",
        "detail",
        "share of the prior, all interpolations",
        "of the picture",
        "of features",
    )
    put(RESULTS, "dial", [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|", *dial])


main(*map(Path, sys.argv[1:]))
