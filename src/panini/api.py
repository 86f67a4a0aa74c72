"""The Python API: find the faces in a photo, align and restore each one, and blend it back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panini import __version__
from panini.errors import NoFaceError, PaniniError
from panini.faces import MIN_FACE, align, blend
from panini.faces.aligner import Aligner
from panini.faces.detect import Box, CenterFace, Detector, Face, choose
from panini.inference import Edit, Engine, RestoredCrop, check_passes, load_engine, restore_crop
from panini.photo import consistency, provenance
from panini.photo import io as photo_io
from panini.photo.color import is_monochrome
from panini.photo.pixels import Pixels, to_signed
from panini.photo.upscale import Upscaler
from panini.report.face_report import Damage, FaceReport, as_dict, imagined_warning, make_report, share_in_words

Source = photo_io.Source | photo_io.Photo
"""A photo: a path, the bytes of a file, a binary file object, a Pillow image, a uint8 array [H, W], [H, W, 1],
[H, W, 3] RGB or [H, W, 4] RGBA, or a `Photo` that `panini.photo.io.load` read."""

Progress = Callable[[str, int, int], None]

SCALES = (1, 2, 4)

_NOT_FOR = {
    "a folder": ("aligned", "only", "boxes", "consistent", "like", "keep"),
    "a video": ("aligned", "only", "boxes", "consistent", "scale", "background", "keep"),
    "--strip": (
        *("only", "boxes", "consistent", "like", "dial", "dial_level", "strength", "keep", "grain", "scale"),
        "background",
    ),
}
"""The fields of `RestoreOptions` that a kind of work does not support."""
_OPTION_NAMES = {"boxes": "box", "dial_level": "dial-level"}

_EYES_AND_MOUTH = np.array([[0.35, 0.48], [0.65, 0.48], [0.5, 0.72]])
"""About where an aligned crop has them, x and y relative to its side."""
_MISPLACED = 0.08
"""A crop is aligned again if they are farther away than this, relative to its side. Of 328 aligned faces, all but one
measure up to 0.04, also if they are heavily damaged."""


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore faces. Photos, folders, videos, Python and the command line share these options.

    Raises PaniniError if a value is out of range or if options contradict each other.
    """

    scale: int = 1
    """1, 2 or 4: the factor by which to enlarge the photo. Not with `aligned`."""
    background: Path | None = None
    """An ONNX super-resolution network that enlarges everything but the faces. Needs `scale` 2 or 4. None: cubic
    interpolation."""
    grain: float = 0.0
    """In [0, 1]: how much of the photo's grain to add to the restored faces. Not with `aligned`."""
    dial: float = 0.0
    """In [-1, 1], from faithful to the photo to realistic. It edits the network's estimate of the damage (v_DR); 0 does
    not."""
    dial_level: int | None = None
    """Apply the dial only at this resolution of the network: 4, 8, 16, ... None: at all of them."""
    strength: float = 1.0
    """In [0, 1]: how much of the restored faces to blend with the photo. 0 keeps the photo, 1 is fully restored."""
    like: Source | None = None
    """Assume the damage of the largest face in this other photo. With `aligned`, the other photo is also a face
    crop."""
    passes: int = 1
    """1 to 8: the number of passes (runs of the network over the shifted or mirrored face) to average."""
    only: tuple[int, ...] = ()
    """Restore only these faces, by number; 1 is the largest. Not with `aligned`."""
    boxes: tuple[Box, ...] = ()
    """Restore only the faces centered in one of these boxes (x, y, width, height), in pixels. Not with `aligned`."""
    aligned: bool = False
    """The photo is an aligned, square face crop of any size. The result has the output size of the network.

    If the face is elsewhere in the crop, it is aligned for the restoration, and the result says so; not with
    `consistent`."""
    keep: bool = False
    """Return a photo without faces unchanged (or enlarged) instead of raising NoFaceError."""
    consistent: bool | None = None
    """Make the result match the photo exactly when downsampled; see `panini.photo.consistency`. None: only for an
    `aligned` crop that is probably a plain downsampling: small, clean, and with a nearly consistent result."""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise PaniniError(f"scale must be 1, 2 or 4, not {self.scale}")
        for name, lowest in (("grain", 0), ("dial", -1), ("strength", 0)):
            value = getattr(self, name)
            if not lowest <= value <= 1:
                raise PaniniError(f"{name} must be between {lowest} and 1, not {value}")
        check_passes(self.passes)
        object.__setattr__(self, "only", tuple(self.only))
        object.__setattr__(self, "boxes", tuple(self.boxes))
        if self.dial_level is not None and not self.dial:
            raise PaniniError("--dial-level needs a --dial other than 0")
        if self.background is not None and self.scale == 1:
            raise PaniniError("--background needs --scale 2 or 4")
        if self.aligned and (self.scale != 1 or self.only or self.boxes or self.grain):
            raise PaniniError("scale, only, boxes and grain do not work with aligned: the photo is a single face")

    def check_for(self, work: str) -> None:
        """Raises PaniniError if `work` ("a folder", "a video" or "--strip") does not support an option."""
        defaults = RestoreOptions()
        for name in _NOT_FOR[work]:
            value, default = getattr(self, name), getattr(defaults, name)
            if value is not default and (name == "like" or value != default):
                raise PaniniError(f"--{_OPTION_NAMES.get(name, name)} does not work with {work}")

    def as_dict(self) -> dict[str, Any]:
        """The options that folders support, as plain values for JSON."""
        names = [field.name for field in fields(self) if field.name not in _NOT_FOR["a folder"]]
        return {name: getattr(self, name) for name in names} | {
            "background": None if self.background is None else str(self.background.resolve())
        }

    def in_words(self) -> str:
        """The options that differ from the defaults, for the mark, such as `scale 2, only 2 5`.

        Without `dial` and `strength`, which the mark has separately, and `keep`, which does not change a face.
        """
        said = []
        for option in fields(self):
            name, value = option.name, getattr(self, option.name)
            if name == "like" and value is not None:
                said.append(f"like {_content_digest(value)}")
            elif name not in ("like", "dial", "strength", "keep") and value != option.default:
                said.append(f"{name} {_in_words(value)}")
        return ", ".join(said)


