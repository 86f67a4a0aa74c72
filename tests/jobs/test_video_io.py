"""What a video is besides its faces stays: colors, bits, transparency, fields, sound, subtitles and chapters."""

import json
import shutil
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from panini.cli import run
from programs import needed

av = pytest.importorskip("av")
from panini.jobs import video_io  # noqa: E402

ENGINE = ["--network", "bicubic", "--min-face", "40"]


def ffmpeg(*arguments):
    subprocess.run([needed("ffmpeg"), "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def probe(path):
    done = subprocess.run(
        [needed("ffprobe"), "-v", "error", "-show_streams", "-show_chapters", "-of", "json", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def video_of(path):
    return next(stream for stream in probe(path)["streams"] if stream["codec_type"] == "video")


def planes(path):
    """The first frame as it is stored: the first plane [H, W] and its number of bits."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        array = frame.to_ndarray()
        return array[: frame.height], frame.format.components[0].bits


def restored(source, target, *options, code=0):
    assert run(["restore", str(source), "-o", str(target), *ENGINE, *options]) == code


COLORS = ("color_range", "color_space", "color_transfer", "color_primaries")


def test_bt709_keeps_its_tags_and_outside_faces_nothing_moves(faults, tmp_path, capsys):
    source = faults / "hd-bt709-colors-shift.mp4"
    restored(source, tmp_path / "out.mp4")
    assert capsys.readouterr().err == ""
    before, after = video_of(source), video_of(tmp_path / "out.mp4")
    assert [after[name] for name in COLORS] == [before[name] for name in COLORS] == ["tv", "bt709", "bt709", "bt709"]
    # In a browser, which goes by the tags: no patch of 8 x 8 outside the face is another color.
    for name, path in (("a", source), ("b", tmp_path / "out.mp4")):
        ffmpeg("-i", path, "-frames:v", 1, tmp_path / f"{name}.png")
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB").reduce(8), int) for name in "ab")
    far = np.abs(a - b).max(2)
    assert np.quantile(far, 0.9) <= 2
    changed = np.argwhere(far > 4)
    assert len(changed) < 0.3 * far.size


def test_ten_bits_and_hlg_stay(faults, tmp_path):
    source = faults / "hlg-10bit-becomes-untagged-8bit.mov"
    restored(source, tmp_path / "out.mov")
    before, after = video_of(source), video_of(tmp_path / "out.mov")
    assert after["pix_fmt"] == before["pix_fmt"] == "yuv420p10le"
    assert [after[name] for name in COLORS] == [before[name] for name in COLORS]
    (a, bits), (b, _) = planes(source), planes(tmp_path / "out.mov")
    assert bits == 10
    assert len(np.unique(b[:40] % 4)) == 4  # all bits are in use
    assert np.abs(a[:30].astype(int) - b[:30]).mean() < 6  # of 1023


def test_transparency_stays_or_is_refused(faults, tmp_path, capsys):
    source = faults / "transparent-video-becomes-opaque.mov"
    restored(source, tmp_path / "out.mov")
    assert "reduced to 10 bits" in capsys.readouterr().err
    alphas = []
    for path in (source, tmp_path / "out.mov"):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            assert frame.format.name.startswith("yuva444p")
            alphas.append(np.frombuffer(frame.planes[3], np.uint16).astype(int)[: 240 * 100])
    assert np.abs(alphas[0] - alphas[1]).max() <= 8  # of 4095
    restored(source, tmp_path / "out.mp4", code=2)
    err = capsys.readouterr().err
    assert "transparency, which .mp4 cannot store: use a .mov" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_the_interlaced_flag_stays(faults, tmp_path):
    source = faults / "interlaced-flag-lost.mp4"
    restored(source, tmp_path / "out.mp4")
    assert video_of(tmp_path / "out.mp4")["field_order"] == video_of(source)["field_order"] == "tt"


def test_streams_languages_and_chapters_stay(faults, tmp_path, capsys):
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nGuten Tag\n")
    (tmp_path / "b.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=Garden\n")
    (tmp_path / "font.ttf").write_bytes(b"no font" * 9)
    source = tmp_path / "in.mkv"
    ffmpeg(
        *("-i", faults / "interlaced-flag-lost.mp4", "-f", "lavfi", "-i", "sine=d=0.5", "-i", tmp_path / "a.srt"),
        *("-i", tmp_path / "b.txt", "-map", 0, "-map", 1, "-map", 1, "-map", 2, "-map_metadata", 3, "-c:v", "copy"),
        *("-c:a", "aac", "-c:s", "srt", "-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=fre"),
        *("-metadata:s:s:0", "language=ger", "-metadata:s:a:1", "title=Commentary", "-attach", tmp_path / "font.ttf"),
        *("-metadata:s:t", "mimetype=font/ttf", "-disposition:a:1", "comment", source),
    )
    restored(source, tmp_path / "out.mkv")
    assert capsys.readouterr().err == ""
    before, after = probe(source), probe(tmp_path / "out.mkv")

    def told(streams):
        return [
            (
                s["codec_type"],
                s.get("tags", {}).get("language"),
                s.get("tags", {}).get("title"),
                s["disposition"]["comment"],
                s["disposition"]["default"],
            )
            for s in streams
        ]

    assert told(after["streams"]) == told(before["streams"])
    assert [chapter["tags"]["title"] for chapter in after["chapters"]] == ["Garden"]
    ffmpeg("-dump_attachment:t:0", tmp_path / "dumped", "-i", tmp_path / "out.mkv", "-t", 0, "-f", "null", "-")
    assert (tmp_path / "dumped").read_bytes() == (tmp_path / "font.ttf").read_bytes()
    # What MP4 cannot hold is said before the work.
    restored(source, tmp_path / "out.mp4")
    err = capsys.readouterr().err
    assert "subtitles (ger), because .mp4 cannot store" in err
    assert "an attached file (font.ttf)" in err


@pytest.mark.parametrize(("codec", "advice"), [("pcm_alaw", "use a .mov file"), ("wmav2", "no other container")])
def test_sound_that_the_container_cannot_hold_is_refused_before_the_work(faults, tmp_path, capsys, codec, advice):
    source = tmp_path / "in.mkv"
    ffmpeg(
        *("-i", faults / "interlaced-flag-lost.mp4", "-f", "lavfi", "-i", "sine=d=0.5", "-map", 0, "-map", 1),
        *("-c:v", "copy", "-c:a", codec, source),
    )
    restored(source, tmp_path / "out.mp4", code=2)
    err = capsys.readouterr().err
    assert f"has sound ({codec}) that .mp4 cannot store: {advice}" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    if codec == "pcm_alaw":
        restored(source, tmp_path / "out.mov")
        assert [stream["codec_name"] for stream in probe(tmp_path / "out.mov")["streams"]] == ["h264", "pcm_alaw"]


def test_a_track_of_data_is_said_to_be_gone(faults, tmp_path, capsys):
    source = tmp_path / "in.mov"
    ffmpeg("-i", faults / "interlaced-flag-lost.mp4", "-c", "copy", "-timecode", "01:00:00:00", source)
    assert "data" in {stream["codec_type"] for stream in probe(source)["streams"]}
    restored(source, tmp_path / "out.mov")
    err = capsys.readouterr().err
    assert "without a data track" in err
    assert err.count("\n") == 1


def test_a_playlist_that_is_named_as_a_video_opens_nothing_else(tmp_path, capsys):
    (tmp_path / "in.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    restored(tmp_path / "in.mp4", tmp_path / "out.mp4", code=2)
    assert capsys.readouterr().err.count("\n") == 1


def test_several_videos_and_folders_with_videos(faults, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("interlaced-flag-lost.mp4", "transparent-video-becomes-opaque.mov", "no-face-in-list-not-copied.jpg"):
        shutil.copy(faults / name, folder)
    for _ in range(2):
        assert run(["restore", *map(str, sorted(folder.iterdir())), "-o", str(tmp_path / "list"), *ENGINE]) == 0
        err = capsys.readouterr().err
    assert "skipped 3 of 3, already done" in err
    assert run(["restore", str(folder), "-o", str(tmp_path / "tree"), *ENGINE]) == 0
    out, err = capsys.readouterr()
    assert "2 of 3 restored (2 faces)" in out
    for name in ("interlaced-flag-lost.mp4", "transparent-video-becomes-opaque.mov"):
        for place in ("list", "tree"):
            assert video_of(tmp_path / place / name)["codec_type"] == "video"
    assert run(["restore", str(folder), "-o", str(tmp_path / "tree"), *ENGINE]) == 0
    assert "3 done in earlier runs" in capsys.readouterr().out


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [False, True])
def test_a_change_in_rgb_is_that_change_in_the_frame(matrix, full):
    pixels = np.full((64, 64, 3), 120, np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=matrix, dst_color_range=2 if full else 1
    )
    frame.make_writable()
    how = video_io.Plan("libx264", "yuv420p", (64, 64), 0, matrix, full, "")
    before = video_io.rgb(frame, how)
    after = before.copy()
    after[16:32, 16:48] = (180, 90, 60)
    video_io.add_change(frame, before, after, how)
    made = video_io.rgb(frame, how)
    assert np.abs(made[20:28, 20:44].astype(int) - (180, 90, 60)).max() <= 3
    assert np.abs(made[40:].astype(int) - before[40:]).max() == 0


def test_items_made_ahead_come_in_order_and_errors_come_through():
    assert list(video_io.ahead(range(100))) == list(range(100))

    def broken():
        yield 1
        raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        list(video_io.ahead(broken()))
    stopped = video_io.ahead(iter(range(10**9)))
    assert next(stopped) == 0
    start = time.perf_counter()
    stopped.close()
    assert time.perf_counter() - start < 5
