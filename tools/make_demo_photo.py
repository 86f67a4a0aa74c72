"""Makes `src/panini/data/demo.jpg`: `make_demo_photo.py FACE FACE FACE`, each a picture sampled from the GAN prior.

Three prints on an album page, none of anybody who lives; then the whole page goes through what old and small
photos go through.
"""

import io
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

TARGET = Path(__file__).parents[1] / "src/panini/data/demo.jpg"
PAGE = (1120, 520)
# Center x, y of each print on the page, its picture's side, and degrees that it was glued in askew.
PRINTS = [(200, 265, 300, -3.0), (560, 250, 290, 2.0), (918, 268, 296, 4.0)]


def make(faces: list[str]) -> bytes:
    rng = np.random.default_rng(7)
    # Album paper: warm black with a grain.
    grain = cv2.GaussianBlur(rng.normal(0, 1, PAGE[::-1]), (0, 0), 1.2)
    paper = np.clip(np.array([64, 56, 48]) + 10 * grain[..., None], 0, 255).astype(np.uint8)
    page = Image.fromarray(paper)
    for file, (x, y, side, angle) in zip(faces, PRINTS, strict=True):
        picture = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        card = Image.new("RGBA", (side + 36, side + 60), (232, 224, 206, 255))
        card.paste(picture, (18, 18))
        shadow = Image.new("RGBA", card.size, (0, 0, 0, 170))
        for layer, offset in ((shadow, 7), (card, 0)):
            turned = layer.rotate(angle, Image.Resampling.BICUBIC, expand=True)
            place = (x - turned.width // 2 + offset, y - turned.height // 2 + offset)
            mask = turned.getchannel("A")
            page.paste(turned, place, mask.filter(ImageFilter.GaussianBlur(4)) if offset else mask)
        # Photo corners.
        draw = ImageDraw.Draw(page)
        half = np.array([card.width / 2, card.height / 2])
        turn = np.deg2rad(-angle)
        axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            corner = half * (sx, sy) * 1.02
            points = [corner, corner - (sx * 30, 0), corner - (0, sy * 30)]
            draw.polygon([tuple(point @ axes + (x, y)) for point in points], fill=(120, 106, 84))

    # Faded: less contrast, blacks lifted, a yellow cast.
    photo = np.asarray(page, np.float32)
    photo = photo * 0.80 + np.array([34, 26, 14])
    # Small: half its size; soft, noisy, and saved badly.
    small = cv2.resize(photo, (PAGE[0] // 2, PAGE[1] // 2), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.5)
    small += rng.normal(0, 5, small.shape) + rng.normal(0, 3, (*small.shape[:2], 1))
    out = io.BytesIO()
    Image.fromarray(np.clip(small, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=60, optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(make(sys.argv[1:]))
    print(TARGET, TARGET.stat().st_size)