def _in_words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(",".join(map(_in_words, v)) if isinstance(v, tuple) else _in_words(v) for v in value)
    return value.name if isinstance(value, Path) else f"{value:g}" if isinstance(value, float) else str(value)


def _content_digest(photo: Source) -> str:
    """Identifies the file of another photo without naming it."""
    if isinstance(photo, str | os.PathLike):
        photo = Path(photo).read_bytes()
    return hashlib.sha256(photo).hexdigest()[:12] if isinstance(photo, bytes) else "another photo"


def parse_box(text: str) -> Box:
    """Parses `x,y,width,height` in pixels. Raises PaniniError."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise PaniniError(f"a box must be x,y,width,height in pixels, not {text!r}") from None
    return x, y, w, h


@dataclass(frozen=True)
class FaceSettings:
    """The options for each face, made from `RestoreOptions` by `Restorer.prepare`."""

    edit: Edit = field(default_factory=Edit)
    strength: float = 1.0
    passes: int = 1

    def blend(self, after: Pixels, crop: Pixels) -> Pixels:
        """Blends a restored square crop with the original crop by `strength`."""
        if self.strength == 1:
            return after
        share = self.strength
        return np.asarray(cv2.addWeighted(after, share, _square(crop, after.shape[0]), 1 - share, 0), np.uint8)


@dataclass(frozen=True)
class RestoredFace:
    """One restored face."""

    face: Face
    """Position and landmarks, in pixels of the photo. For an aligned photo: the whole photo, with NaN landmarks."""
    before: Pixels
    """uint8 RGB [input_size, input_size, 3] (512 in the default network): the aligned crop, before restoration."""
    after: Pixels
    """uint8 RGB [output_size, output_size, 3] (1024): the restored crop, with the color and light of the photo."""
    degradation: NDArray[np.float32]
    """[dim] (256): the degradation representation (v_DR) of the face, before the dial is applied."""
    prior_share: NDArray[np.float32]
    """[levels] in [0, 1], coarse to fine: the share of features from the GAN prior instead of the photo."""
    report: FaceReport
    """The damage, the share of imagined detail and the expected errors; `panini.report.face_report.describe` puts it in
    words."""
    inside: NDArray[np.bool_]
    """[input_size, input_size]: True where `before` shows the photo. Elsewhere, `before` is padded by reflection."""
    made: RestoredCrop = field(repr=False)
    """The output of the network: `after` before blending it with the photo."""


@dataclass(frozen=True)
class Restoration:
    """A restored photo. Use `np.asarray(result.image)` to get an array."""

    photo: photo_io.Photo
    faces: list[RestoredFace]
    """Largest first. Empty only if no face was found and `keep` is set."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds per step."""
    weights: str = ""
    """Digest of the network's weights file."""
    consistent: bool = False
    """Whether the result matches the photo exactly when downsampled; see `panini.photo.consistency`."""
    smaller: int = 0
    """Number of faces that were skipped because they are narrower than `min_face`."""
    min_face: float = 0.0
    """Width in pixels below which faces are skipped."""
    options: str = ""
    """The options, for the mark in the metadata; see `Restorer.options_in_words`."""
    realigned: bool = False
    """With `aligned`: whether the face was not where an aligned crop has it, so that Panini aligned it."""

    @property
    def image(self) -> Image.Image:
        """The result as a Pillow image in the mode of the photo: L, LA, RGB or RGBA."""
        return self.photo.image()

    @property
    def imagined(self) -> float | None:
        """The share of imagined detail in [0, 1], averaged over the faces. None if unknown."""
        return mean_imagined(self.faces)

    @property
    def earlier(self) -> dict[str, str]:
        """The mark of earlier restorations in the metadata of the photo; see `panini.photo.provenance.read`."""
        return provenance.read(self.photo.metadata.xmp)

    @property
    def imagined_in_all(self) -> float | None:
        """The share of detail imagined by this and all earlier restorations. None if one of them is unknown."""
        if self.imagined is None:
            return None
        return provenance.imagined(provenance.with_earlier({"Imagined": str(self.imagined)}, self.earlier))

    @property
    def remarks(self) -> list[str]:
        """Warnings about the result, for the user."""
        said = []
        if self.smaller:
            faces = "1 face" if self.smaller == 1 else f"{self.smaller} faces"
            said.append(f"skipped {faces} smaller than {self.min_face:g} px; see --min-face")
        if self.realigned:
            said.append("the face is not where an aligned crop has it, so Panini aligned it")
        if warning := imagined_warning([face.report for face in self.faces]):
            said.append(warning)
        if self.faces and self.earlier:
            share = self.imagined_in_all
            whole = "" if share is None else f"; in total, {share_in_words(share)} of the detail is imagined"
            said.append(f"it was restored before{whole}")
        return said

    def as_dict(self) -> dict[str, Any]:
        """All data about the restoration, as plain values for JSON."""
        faces = [
            {"box": [round(float(x), 1) for x in face.face.box], "score": round(face.face.score, 3)}
            | as_dict(face.report)
            for face in self.faces
        ]
        timings = {step: round(seconds, 3) for step, seconds in self.timings.items()}
        return {
            "version": __version__,
            "weights": self.weights,
            "imagined": None if self.imagined is None else round(self.imagined, 3),
            "imagined_in_all": None if self.imagined_in_all is None else round(self.imagined_in_all, 3),
            "restored_before": provenance.restorations(self.earlier) if self.earlier else 0,
            "consistent": self.consistent,
            "smaller_faces": self.smaller,
            "remarks": self.remarks,
            "faces": faces,
            "seconds": timings,
        }

    def made_consistent(self, given: photo_io.Photo) -> Restoration:
        """A copy that matches the photo `given` exactly when downsampled. Raises PaniniError if it is not
        larger than `given`, or if that is too large."""
        pixels = consistency.consistent(self.photo.pixels, given.pixels)
        aligned = self.photo.pixels  # for an aligned photo, these are also the pixels of the face
        faces = [replace(face, after=pixels) if face.after is aligned else face for face in self.faces]
        return replace(self, photo=replace(self.photo.of_eight_bits(), pixels=pixels), faces=faces, consistent=True)

    def save(
        self,
        target: str | os.PathLike[str] | IO[bytes],
        format: str | None = None,
        *,
        overwrite: bool = False,
        mark: bool = True,
    ) -> Path | None:
        """Writes the result with the metadata of the photo to a path or a binary file object. Returns the path.

        format: such as "PNG" or "JPEG". None: chosen by the suffix of the path. A file object needs a format.
        overwrite: replace an existing file. The photo itself is never replaced.
        mark: record the restoration, the version and the share of imagined detail in the metadata.
        Raises PaniniError if the result cannot be written.
        """
        return photo_io.save(self.marked(self.photo) if mark else self.photo, target, format, overwrite=overwrite)

    def marked(self, photo: photo_io.Photo, dial: str = "", shows: str = "") -> photo_io.Photo:
        """Returns `photo`, a picture of the restored faces, with the mark in its metadata: a record of the restoration.

        dial: a description of several dial settings. shows: the kind of picture, unless it is the result.
        """
        if not self.faces:
            return photo
        said = mark_entries(self.weights, self.faces, self.options, self.consistent)
        more = ({"Dial": dial} if dial else {}) | ({"Shows": shows} if shows else {})
        return replace(photo, metadata=provenance.add_to_metadata(photo.metadata, said | more))


