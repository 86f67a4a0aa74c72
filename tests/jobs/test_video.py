import struct
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from panini import __version__
from panini.api import Restorer
from panini.cli import run
from panini.errors import NoFaceError, PaniniError
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine
from panini.photo import provenance

av = pytest.importorskip("av")
from panini.jobs.video import restore_video  # noqa: E402

ENGINE = ["--network", "bicubic", "--min-face", "60"]
COUNT, RATE = 8, 8


@pytest.fixture(scope="module")
def restorer():
    return Restorer(BicubicEngine(), CenterFace(min_face=60))


def moving(i: int) -> np.ndarray:
    """A face that drifts by 1.5 pixels a frame, under noise."""
    drift = np.array([[1.0, 0, -90 - 1.5 * i], [0, 1, -20 - 0.5 * i]])
    view = cv2.warpAffine(data.astronaut(), drift, (240, 200))
    noise = np.random.default_rng(i).normal(0, 10, view.shape)
    return np.clip(view + noise, 0, 255).astype(np.uint8)


def write(path, frames, audio=True, pixel=Fraction(1)):
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "Summer", "comment": "By the lake"})
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt, video.options = 240, 200, "yuv420p", {"crf": "10"}
        video.codec_context.sample_aspect_ratio = pixel
        sound = container.add_stream("aac", rate=44100) if audio else None
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        if sound is not None:
            tone = (0.3 * np.sin(np.arange(44100 * COUNT // RATE) / 20)).astype(np.float32)
            for start in range(0, len(tone) - 1024, 1024):
                samples = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 44100, start, Fraction(1, 44100)
                container.mux(sound.encode(samples))
            container.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", [moving(i) for i in range(COUNT)])


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    with av.open(str(path)) as container:
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.size] if container.streams.audio else []
    return frames, sound


def test_frames_times_and_sound_stay(clip, tmp_path, capsys):
    before = clip.read_bytes()
    assert run(["restore", str(clip), "-o", str(tmp_path / "out.mp4"), *ENGINE]) == 0
    assert "out.mp4: 1 face" in capsys.readouterr().out
    assert clip.read_bytes() == before
    (frames, sound), (made, made_sound) = read(clip), read(tmp_path / "out.mp4")
    assert [time for time, _ in made] == pytest.approx([time for time, _ in frames], abs=1e-3)
    assert made_sound == sound != []
    assert np.mean([np.abs(a.astype(int) - b).mean() for (_, a), (_, b) in zip(frames, made, strict=True)]) < 6
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def tags(path):
    with av.open(str(path), options={"export_xmp": "1"}) as container:
        return {name.lower(): value for name, value in container.metadata.items()}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_says_that_it_was_restored(tmp_path, suffix):
    clip = write(tmp_path / "clip.mp4", [moving(i) for i in range(2)], audio=False)
    for i, source in enumerate((clip, tmp_path / f"0{suffix}")):  # restored twice, it says so once
        assert run(["restore", str(source), "-o", str(tmp_path / f"{i}{suffix}"), "--strength", "0.9", *ENGINE]) == 0
    found = tags(tmp_path / f"1{suffix}")
    assert found["title"] == "Summer"
    before = f"By the lake\nFaces restored by Panini {__version__} (weights none), dial 0"
    assert found["comment"] == before + ", in 2 restorations"
    mark = provenance.read(found["xmp"].encode())
    assert (mark["DigitalSourceType"], mark["Faces"], mark["Strength"]) == (provenance.SOURCE_TYPE, "1", "0.9")
    assert run(["restore", str(clip), "-o", str(tmp_path / f"plain{suffix}"), "--no-mark", *ENGINE]) == 0
    plain = tags(tmp_path / f"plain{suffix}")
    assert (plain["title"], plain["comment"]) == ("Summer", "By the lake")
    assert "xmp" not in plain


@pytest.mark.slow
def test_the_dial_and_the_other_choices(tmp_path):
    short = write(tmp_path / "short.mp4", [moving(i) for i in range(2)], audio=False)
    photo = tmp_path / "other.png"
    Image.fromarray(data.astronaut()).filter(ImageFilter.GaussianBlur(6)).save(photo)

    def made(*options):
        out = tmp_path / "out.mp4"
        assert run(["restore", str(short), "-o", str(out), "--overwrite", *ENGINE[2:], *options]) == 0
        pixels = np.stack([frame[60:120, 100:150] for _, frame in read(out)[0]]).astype(np.float32)
        return pixels, provenance.read(tags(out)["xmp"].encode())

    def detail(pixels):
        return float(np.abs(np.diff(pixels, axis=2)).mean())

    kept, mark = made("--strength", "0")
    assert (mark["Strength"], 0 < float(mark["Imagined"]) < 1) == ("0", True)
    restored, _ = made()
    dialed, mark = made("--dial", "1")
    assert mark["Dial"] == "1"
    assert detail(kept) > detail(restored) != detail(dialed)
    like, _ = made("--like", str(photo))
    assert np.abs(like - kept).mean() > np.abs(restored - kept).mean(), "as if it were as blurred as the other"
    assert detail(made("--grain", "1")[0]) > detail(restored)
    calm, mark = made("--passes", "2")
    assert mark["Passes"] == "2"
    assert detail(calm) != detail(made("--passes", "1")[0])


def flicker(path) -> float:
    """How much the face changes from frame to frame beyond its movement: mean difference after moving it back."""
    faces = []
    for i, (_, frame) in enumerate(read(path)[0]):
        back = np.array([[1.0, 0, 1.5 * i], [0, 1, 0.5 * i]])
        faces.append(cv2.warpAffine(frame, back, (240, 200))[60:120, 100:150].astype(np.float32))
    return float(np.abs(np.diff(faces, axis=0)).mean())


def test_less_flicker_than_frame_by_frame(clip, tmp_path, restorer):
    assert restore_video(restorer, clip, tmp_path / "steady.mp4") == 1
    restore_video(restorer, clip, tmp_path / "alone.mp4", steady=False)
    assert flicker(tmp_path / "steady.mp4") < 0.75 * flicker(tmp_path / "alone.mp4")


def test_what_cannot_work_is_said(clip, tmp_path, restorer, capsys):
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:2000])
    with pytest.raises(PaniniError, match="broken"):
        restore_video(restorer, tmp_path / "broken.mp4", tmp_path / "out.mp4")
    wall = write(tmp_path / "wall.mp4", [np.repeat(data.brick()[:200, :240, None], 3, axis=2)] * 3, audio=False)
    with pytest.raises(NoFaceError):
        restore_video(restorer, wall, tmp_path / "out.mp4")
    for arguments, words in (
        ([clip, "-o", tmp_path / "out.gif"], "for videos"),
        ([clip, "-o", clip, "--overwrite"], "the photo itself"),
        ([clip, "--scale", 2], "does not work with a video"),
        ([clip, "--only", 1], "does not work with a video"),
        ([clip, "--keep"], "does not work with a video"),
        ([clip, "-o", tmp_path / "out.mp4", "--dial", 1], "no dial"),
        ([clip, "--strength", 2], "strength must be"),
        ([clip, "--grain", 2], "grain must be"),
        ([clip, "--like", tmp_path / "missing.png"], "does not exist"),
        ([tmp_path / "missing.mp4"], "does not exist"),
    ):
        assert run(["restore", *(str(a) for a in arguments), *ENGINE]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pixels_that_are_not_square_stay_so(tmp_path, restorer, suffix):
    clip = write(tmp_path / "clip.mp4", [moving(i) for i in range(3)], audio=False, pixel=Fraction(16, 15))
    assert restore_video(restorer, clip, tmp_path / f"out{suffix}") == 1
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def test_a_turned_video_stays_turned(clip, tmp_path, restorer):
    content = bytearray(clip.read_bytes())
    at = content.index(b"tkhd") + 44  # the first track's matrix, as a phone held upright writes it: a quarter clockwise
    content[at : at + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(content)
    assert restore_video(restorer, tmp_path / "turned.mp4", tmp_path / "out.mp4") == 1
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == -90  # as it was
        pixels = frame.to_ndarray(format="rgb24")
    assert np.abs(pixels.astype(int) - read(clip)[0][0][1]).mean() < 6


def test_a_face_that_keeps_still_is_restored_in_every_second_frame(tmp_path):
    class Counting(BicubicEngine):
        calls = 0

        def restore(self, *arguments):
            Counting.calls += 1
            return super().restore(*arguments)

    restorer = Restorer(Counting(), CenterFace(min_face=60))
    write(tmp_path / "still.mp4", [moving(0)] * COUNT, audio=False)
    Counting.calls = 0
    assert restore_video(restorer, tmp_path / "still.mp4", tmp_path / "out.mp4", mark=False) == 1
    assert Counting.calls == COUNT // 2
    Counting.calls = 0
    restore_video(restorer, tmp_path / "still.mp4", tmp_path / "alone.mp4", mark=False, steady=False)
    assert Counting.calls == COUNT
