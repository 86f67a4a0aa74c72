"""Reads and writes video files so that only the faces change.

Frames keep their stored format: matrix, transfer, primaries, range and bit depth. Changes are made in RGB and added to
the stored frame as a difference. Sound, subtitles, chapters and attachments are copied. Before the work starts, `plan`
lists the parts that cannot be kept.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import IO, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.errors import PaniniError, how_to_get
from panini.photo import io as photo_io
from panini.photo import provenance
from panini.photo.pixels import Pixels

try:
    import av
except ModuleNotFoundError as error:
    raise PaniniError(f"videos need {error.name}: {how_to_get('video')}") from error

_FILE_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # not copied: they describe the old file
_STREAM_TAGS = {"encoder", "vendor_id", "duration", "bps", "number_of_frames", "number_of_bytes"}
FFmpegError = av.error.FFmpegError
_AHEAD = 3  # frames that wait between decoding, restoring and encoding
_HIGH_DEFINITION = 576  # lines above which untagged videos use BT.709
_KR_KB = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593), 7: (0.212, 0.087)}  # by matrix; else BT.601
_UNSPECIFIED = 2
_RGB = 0  # the matrix of video that is stored as RGB
_FULL = 2  # the range 0 to 255

_EIGHT = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "gray")
_TEN = ("yuv420p10le", "yuv422p10le", "yuv444p10le")
_TWELVE = ("yuv420p12le", "yuv422p12le", "yuv444p12le")
_ALPHA = "yuva444p10le"  # for ProRes 4444, which video editors read

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How to write a video."""

    codec: str
    pix_fmt: str
    size: tuple[int, int]  # stored width and height
    rotation: int  # counterclockwise rotation by players, in degrees
    matrix: int  # the matrix that converts to RGB, as numbered in ITU-T H.273
    full_range: bool
    interlaced: str  # the first field of an interlaced frame, `tff` or `bff`; empty if it is progressive
    tags: dict[str, str] = field(default_factory=dict)  # the tags of the file, with XMP under `xmp`
    lost: tuple[str, ...] = ()  # descriptions of the parts that are not kept


def opened(source: Path) -> Any:
    """Opens the container of a video, but no other file that it refers to. Raises PaniniError."""
    container = av.open(str(source), options={"export_xmp": "1", "protocol_whitelist": "file"})
    if not container.streams.video:
        container.close()
        raise PaniniError(f"{source} has no video stream")
    return container


def picture_stream(container: Any) -> Any:
    """The first video stream that is not a cover picture."""
    streams = container.streams.video
    cover = av.stream.Disposition.attached_pic
    return next((stream for stream in streams if not stream.disposition & cover), streams[0])


def plan(source: Path, target: Path) -> Plan:
    """Plans how to write a video to `target`. Raises PaniniError if sound or transparency would be lost."""
    form = photo_io.VIDEOS_WRITTEN[target.suffix.lower()]
    with opened(source) as container:
        stream = picture_stream(container)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise PaniniError(f"{source} has no frame that can be decoded")
        codec, pix_fmt, lost = _encoding(source, target, stream, frame)
        matrix = int(frame.colorspace)
        if matrix in (_RGB, _UNSPECIFIED):
            matrix = 1 if frame.height > _HIGH_DEFINITION else 6
        interlaced = ""
        if frame.interlaced_frame:
            interlaced = "bff" if str(stream.codec_context.field_order) in ("3", "5", "bb", "bt") else "tff"
        lost += _streams_lost(source, target, container, stream, form)
        tags = {name.lower(): value for name, value in container.metadata.items()}
    tags = {name: value for name, value in tags.items() if name not in _FILE_TAGS}
    full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
    size, rotation = (frame.width, frame.height), round(frame.rotation)
    return Plan(codec, pix_fmt, size, rotation, matrix, full, interlaced, tags, tuple(lost))


