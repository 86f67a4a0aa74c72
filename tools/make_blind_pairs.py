"""Sheets to judge restorations by eye without knowing which is which: `python tools/make_blind_pairs.py PHOTOS OUT`.

The largest face of each photo in the folder PHOTOS, before and after, side by side in random order: OUT/00.png and so
on, in random order too. Which side is the restored one stands in OUT-key.json, for when the judgment is made.
"""

import json
import random
import sys
from pathlib import Path

import cv2
from PIL import Image

from panini.api import Restorer
from panini.errors import PaniniError
from panini.photo import io as photo_io
from panini.photo.pixels import Pixels, resize

SIDE, GAP = 760, 20


def main(photos: Path, out: Path, seed: int) -> None:
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in photo_io.READABLE)
    chance = random.Random(seed)
    chance.shuffle(paths)
    out.mkdir(parents=True)
    restorer, key = Restorer(), {}
    for number, path in enumerate(paths):
        try:
            face = restorer.restore(path).faces[0]
        except PaniniError as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        restored = chance.choice(("left", "right"))
        pair: tuple[Pixels, ...] = (face.before, face.after)
        sheet = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
        for x, picture in zip((0, SIDE + GAP), pair if restored == "right" else pair[::-1], strict=True):
            shrinks = picture.shape[0] > SIDE
            sheet.paste(Image.fromarray(resize(picture, SIDE, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)), (x, 0))
        sheet.save(out / f"{number:02}.png")
        key[f"{number:02}"] = {"photo": path.name, "restored": restored}
    out.with_name(f"{out.name}-key.json").write_text(json.dumps(key, indent=1))


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
