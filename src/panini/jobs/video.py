"""Restores the faces in a video. Finds and tracks them first, then restores them with temporal smoothing.

Needs the extra `video` (PyAV). `panini.jobs.video_io` reads and writes the files and copies the sound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.api import FaceSettings, RestoredFace, RestoreOptions, Restorer, mark_entries
from panini.errors import NoFaceError, PaniniError, one_line
from panini.faces import align, blend
from panini.faces.detect import Face, overlap
from panini.files import write_atomically
from panini.inference import restore_crop
from panini.jobs import video_io
from panini.photo import io as photo_io
from panini.photo import provenance, scratches
from panini.photo.color import is_monochrome
from panini.photo.pixels import Pixels, to_signed

_CUT = 40.0  # of 255: mean difference between the last frame of a scene and the first of the next
_SEARCHED_EVERY = 5  # frames: interval at which the whole frame is searched
_SAME_FACE = 0.3  # intersection over union of two boxes of one face in neighboring frames
_LOST = 8  # frames that a face may be missing before its track ends
_SHORTEST = 3  # frames: shorter tracks are discarded
_STEADY = 2.0  # frames: sigma of the Gaussian that smooths the position of a crop over time
_FADE = 4  # frames in which a face's restoration fades in and out
_FRESH = 0.3  # weight of the current frame in a still face; the rest comes from earlier frames
_STILL = 5.0  # of 255: below this change, every second frame reuses the previous restoration
_MOTION = 10.0  # of 255: above this change, only the current frame counts

Progress = Callable[[str, int, int], None]

_DEFAULTS = RestoreOptions()


@dataclass
class Track:
    """One face through consecutive frames."""

    first: int  # number of its first frame
    places: list[NDArray[np.float64]]
    """Its crop in each frame: x and y of the center, log of the side, angle in radians. Smoothed at the end."""
    last: Face  # the face in the last frame where it was found
    missed: int = 0  # number of frames since then
    fades: tuple[bool, bool] = (True, True)  # whether it fades in and out; not at a cut
    v: NDArray[np.float32] | None = None  # v_DR [dim], smoothed over time
    reused: bool = False  # whether the last frame reused an earlier restoration
    before: NDArray[np.float32] | None = None  # the last restored crop, [64, 64, 3], as `_blurred` makes it
    after: NDArray[np.float32] | None = None  # the last restoration, averaged over frames

    def weight(self, frame: int) -> float:
        """The opacity of the restoration in a frame, in (0, 1]."""
        i, end = frame - self.first, len(self.places)
        rise = (i + 1) / _FADE if self.fades[0] else 1.0
        fall = (end - i) / _FADE if self.fades[1] else 1.0
        return min(1.0, rise, fall)


def restore_video(
    restorer: Restorer,
    source: Path,
    target: Path,
    options: RestoreOptions = _DEFAULTS,
    *,
    overwrite: bool = False,
    mark: bool = True,
    steady: bool = True,
    progress: Progress = lambda step, done, of: None,
    tell: Callable[[str], None] = lambda words: None,
) -> int:
    """Restores the faces in `source` and writes the video to `target`. Returns the number of tracked faces.

    mark: record the restoration in the metadata; see `panini.photo.provenance`.
    steady: smooth crops and results over time. False restores each frame independently.
    progress: called with the step, the number of finished frames and the number of all frames (0 if unknown).
    tell: called before the work starts, with a description of each part of the video that cannot be kept.
    Raises PaniniError if the video cannot be read or written or the options do not fit, NoFaceError if it has no face.
    """
    options.check_for("a video")
    check_output(target, source, overwrite=overwrite)
    settings = restorer.prepare(options)
    try:
        how = video_io.plan(source, target)
        for words in how.lost:
            tell(words)
        tracks = _track_faces(restorer, source, how, steady, progress)
        if not tracks:
            raise NoFaceError(f"{source}: no face found")
        if mark:
            faces = _examples(restorer, source, how, tracks, settings)
            said = mark_entries(restorer.engine.digest, faces, restorer.options_in_words(options))
            how = replace(how, tags=provenance.add_to_tags(how.tags, said))

        def retouch(pixels: Pixels, number: int) -> None:
            _restore_frame(restorer, pixels, number, tracks, settings, options.grain, steady)

        def told(done: int, of: int) -> None:
            progress("restoring", done, of)

        write_atomically(target, lambda file: video_io.write(source, target, file, how, retouch, told))
    except (video_io.FFmpegError, OSError, ValueError) as error:
        raise PaniniError(f"{source} cannot be restored: {one_line(error)}") from error
    return len(tracks)


def check_output(target: Path, source: Path, *, overwrite: bool) -> None:
    """Does the checks of `photo_io.check_output` for videos."""
    photo_io.check_input(source)
    if target.suffix.lower() not in photo_io.VIDEOS_WRITTEN:
        known = " ".join(photo_io.VIDEOS_WRITTEN)
        raise PaniniError(f"{target}: unknown suffix {target.suffix!r}; use one of {known} for videos")
    photo_io.check_place(target, source, overwrite=overwrite)


def _track_faces(restorer: Restorer, source: Path, how: video_io.Plan, steady: bool, progress: Progress) -> list[Track]:
    """Finds the faces and tracks them through the frames.

    Searches the whole frame after a cut and every few frames. In between, searches for each face near its last
    position. Tracks a new face back to its first frame.
    """
    detector, done, active = restorer.detector, list[Track](), list[Track]()
    every = _SEARCHED_EVERY if hasattr(detector, "look_again") else 1
    number, before, recent = -1, None, deque[Pixels](maxlen=_SEARCHED_EVERY - 1)
    for number, (pixels, total) in enumerate(video_io.frames(source, how)):
        small = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        cut = before is None or float(np.abs(small - before).mean()) > _CUT
        if cut:
            for track in active:
                track.fades = (track.fades[0], False)
            done, active = done + active, []
            recent.clear()
        before = small
        whole = cut or number % every == 0
        if whole:
            faces = detector(pixels)
        else:
            faces = [face for track in active if (face := _look_again(restorer, pixels, track.last)) is not None]
        for track in active:
            match = _same(track, faces)
            faces = [face for face in faces if face is not match]
            _continue(track, match, restorer, pixels)
        done += [track for track in active if track.missed > _LOST]
        active = [track for track in active if track.missed <= _LOST]
        if whole:
            active += [_begun(restorer, face, pixels, number, recent, cut) for face in faces]
        recent.append(pixels)
        progress("finding faces", number + 1, total)
    for track in active:
        track.fades = (track.fades[0], track.missed > 0)
    tracks = [track for track in done + active if len(track.places) >= min(_SHORTEST, number + 1)]
    if steady:
        for track in tracks:
            track.places = list(_smooth(np.array(track.places)))
    return sorted(tracks, key=lambda track: track.first)


def _continue(track: Track, match: Face | None, restorer: Restorer, pixels: Pixels) -> None:
    """Adds a frame to a track. match: the face in this frame; None if it was not found."""
    if match is None:
        track.missed += 1
        return
    place = _place(restorer.transform(pixels, match), restorer.engine.input_size)
    start = track.places[-1]
    place[3] = start[3] + (place[3] - start[3] + np.pi) % (2 * np.pi) - np.pi
    # Interpolate over the frames in which it was not found.
    track.places += [start + (place - start) * k / (track.missed + 1) for k in range(1, track.missed + 2)]
    track.last, track.missed = match, 0


def _begun(restorer: Restorer, face: Face, pixels: Pixels, number: int, recent: Iterable[Pixels], cut: bool) -> Track:
    """Starts a track. It begins before frame `number` if the face is visible in the `recent` frames."""
    size, last = restorer.engine.input_size, face
    places = [_place(restorer.transform(pixels, face), size)]
    for earlier in reversed(list(recent)):
        found = _look_again(restorer, earlier, last)
        if found is None or overlap(found, last)[0] <= _SAME_FACE:
            break
        place, last = _place(restorer.transform(earlier, found), size), found
        place[3] = places[0][3] + (place[3] - places[0][3] + np.pi) % (2 * np.pi) - np.pi
        places.insert(0, place)
    first = number - len(places) + 1
    return Track(first, places, face, fades=(not cut and first > 0, True))


def _look_again(restorer: Restorer, pixels: Pixels, face: Face) -> Face | None:
    """Finds a face near its position in another frame. None if it is gone, or if the detector does not support this."""
    look_again = getattr(restorer.detector, "look_again", lambda pixels, face: None)
    return look_again(pixels, face)


def _same(track: Track, faces: list[Face]) -> Face | None:
    """The face that continues the track."""
    best = max(faces, key=lambda face: overlap(face, track.last)[0], default=None)
    return best if best is not None and overlap(best, track.last)[0] > _SAME_FACE else None


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooths [N, C] over the first axis with a Gaussian of `_STEADY`, truncated at the ends."""
    reach = np.arange(len(values))
    weights = np.exp(-0.5 * ((reach[:, None] - reach) / _STEADY) ** 2)
    # Fits a line instead of a constant, so that motion does not lag at the ends.
    result = np.empty_like(values)
    for i, weight in enumerate(weights):
        x = reach - i
        basis = np.stack([np.ones_like(x), x], 1) * np.sqrt(weight)[:, None]
        result[i] = np.linalg.lstsq(basis, values * np.sqrt(weight)[:, None], rcond=None)[0][0]
    return result