def _encoding(source: Path, target: Path, stream: Any, frame: Any) -> tuple[str, str, list[str]]:
    """Codec and pixel format for the frames, and notes about losses."""
    name, lost = frame.format.name, []
    has_alpha = name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya")) or "pal8" in name
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        lost.append("without its transparency, which cannot be read")
    if has_alpha:
        if target.suffix.lower() not in (".mov", ".mkv"):
            raise PaniniError(f"{source} has transparency, which {target.suffix} cannot store: use a .mov file with -o")
        if name.endswith(("12le", "16le", "12be", "16be")):
            lost.append("reduced to 10 bits")
        return "prores_ks", _ALPHA, lost
    odd = frame.width % 2 or frame.height % 2
    if name in _TEN + _TWELVE and not odd:
        if "libx265" not in av.codecs_available:
            raise PaniniError(f"{source} has more than 8 bits, but PyAV has no encoder for them")
        lost += _high_dynamic_range(frame)
        return "libx265", name, lost
    if name in _EIGHT and not odd:
        return ("libx264" if "libx264" in av.codecs_available else "mpeg4"), name, lost
    depth = max(component.bits for component in frame.format.components)
    if depth > 8:
        lost.append("reduced to 8 bits")
    if frame.format.is_rgb:
        lost.append("colors converted to YUV, with rounding")
    narrow = name in ("nv12", "yuv410p", "yuv411p") and not odd
    return ("libx264" if "libx264" in av.codecs_available else "mpeg4"), "yuv420p" if narrow else "yuv444p", lost