@dataclass(frozen=True)
class FoundFaces:
    """A photo and the faces found in it; made by `Restorer.find`."""

    photo: photo_io.Photo
    faces: list[Face]
    """Largest first."""
    transforms: list[align.Transform]
    """The transform from the photo to the crop of each face."""
    smaller: int = 0
    """Number of faces that were skipped because they are narrower than the detector's `min_face`."""


def mean_imagined(faces: Sequence[RestoredFace]) -> float | None:
    """The share of imagined detail in [0, 1], averaged over the faces. None if unknown."""
    shares = [face.report.imagined for face in faces if face.report.imagined is not None]
    return sum(shares) / len(shares) if shares else None


def mark_entries(
    weights: str, faces: Sequence[RestoredFace], options: str = "", consistent: bool = False
) -> dict[str, str]:
    """The entries of the mark for a picture or video with these faces; see `panini.photo.provenance`."""
    first, passes = faces[0].report, max(face.report.passes for face in faces)
    return provenance.entries(
        weights, first.dial, first.strength, len(faces), mean_imagined(faces), first.like, consistent, passes, options
    )


class Restorer:
    """Restores the faces in photos. Loading takes about a second, so reuse one restorer for all photos."""

    def __init__(self, engine: Engine | None = None, detector: Detector | None = None, *, device: str = "auto") -> None:
        """engine: the network. None: the network in the package, on `device` (see `load_engine`).

        detector: the face detector. None: `CenterFace`, which always runs on the CPU.
        """
        self.engine = load_engine(device=device) if engine is None else engine
        self._detector = detector
        self._aligner: Aligner | None = None
        self.progress: Progress = lambda step, done, of: None
        """Called with the step, the number of finished parts and the number of all parts (first tiles, then faces)."""

    @property
    def detector(self) -> Detector:
        """The face detector, loaded on first use."""
        if self._detector is None:
            self._detector = CenterFace()
        return self._detector

    def restore(self, image: Source, options: RestoreOptions | None = None, **choices: Any) -> Restoration:
        """Restores every face in a photo.

        choices: fields of `RestoreOptions` that override `options`, as in `restore(photo, dial=0.5)`.
        Raises PaniniError if the photo cannot be read or the options do not fit it, NoFaceError if there is no face.
        """
        options = replace(options or RestoreOptions(), **choices)
        settings = self.prepare(options)
        timings: dict[str, float] = {}
        with _clock(timings, "read"):
            photo = image if isinstance(image, photo_io.Photo) else photo_io.load(image)
            monochrome = is_monochrome(photo.pixels)
        if options.aligned:
            restored = self._restore_aligned(photo, monochrome, options, settings, timings)
            restored = replace(restored, options=self.options_in_words(options))
            if restored.realigned:
                return restored
            plain = self._is_plain(restored, photo) if options.consistent is None else options.consistent
            return restored.made_consistent(photo) if plain else restored

        found = self.find(photo, options, timings)
        faces: list[RestoredFace] = []
        for face, transform in zip(found.faces, found.transforms, strict=True):
            self.progress("restoring faces", len(faces), len(found.faces))
            faces.append(self.restore_face(photo.pixels, face, transform, monochrome, settings, timings))
        return self.compose(found, faces, options, timings)

    def find(self, photo: photo_io.Photo, options: RestoreOptions, timings: dict[str, float]) -> FoundFaces:
        """Finds the faces that `options` select. Adds the seconds per step to `timings`.

        Raises PaniniError if a selected face does not exist, and NoFaceError if there is no face and `keep` is not set.
        """
        with _clock(timings, "detect"):
            if isinstance(self.detector, CenterFace):
                self.detector.progress = lambda done, of: self.progress("finding faces", done, of)
            faces = choose(self.detector(photo.pixels), options.only, options.boxes)
            smaller = getattr(self.detector, "smaller", 0)
        if not faces and not options.keep:
            raise self._no_face(photo, smaller)
        with _clock(timings, "align"):
            transforms = [self.transform(photo.pixels, face) for face in faces]
        return FoundFaces(photo, faces, transforms, smaller)

    def compose(
        self, found: FoundFaces, faces: list[RestoredFace], options: RestoreOptions, timings: dict[str, float]
    ) -> Restoration:
        """Blends one restored face for each of `found` into the photo. Adds the seconds per step to `timings`.

        faces: as many as `found.faces`, in their order. Uses `scale`, `background`, `grain` and `consistent` of
        `options`. Raises PaniniError if `background` cannot be used or the result cannot be made consistent.
        """
        photo, size = found.photo, self.engine.input_size
        with _clock(timings, "blend"):
            upscaler = None if options.background is None else _upscaler(options.background)
            result = photo.enlarged(options.scale, upscaler)
            result = replace(result, pixels=result.pixels.copy())
            masks = blend.masks(found.transforms, size)
            for face, transform, mask in zip(faces, found.transforms, masks, strict=True):
                patch = blend.patch(photo.pixels, face.after, transform, size, options.grain)
                around = blend.share_around(face.before, face.after, align.scale_of(transform), face.face.yaw)
                blend.paste(result.pixels, patch, mask * around, transform, size, options.scale)
        restored = Restoration(
            result,
            faces,
            timings,
            self.engine.digest,
            smaller=found.smaller,
            min_face=getattr(self.detector, "min_face", 0.0),
            options=self.options_in_words(options),
        )
        return restored.made_consistent(photo) if options.consistent else restored

    def options_in_words(self, options: RestoreOptions) -> str:
        """The options and the detector's `min_face` that differ from the defaults, for the mark."""
        smallest = getattr(self._detector, "min_face", MIN_FACE)
        said = options.in_words(), "" if smallest == MIN_FACE else f"min_face {smallest:g}"
        return ", ".join(filter(None, said))

    def prepare(self, options: RestoreOptions) -> FaceSettings:
        """Prepares the options for each face. Raises PaniniError if `like`, `background` or the dial cannot be used."""
        edit = Edit(options.dial, options.dial_level)
        edit.check(self.engine)  # before the slow part
        if options.background is not None:
            _upscaler(options.background)
        if options.like is not None:
            edit = replace(edit, start=self.degradation(options.like, aligned=options.aligned))
        return FaceSettings(edit, options.strength, options.passes)

    def _is_plain(self, restored: Restoration, given: photo_io.Photo) -> bool:
        """Whether an aligned crop is probably a plain downsampling, according to its restoration."""
        calibration, (face,) = self.engine.calibration, restored.faces
        if max(given.pixels.shape[:2]) >= self.engine.input_size or calibration is None:
            return False
        if calibration.adds(face.degradation) or face.report.strength != 1:
            return False
        return consistency.close(restored.photo.pixels, given.pixels)

    def _no_face(self, photo: photo_io.Photo, smaller: int = 0) -> NoFaceError:
        smallest = getattr(self.detector, "min_face", MIN_FACE)
        among = "" if smallest == MIN_FACE and not smaller else f" at least {smallest:g} px wide"
        others = f", but {smaller} smaller; see --min-face" if smaller else ""
        return NoFaceError(f"{photo.path or 'the picture'}: no face{among} found{others}")

    def transform(self, pixels: Pixels, face: Face) -> align.Transform:
        """The transform from a photo, uint8 RGB [H, W, 3], to the aligned crop of a face in it."""
        if self._aligner is None:
            self._aligner = Aligner()
        size = self.engine.input_size
        return self._aligner(pixels, align.ffhq_transform(face.landmarks, size, align.DETECTED_ZOOM), size)

    def crop(self, pixels: Pixels, transform: align.Transform) -> Pixels:
        """The aligned crop [input_size, input_size, 3] of a photo, uint8 RGB [H, W, 3]."""
        return np.asarray(align.warp(pixels, transform, 2 * (self.engine.input_size,)), np.uint8)

    def degradation(self, image: Source, *, aligned: bool = False) -> NDArray[np.float32]:
        """The v_DR [dim] of the largest face in a photo, or of an `aligned` face crop.

        Raises PaniniError if the photo cannot be read, NoFaceError if it has no face.
        """
        photo = image if isinstance(image, photo_io.Photo) else photo_io.load(image)
        if aligned:
            crop = _square(photo.pixels, self.engine.input_size)
        else:
            found = self.detector(photo.pixels)
            if not found:
                raise self._no_face(photo)
            crop = self.crop(photo.pixels, self.transform(photo.pixels, found[0]))
        return self.engine.degradation(to_signed(crop)[None])[0]

    def _restore_aligned(
        self,
        photo: photo_io.Photo,
        monochrome: bool,
        options: RestoreOptions,
        settings: FaceSettings,
        timings: dict[str, float],
    ) -> Restoration:
        crop = _square(photo.pixels, self.engine.input_size)
        with _clock(timings, "detect"):
            found = None if options.consistent else self._misplaced(photo, crop)
        if found is not None:
            restored = self.restore_face(crop, found.faces[0], found.transforms[0], monochrome, settings, timings)
            options = replace(options, aligned=False, consistent=False, scale=self.engine.output_size // len(crop))
            return replace(self.compose(found, [restored], options, timings), realigned=True)
        inside = np.ones(crop.shape[:2], np.bool_)
        height, width = photo.pixels.shape[:2]
        whole = Face((0.0, 0.0, float(width), float(height)), 1.0, np.full((5, 2), np.nan, np.float32))
        with _clock(timings, "network"):
            made = restore_crop(self.engine, crop, settings.edit, monochrome=monochrome, passes=settings.passes)
        face = self._restored_face(whole, crop, inside, float(height), made, settings, timings)
        alpha = None if photo.alpha is None else _square(photo.alpha, face.after.shape[0])
        photo = replace(photo.of_eight_bits(), pixels=face.after, alpha=alpha)
        return Restoration(photo, [face], timings, self.engine.digest)

    def _misplaced(self, photo: photo_io.Photo, crop: Pixels) -> FoundFaces | None:
        """The largest face of a photo, resized to `crop`, if eyes and mouth are not where an aligned crop has them."""
        faces = self.detector(crop)[:1]
        if not faces:
            return None
        transform = self.transform(crop, faces[0])
        places = len(crop) * _EYES_AND_MOUTH
        moved = places @ transform[:, :2].T + transform[:, 2] - places
        if np.hypot(*moved.T).max() <= _MISPLACED * len(crop):
            return None
        alpha = None if photo.alpha is None else _square(photo.alpha, len(crop))
        return FoundFaces(replace(photo.of_eight_bits(), pixels=crop, alpha=alpha), faces, [transform], 0)

    def restore_face(
        self,
        pixels: Pixels,
        face: Face,
        transform: align.Transform,
        monochrome: bool,
        settings: FaceSettings,
        timings: dict[str, float],
        earlier: RestoredFace | None = None,
    ) -> RestoredFace:
        """Restores one face of a photo, uint8 RGB [H, W, 3]. Adds the seconds per step to `timings`.

        transform: from `Restorer.transform`. monochrome: from `panini.photo.color.is_monochrome`, for the whole photo.
        earlier: the same face, restored with other settings. Its crop and v_DR are reused.
        """
        if earlier is None:
            with _clock(timings, "align"):
                crop = self.crop(pixels, transform)
                inside = align.covered(pixels.shape[:2], transform, len(crop))
        else:
            crop, inside = earlier.before, earlier.inside
        with _clock(timings, "network"):
            own = None if earlier is None else earlier.degradation
            edit, passes = settings.edit, settings.passes
            made = restore_crop(self.engine, crop, edit, monochrome=monochrome, passes=passes, own=own)
        native = self.engine.input_size / align.scale_of(transform)
        return self._restored_face(face, crop, inside, native, made, settings, timings)

    def blend_face(
        self, earlier: RestoredFace, transform: align.Transform, settings: FaceSettings, timings: dict[str, float]
    ) -> RestoredFace:
        """A restored face with another `strength`, the only setting that may differ; the network does not run."""
        native = self.engine.input_size / align.scale_of(transform)
        return self._restored_face(
            earlier.face, earlier.before, earlier.inside, native, earlier.made, settings, timings
        )

    def _restored_face(
        self,
        face: Face,
        crop: Pixels,
        inside: NDArray[np.bool_],
        native: float,
        made: RestoredCrop,
        settings: FaceSettings,
        timings: dict[str, float],
    ) -> RestoredFace:
        """native: side of the crop in pixels of the photo."""
        with _clock(timings, "blend"):
            after = settings.blend(made.image, crop)
        with _clock(timings, "report"):
            report = make_report(
                self.engine.calibration,
                made.degradation,
                made.prior_share,
                made.image_share,
                made.crop,
                after,
                native=native,
                dial=settings.edit.dial,
                strength=settings.strength,
                like=settings.edit.start is not None,
                passes=made.passes,
            )
            if made.scratched:
                found = Damage("scratches", 1.0, made.scratched, "scratches")
                report = replace(report, damages=[*report.damages, found])
        return RestoredFace(face, crop, after, made.degradation, made.prior_share, report, inside, made)


def restore(image: Source, options: RestoreOptions | None = None, **choices: Any) -> Restoration:
    """Restores a single photo. Short for `Restorer().restore(...)`."""
    return Restorer().restore(image, options, **choices)


@lru_cache(1)
def _upscaler(path: Path) -> Upscaler:
    return Upscaler(path)


def _square(array: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes [S, S] or [S, S, C] to size x size. Raises PaniniError if it is not square."""
    height, width = array.shape[:2]
    if height != width:
        raise PaniniError(f"an aligned face must be square, not {width}x{height}")
    interpolation = cv2.INTER_AREA if array.shape[0] > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(array, (size, size), interpolation=interpolation), np.uint8)


@contextmanager
def _clock(timings: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + perf_counter() - start
