"""Puts what `panini evaluate` and `panini calibrate` printed into docs/results.md and the model card.

python tools/write_tables.py evaluate.md calibrate.log
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS, CARD = ROOT / "docs/results.md", ROOT / "src/panini/weights/MODEL_CARD.md"
IN_THE_CARD = 5  # columns: group, faces, PSNR, SSIM, ST-LPIPS
DIAL = re.compile(
    r"dial ([+-][\d.]+): PSNR ([\d.]+) dB, sharpness ([\d.]+), .* ([\d.]+) \(features ([\d.]+), picture ([\d.]+)\)"
)


def put(path: Path, name: str, lines: list[str]) -> None:
    """Between the comments of that name; ValueError if they are not there."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, rest = path.read_text().split(begin)
    path.write_text(before + begin + "\n".join(lines) + end + rest.split(end)[1])


def short(row: str) -> str:
    """Input and result alone: no earlier weights between them, no intervals."""
    cells = [cell.strip() for cell in row.strip("|").split("|")][:IN_THE_CARD]
    for i, cell in enumerate(cells):
        if " → " in cell:
            values = re.sub(r" \(.*\)", "", cell).split(" → ")
            cells[i] = f"{values[0]} → {values[-1]}"
    return f"| {' | '.join(cells)} |"


def main(evaluated: Path, calibrated: Path) -> None:
    rows = [line for line in evaluated.read_text().splitlines() if line.startswith("|")]
    put(RESULTS, "scores", rows)
    put(CARD, "scores", [short(row) for row in rows if " damage |" not in row])
    turned = sorted((float(found[0]), found) for found in DIAL.findall(calibrated.read_text()))
    dial = [
        f"| {at:g} | {psnr} | {sharp} | {prior} | {kept} | {feature} |"
        for at, (_, psnr, sharp, prior, feature, kept) in turned
    ]
    titles = (
        "dial",
        "PSNR, dB",
        "sharpness",
        "share of the prior, all interpolations",
        "of the picture's bands",
        "of features",
    )
    put(RESULTS, "dial", [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|", *dial])


main(*map(Path, sys.argv[1:]))