def _high_dynamic_range(frame: Any) -> list[str]:
    """A note if a frame has brightness metadata for HDR screens, which is not kept."""
    known = ("MASTERING_DISPLAY", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DOVI_")
    found = any(name in str(data.type) for data in frame.side_data for name in known)
    return ["without its brightness metadata for HDR screens (mastering, HDR10+, Dolby Vision)"] if found else []


def _streams_lost(source: Path, target: Path, container: Any, picture: Any, form: str) -> list[str]:
    """Notes about streams that the target cannot store. Raises PaniniError for sound."""
    lost, held = [], _held(form)
    for stream in container.streams:
        if stream is picture or stream.index == picture.index:
            continue
        language = stream.metadata.get("language", "")
        words = f" ({language})" if language and language != "und" else ""
        codec = stream.codec_context.name if stream.codec_context is not None else ""
        if stream.type == "audio" and codec not in held and not codec.startswith("mp3"):
            others = [suffix for suffix, other in ((".mkv", "matroska"), (".mov", "mov")) if codec in _held(other)]
            advice = f"use a {' or '.join(others)} file with -o" if others else "no other container can either"
            raise PaniniError(f"{source} has sound ({codec}) that {target.suffix} cannot store: {advice}")
        if stream.type == "subtitle" and codec not in held:
            lost.append(f"without subtitles{words}, because {target.suffix} cannot store {codec}; .mkv can")
        elif stream.type == "attachment" and form != "matroska":
            lost.append(
                f"without an attached file ({stream.metadata.get('filename', 'without a name')}), which .mkv can store"
            )
        elif stream.type == "data":
            lost.append(f"without a data track ({stream.metadata.get('handler_name', 'such as a time code')})")
        elif stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic:
            lost.append("without its cover picture")
        elif stream.type == "video":
            lost.append("without a second video track")
    return lost


def _held(form: str) -> set[str]:
    """The codecs that a container supports."""
    with av.open(os.devnull, "w", format=form) as trial:
        held: set[str] = trial.supported_codecs
    return held


def frames(source: Path, how: Plan) -> Iterator[tuple[Pixels, int]]:
    """The upright pixels of each frame, with the number of all frames (0 if unknown). A thread decodes ahead."""

    def decode() -> Iterator[tuple[Pixels, int]]:
        with opened(source) as container:
            stream = picture_stream(container)
            for frame in container.decode(stream):
                yield rgb(frame, how), stream.frames

    return ahead(decode())


def rgb(frame: Any, how: Plan) -> Pixels:
    """The upright pixels of a frame."""
    whole = frame.reformat(format="rgb24", src_colorspace=how.matrix, src_color_range=2 if how.full_range else 1)
    return np.ascontiguousarray(np.rot90(whole.to_ndarray(), round(frame.rotation / 90)))


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields the same items, computed ahead in a thread."""
    queue: Queue[tuple[bool, Any]] = Queue(_AHEAD)
    stop = threading.Event()

    def put(done: bool, item: Any) -> None:
        while not stop.is_set():
            try:
                return queue.put((done, item), timeout=0.1)
            except Exception:  # the queue is full; the consumer may have stopped
                continue

    def make() -> None:
        try:
            for item in items:
                put(False, item)
                if stop.is_set():
                    return
            put(True, None)
        except BaseException as error:
            put(True, error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            done, item = queue.get()
            if done and item is not None:
                raise item
            if done:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def write(
    source: Path,
    target: Path,
    file: IO[bytes],
    how: Plan,
    retouch: Callable[[Pixels, int], None],
    progress: Callable[[int, int], None],
) -> None:
    """Writes the restored video. retouch: changes the pixels [H, W, 3] of a frame, given its number.

    Decoding, `retouch` and encoding run in parallel threads.
    """
    form = photo_io.VIDEOS_WRITTEN[target.suffix.lower()]
    with opened(source) as container, av.open(file, "w", format=form) as output, _InTurn() as writer:
        output.metadata.update(how.tags)
        stream = picture_stream(container)
        video = _video_stream(output, stream, how)
        copies = _copied_streams(container, output, form)
        output.set_chapters(container.chapters())
        number = 0
        for item, before in ahead(_items(container, stream, copies, how)):
            if before is None:
                item.stream = copies[item.stream.index]
                writer.submit(output.mux, item)
                continue
            pixels = before.copy()
            retouch(pixels, number)
            writer.submit(_encode, output, video, item, before, pixels, how)
            number += 1
            progress(number, stream.frames)
        writer.submit(lambda: output.mux(video.encode()))
    if form == "mp4" and "xmp" in how.tags:
        file.seek(0, os.SEEK_END)
        file.write(provenance.mp4_box(how.tags["xmp"]))


class _InTurn:
    """Runs tasks in order in a thread. Only a few tasks may wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _InTurn:
        return self

    def submit(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Raises the exception of an earlier task."""
        self._waiting.append(self._pool.submit(work, *arguments))
        while len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)


def _items(container: Any, picture: Any, copies: dict[int, Any], how: Plan) -> Iterator[tuple[Any, Pixels | None]]:
    """Decoded frames with their pixels, and packets of the copied streams, in the order of the file."""
    streams = [stream for stream in container.streams if stream is picture or stream.index in copies]
    for packet in container.demux(*streams):
        if packet.stream.index == picture.index:
            yield from ((frame, rgb(frame, how)) for frame in packet.decode())
        elif packet.dts is not None:
            yield packet, None


def _copied_streams(container: Any, output: Any, form: str) -> dict[int, Any]:
    """Adds output streams for sound and subtitles, by the index of the input stream. Also adds attachments."""
    copies = {}
    for stream in container.streams:
        if stream.type == "attachment" and form == "matroska":
            output.add_attachment(stream.name or "attachment", stream.mimetype or "", bytes(stream.data))
        codec = stream.codec_context.name if stream.codec_context is not None else ""
        if stream.type == "audio" or (stream.type == "subtitle" and codec in output.supported_codecs):
            copy = output.add_stream_from_template(stream)
            copy.metadata.update(_kept_tags(stream))
            copy.disposition = stream.disposition
            copies[stream.index] = copy
    return copies


def _kept_tags(stream: Any) -> dict[str, str]:
    """The metadata of a stream, such as its language, without those of its encoding."""
    return {name: value for name, value in stream.metadata.items() if name.lower() not in _STREAM_TAGS}


def _video_stream(output: Any, like: Any, how: Plan) -> Any:
    video = output.add_stream(how.codec, rate=like.average_rate or 25)
    video.width, video.height = how.size
    video.pix_fmt = how.pix_fmt
    video.disposition = like.disposition
    context, given = video.codec_context, like.codec_context
    if shape := like.sample_aspect_ratio:  # tapes and DVDs have non-square pixels
        context.sample_aspect_ratio = shape
    context.time_base = like.time_base
    context.color_range = 2 if how.full_range else given.color_range
    context.color_primaries, context.color_trc = given.color_primaries, given.color_trc
    context.colorspace = _UNSPECIFIED if given.colorspace == _RGB else given.colorspace
    fields = {"tff": "tff=1", "bff": "bff=1"}.get(how.interlaced, "")
    video.options = {
        "libx264": {"crf": "16"} | ({"x264-params": fields} if fields else {}),
        "libx265": {"crf": "16", "x265-params": "log-level=none"},
        "prores_ks": {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"},
    }.get(how.codec, {"qscale": "2"})
    if how.codec == "libx265" and output.format.name != "matroska":
        context.codec_tag = "hvc1"  # Apple's players need this tag
    if how.rotation:
        video.set_display_rotation(how.rotation)
    video.metadata.update(_kept_tags(like))
    return video


def _encode(output: Any, video: Any, frame: Any, before: Pixels, after: Pixels, how: Plan) -> None:
    """Encodes a frame with the changes to its pixels."""
    if frame.format.name != how.pix_fmt:
        frame = frame.reformat(
            format=how.pix_fmt, dst_colorspace=how.matrix, dst_color_range=2 if how.full_range else 1
        )
    else:
        frame.make_writable()  # the decoder may still use the original
    add_change(frame, before, after, how)
    frame.pict_type = 0  # the encoder chooses the type
    output.mux(video.encode(frame))


def add_change(frame: Any, before: Pixels, after: Pixels, how: Plan) -> None:
    """Adds the changes of the upright pixels to a stored frame. Nothing else changes."""
    turns = -round(frame.rotation / 90)
    before, after = (np.rot90(picture, turns) for picture in (before, after))
    changed = before != after
    rows, columns = np.flatnonzero(changed.reshape(len(changed), -1).any(1)), np.flatnonzero(changed.any(0).any(1))
    if not len(rows):
        return
    # Chroma may have a lower resolution, so the sides are at multiples of four.
    top, left = rows[0] // 4 * 4, columns[0] // 4 * 4
    bottom, right = min(-(-(rows[-1] + 1) // 4) * 4, len(before)), min(-(-(columns[-1] + 1) // 4) * 4, before.shape[1])
    inside = (slice(top, bottom), slice(left, right))
    kr, kb = _KR_KB.get(how.matrix, (0.299, 0.114))
    change = after[inside].astype(np.float32) - before[inside]
    luma = change @ np.array([kr, 1 - kr - kb, kb], np.float32)
    blue, red = (change[..., 2] - luma) / (2 * (1 - kb)), (change[..., 0] - luma) / (2 * (1 - kr))
    components = frame.format.components
    scale = 2.0 ** (components[0].bits - 8)
    of_luma, of_chroma = (1.0, 1.0) if how.full_range else (219 / 255, 224 / 255)
    for plane, values, share in zip(frame.planes, (luma, blue, red), (of_luma, of_chroma, of_chroma), strict=False):
        _add(plane, values * np.float32(share * scale), (top, left), components[0].bits, frame)


def _add(plane: Any, values: NDArray[np.float32], place: tuple[int, int], bits: int, frame: Any) -> None:
    """Adds values to a plane at a position in the frame. The plane may have a lower resolution."""
    kind = np.uint8 if bits == 8 else np.uint16
    stored = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // np.dtype(kind).itemsize)
    down, across = round(frame.height / plane.height), round(frame.width / plane.width)
    top, left = place[0] // down, place[1] // across
    bottom = min(plane.height, top + -(-values.shape[0] // down))
    right = min(plane.width, left + -(-values.shape[1] // across))
    if (down, across) != (1, 1):
        values = np.asarray(cv2.resize(values, (right - left, bottom - top), interpolation=cv2.INTER_AREA), np.float32)
    part = stored[top:bottom, left:right]
    part[:] = np.clip(np.rint(part.astype(np.float32) + values), 0, 2**bits - 1).astype(kind)