def _place(transform: align.Transform, size: int) -> NDArray[np.float64]:
    back = align.invert(transform)
    x, y = back[:, :2] @ [size / 2, size / 2] + back[:, 2]
    return np.array([x, y, np.log(align.scale_of(back) * size), np.arctan2(back[1, 0], back[0, 0])])


def _transform(place: NDArray[np.float64], size: int) -> align.Transform:
    x, y, log_side, turn = place
    zoom = size / np.exp(log_side)
    linear = zoom * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.hstack([linear, ([size / 2, size / 2] - linear @ [x, y])[:, None]])


def _examples(
    restorer: Restorer, source: Path, how: video_io.Plan, tracks: list[Track], settings: FaceSettings
) -> list[RestoredFace]:
    """Restores each face in the middle frame of its track, to predict the share of imagined detail for the metadata.

    This happens first, because a container starts with its tags.
    """
    size = restorer.engine.input_size
    faces: list[RestoredFace] = []
    for number, (pixels, _) in enumerate(video_io.frames(source, how)):
        for track in tracks:
            if number == track.first + len(track.places) // 2:
                transform = _transform(track.places[number - track.first], size)
                monochrome = is_monochrome(pixels)
                faces.append(restorer.restore_face(pixels, track.last, transform, monochrome, settings, {}))
        if len(faces) == len(tracks):
            break
    return faces


