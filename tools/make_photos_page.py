"""Makes the pictures of `docs/photos.md`: of nobody who lives, but for the astronaut (NASA, public domain)."""

import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image
from skimage import data

from panini.api import Restorer
from panini.cli.demo import SCALE, demo_photo
from panini.cli.inspect import draw
from panini.jobs.folder import FolderJob
from panini.jobs.video import restore_video
from panini.photo import io as photo_io

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/photos"
FACES = sorted((ROOT / "tests/data/prior").glob("*.webp"))


def save(name: str, *pictures: Image.Image) -> None:
    """Side by side."""
    sheet = Image.new("RGB", (sum(p.width + 8 for p in pictures) - 8, max(p.height for p in pictures)), "white")
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width + 8
    sheet.save(TARGET / name, quality=85, optimize=True)
    print(TARGET / name, (TARGET / name).stat().st_size)


def album() -> Image.Image:
    """Six prints that lie about on a table."""
    page = Image.fromarray(cv2.cvtColor(cv2.resize(data.gravel()[:300, :420], (840, 600)), cv2.COLOR_GRAY2RGB))
    for i, (file, angle) in enumerate(zip(FACES, (8, -50, 95, 178, -120, 30), strict=True)):
        side = (190, 150, 130, 170, 110, 140)[i]
        card = Image.new("RGBA", (side + 16, side + 16), (240, 236, 226, 255))
        card.paste(Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (8, 8))
        card = card.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        page.paste(card, (150 + 270 * (i % 3) - card.width // 2, 160 + 290 * (i // 3) - card.height // 2), card)
    return page


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    restorer = Restorer()
    (TARGET / "demo.jpg").write_bytes(demo_photo())
    photo = photo_io.load(TARGET / "demo.jpg")
    (TARGET / "demo.jpg").unlink()
    middle = (370, 40, 750, 480)
    after = restorer.restore(photo, scale=SCALE).image.crop(middle)
    save("one.jpg", photo.enlarged(SCALE).image().crop(middle), after)

    table = photo_io.load(album())
    found = restorer.detector(table.pixels)
    save("found.jpg", draw(table, found))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        (folder / "in/album.jpg").write_bytes(demo_photo())
        Image.fromarray(data.astronaut()).resize((200, 200)).save(folder / "in/portrait.jpg", quality=30)
        Image.fromarray(table.pixels).save(folder / "in/table.png")
        archive = FolderJob(folder / "in", folder / "out")
        strips = [Image.open(folder / "out" / entry.thumbnail) for entry in archive.run(restorer)]
        page = Image.new("RGB", (max(strip.width for strip in strips), 168 * len(strips) - 8), "white")
        for i, strip in enumerate(strips):
            page.paste(strip, (0, 168 * i))
        save("report.jpg", page)

        with av.open(str(folder / "clip.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=12)
            stream.width, stream.height, stream.pix_fmt, stream.options = 300, 220, "yuv420p", {"crf": "30"}
            rng = np.random.default_rng(0)
            for i in range(8):
                drift = np.array([[1.0, 0, -80 - 1.5 * i], [0, 1, -10 - 0.5 * i]])
                frame = cv2.warpAffine(data.astronaut(), drift, (300, 220)) + rng.normal(0, 12, (220, 300, 3))
                frame = np.clip(frame, 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        restore_video(restorer, folder / "clip.mp4", folder / "out.mp4")
        frames = []
        for path in (folder / "clip.mp4", folder / "out.mp4"):
            with av.open(str(path)) as container:
                frames.append(list(container.decode(video=0))[6].to_image())
        save("video.jpg", *frames)


if __name__ == "__main__":
    main()