def _restore_frame(
    restorer: Restorer,
    pixels: Pixels,
    number: int,
    tracks: list[Track],
    settings: FaceSettings,
    grain: float,
    steady: bool,
) -> None:
    """Restores the faces in a frame [H, W, 3], in place."""
    size = restorer.engine.input_size
    here = [track for track in tracks if 0 <= number - track.first < len(track.places)]
    transforms = [_transform(track.places[number - track.first], size) for track in here]
    original = pixels.copy()
    monochrome = is_monochrome(original)
    for track, transform, mask in zip(here, transforms, blend.masks(transforms, size), strict=True):
        seen = restorer.crop(original, transform)
        if steady and _keeps_still(track, seen):
            restored = np.rint(np.asarray(track.after)).astype(np.uint8)
        else:
            restored = _restore_crop(restorer, track, seen, monochrome, settings, steady)
        if number - track.first == len(track.places) - 1:
            track.before = track.after = None  # saves memory: a long video has many tracks
        patch = blend.patch(original, settings.blend(restored, seen), transform, size, grain)
        around = blend.share_around(seen, restored, align.scale_of(transform))
        blend.paste(pixels, patch, mask * around * track.weight(number), transform, size)


def _keeps_still(track: Track, seen: Pixels) -> bool:
    """Whether a crop is like the last frame, so that its restoration is reused. Never for two frames in a row."""
    if track.before is None or track.after is None or track.reused:
        track.reused = False
        return False
    change = np.abs(_blurred(seen) - track.before).max(2)[8:-8, 8:-8]
    track.reused = bool(np.quantile(change, 0.98) < _STILL)
    return track.reused


def _restore_crop(
    restorer: Restorer, track: Track, seen: Pixels, monochrome: bool, settings: FaceSettings, steady: bool
) -> Pixels:
    """Restores a crop. With `steady`, v_DR is smoothed over time and the result is averaged with earlier ones."""
    crop, _ = scratches.cleaned(seen)
    v = restorer.engine.degradation(to_signed(crop)[None])[0]
    if steady and track.v is not None:
        v = 0.8 * track.v + 0.2 * v
    track.v = v
    restored = restore_crop(
        restorer.engine, crop, settings.edit, monochrome=monochrome, passes=settings.passes, own=v
    ).image
    return _average(track, seen, restored) if steady else restored


def _blurred(crop: Pixels) -> NDArray[np.float32]:
    """[64, 64, 3]: a small, blurred copy of a crop, to compare frames."""
    small = cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)


def _average(track: Track, crop: Pixels, restored: Pixels) -> Pixels:
    """Averages the restored crop with earlier ones where the face does not move."""
    seen = _blurred(crop)
    after = restored.astype(np.float32)
    if track.before is not None and track.after is not None:
        motion = cv2.dilate(np.abs(seen - track.before).max(2), np.ones((3, 3)))
        fresh = np.clip(motion / _MOTION, _FRESH, 1).astype(np.float32)
        fresh = cv2.resize(fresh, restored.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
        after = track.after + fresh * (after - track.after)
    track.before, track.after = seen, after
    return np.rint(after).astype(np.uint8)
