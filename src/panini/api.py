"""The way through: photo -> faces found -> each aligned -> network -> blended back -> photo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panini import __version__
from panini.errors import NoFaceError, PaniniError
from panini.faces import align, blend
from panini.faces.aligner import Aligner
from panini.faces.detect import Box, CenterFace, Detector, Face, choose
from panini.inference import Engine, load_engine
from panini.photo import consistency
from panini.photo import io as images
from panini.photo import provenance as marks
from panini.photo.pixels import Signed, from_signed, to_signed
from panini.photo.upscale import Upscaler
from panini.report.face_report import Report, adds, as_dict, make_report

Source = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | images.Photo
"""What can be restored: a file, a Pillow image, a uint8 array [H, W], [H, W, 1], [H, W, 3] RGB or [H, W, 4] RGBA, or
what `panini.photo.io.load` makes of one of these."""

SCALES = (1, 2, 4)


@dataclass(frozen=True)
class Setting:
    """How a face is to be restored. Raises PaniniError for what cannot be."""

    dial: float = 0.0
    """-1: faithful to the photo … 0: what the network judges … 1: realistic. It edits v_DR."""
    level: int | None = None
    """The resolution (4, 8, …) at which the dial works; None for all of them and the photo's own detail."""
    strength: float = 1.0
    """How much of the result to take: 0 is the input, 1 all."""
    like: Signed | None = None
    """[dim]: the v_DR to start from instead of the face's own, as of another photo."""

    def __post_init__(self) -> None:
        if not -1 <= self.dial <= 1:
            raise PaniniError(f"dial must be between -1 and 1, not {self.dial}")
        if not 0 <= self.strength <= 1:
            raise PaniniError(f"strength must be between 0 and 1, not {self.strength}")

    def mixed(self, after: NDArray[np.uint8], crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A restored crop, blended with the crop itself as `strength` says; both are square."""
        if self.strength == 1:
            return after
        share = self.strength
        return np.asarray(cv2.addWeighted(after, share, _square(crop, after.shape[0]), 1 - share, 0), np.uint8)

    def degradation(self, v: Signed, engine: Engine) -> Signed:
        """What to tell the network of a face whose v_DR is `v` [dim]: [dim], or [levels + 1, dim].

        Raises PaniniError as `check` does.
        """
        self.check(engine)
        start = v if self.like is None else self.like
        if not self.dial or engine.calibration is None:
            return start
        turned = engine.calibration.turned(start, self.dial)
        if self.level is None:
            return turned
        rows = np.repeat(start[None], engine.levels + 1, 0)
        rows[_resolutions(engine).index(self.level)] = turned
        return rows

    def check(self, engine: Engine) -> None:
        """Raises PaniniError if the engine has no dial or no such level."""
        if not self.dial:
            return
        if engine.calibration is None:
            raise PaniniError("these weights have no dial: `panini calibrate` measures it")
        if self.level is not None and self.level not in (levels := _resolutions(engine)):
            raise PaniniError(f"the dial works at {', '.join(map(str, levels))}, not at {self.level}")


@dataclass(frozen=True)
class RestoredFace:
    """One face, before and after."""

    face: Face
    """Where it was found, in pixels of the photo."""
    before: NDArray[np.uint8]
    """[512, 512, 3] RGB: the aligned crop that the network saw."""
    after: NDArray[np.uint8]
    """[1024, 1024, 3] RGB: the crop restored, in the photo's colour and light."""
    degradation: NDArray[np.float32]
    """[256]: what the network saw of the damage (v_DR), before any dial."""
    prior_share: NDArray[np.float32]
    """[levels] in [0, 1], coarse to fine: how much came from the GAN prior and not from the photo."""
    report: Report
    """The damage in words, the share imagined and where; see `panini.report.face_report.describe`."""
    inside: NDArray[np.bool_]
    """[512, 512]: where `before` is of the photo; beyond the photo's edge it is its mirror image."""


@dataclass(frozen=True)
class Restoration:
    """A restored photo. `np.asarray(result.image)` is its array."""

    photo: images.Photo
    faces: list[RestoredFace]
    """Largest first; empty only if no face was found and `keep` allowed that."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by step."""
    weights: str = ""
    """Digest of the network's weights file."""
    consistent: bool = False
    """Whether the result, made small again, is the photo; see `panini.photo.consistency`."""

    @property
    def image(self) -> Image.Image:
        """The result in the mode that came in: L, LA, RGB or RGBA."""
        return self.photo.image()

    @property
    def imagined(self) -> float | None:
        """Share of the faces' detail that is imagined, 0..1, their mean; None if it is not known."""
        return mean_imagined(self.faces)

    def as_dict(self) -> dict[str, Any]:
        """All that is known of it, for JSON."""
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
            "consistent": self.consistent,
            "faces": faces,
            "seconds": timings,
        }

    def made_consistent(self, given: images.Photo) -> Restoration:
        """The same, its picture changed so that, made as small as `given`, it is that. Raises PaniniError."""
        pixels = consistency.consistent(self.photo.pixels, given.pixels)
        aligned = self.photo.pixels  # such a photo is its face
        faces = [replace(face, after=pixels) if face.after is aligned else face for face in self.faces]
        return replace(self, photo=replace(self.photo.of_eight_bits(), pixels=pixels), faces=faces, consistent=True)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, mark: bool = True) -> Path:
        """Writes the result with the input's metadata, in the format of the suffix; see `panini.photo.io.save`.

        mark: say in the metadata that faces were restored, by what, and how much is imagined; see
            `panini.photo.provenance`.
        """
        return images.save(self.marked(self.photo) if mark else self.photo, path, overwrite=overwrite)

    def marked(self, photo: images.Photo, dial: str = "") -> images.Photo:
        """A picture that shows the restored faces, its metadata saying so. dial: words for its setting, if not one."""
        if not self.faces:
            return photo
        first = self.faces[0].report
        said = marks.notes(
            self.weights,
            first.dial,
            first.strength,
            len(self.faces),
            self.imagined,
            like=first.like,
            consistent=self.consistent,
            looks=most_looks(self.faces),
        )
        return replace(photo, metadata=marks.marked(photo.metadata, said | ({"Dial": dial} if dial else {})))


def _resolutions(engine: Engine) -> list[int]:
    """Of the engine's levels."""
    return [4 << level for level in range(engine.levels)]


def check_grain(grain: float) -> None:
    """Raises PaniniError if it is no share."""
    if not 0 <= grain <= 1:
        raise PaniniError(f"grain must be between 0 and 1, not {grain}")


def mean_imagined(faces: Sequence[RestoredFace]) -> float | None:
    """Share of the faces' detail that is imagined, 0..1, their mean; None if it is not known."""
    shares = [face.report.imagined for face in faces if face.report.imagined is not None]
    return sum(shares) / len(shares) if shares else None


def most_looks(faces: Sequence[RestoredFace]) -> int:
    """How many restorations one of the faces is the mean of, at most."""
    return max((face.report.looks for face in faces), default=1)


class Restorer:
    """Restores the faces in photos. Loading takes a moment, so keep one and use it again."""

    def __init__(self, engine: Engine | None = None, detector: Detector | None = None) -> None:
        """`engine` is by default the network that the package carries, `detector` CenterFace. `load_engine(looks=6)` is
        one that restores every face six times and takes the mean; see `panini.inference.Ensemble`."""
        self.engine = load_engine() if engine is None else engine
        self._detector = detector
        self._aligner: Aligner | None = None

    @property
    def detector(self) -> Detector:
        """Loaded when a photo first needs it."""
        if self._detector is None:
            self._detector = CenterFace()
        return self._detector

    def restore(
        self,
        image: Source,
        *,
        aligned: bool = False,
        scale: int = 1,
        keep: bool = False,
        only: Sequence[int] = (),
        boxes: Sequence[Box] = (),
        grain: float = 0.0,
        background: Upscaler | None = None,
        dial: float = 0.0,
        dial_level: int | None = None,
        like: Source | None = None,
        strength: float = 1.0,
        consistent: bool | None = None,
    ) -> Restoration:
        """Restores every face in a photo.

        aligned: the picture is itself a square face crop of any size; the result is the network's square.
        scale: 1, 2 or 4 times the photo's own size; does not go with `aligned`.
        keep: a photo without faces comes back as it is (or enlarged) instead of raising NoFaceError.
        only, boxes: restore these faces alone, by their number (1 is the largest) or by a box that their middle is in.
        grain: how much of the photo's own grain to lay over the restored faces again, 0 to 1.
        background: enlarges what is no face, if `scale` is 2 or 4.
        dial: from -1, faithful to the photo, to 1, realistic; 0 is what the network judges.
        dial_level: turn the dial at one of the network's resolutions alone: 4, 8, 16, ….
        like: treat the faces as if they were damaged as the largest face of this other picture is, a face crop if
            `aligned`.
        strength: 0 leaves the faces as they are, 1 restores them, between is a blend.
        consistent: whether the result made small again is the photo, as it should for plain down-samplings (see
            `panini.photo.consistency`); by default of an aligned face that looks like one: smaller than what the
            network takes, no noise and no JPEG found, and nearly consistent already.
        Raises PaniniError if the picture cannot be read or does not fit these choices.
        """
        if scale not in SCALES:
            raise PaniniError(f"scale must be 1, 2 or 4, not {scale}")
        if aligned and (scale != 1 or only or boxes or grain):
            raise PaniniError("scale, only, boxes and grain do not go with aligned: the picture is one face")
        check_grain(grain)
        setting = self.setting(dial, dial_level, strength, like, aligned=aligned)
        timings: dict[str, float] = {}
        with _clock(timings, "read"):
            photo = image if isinstance(image, images.Photo) else images.load(image)
            toned = blend.is_toned(photo.pixels)
        if aligned:
            restored = self._restore_aligned(photo, toned, setting, timings)
            plain = self._is_plain(restored, photo) if consistent is None else consistent
            return restored.made_consistent(photo) if plain else restored

        with _clock(timings, "detect"):
            found = choose(self.detector(photo.pixels), only, boxes)
        if not found and not keep:
            raise self._no_face(photo)
        with _clock(timings, "align"):
            size = self.engine.input_size
            transforms = [self.transform(photo.pixels, face) for face in found]
        with _clock(timings, "blend"):
            result = photo.enlarged(scale, background)
            result = replace(result, pixels=result.pixels.copy())
            masks = blend.masks(transforms, size)
        faces = []
        for face, transform, mask in zip(found, transforms, masks, strict=True):
            faces.append(self.restore_at(photo.pixels, face, transform, toned, setting, timings))
            with _clock(timings, "blend"):
                patch = blend.patch(photo.pixels, faces[-1].after, transform, size, grain)
                blend.paste(result.pixels, patch, mask, transform, size, scale)
        restored = Restoration(result, faces, timings, self.engine.digest)
        return restored.made_consistent(photo) if consistent else restored

    def _is_plain(self, restored: Restoration, given: images.Photo) -> bool:
        """Whether an aligned photo looks like a larger one made small and no more, to judge by its restoration."""
        if max(given.pixels.shape[:2]) >= self.engine.input_size or self.engine.calibration is None:
            return False
        report = restored.faces[0].report
        return (
            not adds(report.damages) and report.strength == 1 and consistency.close(restored.photo.pixels, given.pixels)
        )

    def _no_face(self, photo: images.Photo) -> NoFaceError:
        smallest = getattr(self.detector, "min_face", 24)
        among = "" if smallest == 24 else f" from {smallest:g} pixels across"
        return NoFaceError(f"{photo.path or 'the picture'}: no face{among} found")

    def setting(
        self, dial: float, dial_level: int | None, strength: float, like: Source | None, *, aligned: bool = False
    ) -> Setting:
        """What these choices of `restore` come to. Raises PaniniError if they cannot be."""
        Setting(dial, dial_level, strength).check(self.engine)  # before `like`, which takes a while
        return Setting(dial, dial_level, strength, None if like is None else self.degradation(like, aligned=aligned))

    def transform(self, pixels: NDArray[np.uint8], face: Face) -> align.Transform:
        """From a photo uint8 RGB [H, W, 3] to the crop of a face in it that the network sees."""
        if self._aligner is None:
            self._aligner = Aligner()
        size = self.engine.input_size
        return self._aligner(pixels, align.ffhq_transform(face.landmarks, size, align.DETECTED_ZOOM), size)

    def crop(self, pixels: NDArray[np.uint8], transform: align.Transform) -> NDArray[np.uint8]:
        """The crop [input_size, input_size, 3] that a transform takes from a photo uint8 RGB [H, W, 3]."""
        return np.asarray(align.warp(pixels, transform, 2 * (self.engine.input_size,)), np.uint8)

    def degradation(self, image: Source, *, aligned: bool = False) -> Signed:
        """v_DR [dim] of the largest face in a picture, or of one that is a face crop itself. Raises PaniniError."""
        photo = image if isinstance(image, images.Photo) else images.load(image)
        if aligned:
            crop = _square(photo.pixels, self.engine.input_size)
        else:
            found = self.detector(photo.pixels)
            if not found:
                raise self._no_face(photo)
            crop = self.crop(photo.pixels, self.transform(photo.pixels, found[0]))
        return self.engine.degradation(to_signed(crop)[None])[0]

    def _restore_aligned(
        self, photo: images.Photo, toned: bool, setting: Setting, timings: dict[str, float]
    ) -> Restoration:
        crop = _square(photo.pixels, self.engine.input_size)
        inside = np.ones(crop.shape[:2], np.bool_)
        height, width = photo.pixels.shape[:2]
        whole = Face((0.0, 0.0, float(width), float(height)), 1.0, np.full((5, 2), np.nan, np.float32))
        face = self._restore_crop(whole, crop, inside, float(height), toned, setting, timings)
        alpha = None if photo.alpha is None else _square(photo.alpha, face.after.shape[0])
        photo = replace(photo.of_eight_bits(), pixels=face.after, alpha=alpha)
        return Restoration(photo, [face], timings, self.engine.digest)

    def restore_at(
        self,
        pixels: NDArray[np.uint8],
        face: Face,
        transform: align.Transform,
        toned: bool,
        setting: Setting,
        timings: dict[str, float],
    ) -> RestoredFace:
        """Restores the crop that a transform takes from a photo uint8 RGB [H, W, 3], `toned` if it is grey or sepia.

        Adds what each step took to `timings`. Raises PaniniError as `Setting.degradation` does.
        """
        with _clock(timings, "align"):
            crop = self.crop(pixels, transform)
            inside = align.covered(pixels.shape[:2], transform, len(crop))
        native = self.engine.input_size / align.scale_of(transform)
        return self._restore_crop(face, crop, inside, native, toned, setting, timings)

    def _restore_crop(
        self,
        face: Face,
        crop: NDArray[np.uint8],
        inside: NDArray[np.bool_],
        native: float,
        toned: bool,
        setting: Setting,
        timings: dict[str, float],
    ) -> RestoredFace:
        """`restore_at` of a crop [input_size, input_size, 3]; native: its side in the photo's own pixels."""
        with _clock(timings, "network"):
            faces = to_signed(crop)[None]
            v = self.engine.degradation(faces)[0]
            output = self.engine.restore(faces, setting.degradation(v, self.engine)[None], v[None])
        with _clock(timings, "blend"):
            after = setting.mixed(blend.match_colour(from_signed(output.images[0]), crop, toned=toned), crop)
        with _clock(timings, "report"):
            prior, kept = output.prior_share[0], output.image_share[0]
            like, calibration = setting.like is not None, self.engine.calibration
            (looks,) = output.looks or (1,)
            report = make_report(
                calibration, v, prior, kept, crop, after, setting.dial, setting.strength, like, native, looks
            )
        return RestoredFace(face, crop, after, v, prior, report, inside)


def restore(image: Source, **choices: Any) -> Restoration:
    """`Restorer().restore(...)`, for a single photo."""
    return Restorer().restore(image, **choices)


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Of an aligned crop [S, S, 3]: the variance of its Laplacian at 256 pixels. Below about 50 it is soft."""
    grey = cv2.cvtColor(_square(crop, 256), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _square(array: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[S, S] or [S, S, C] brought to size x size: bicubic up, averaged down. Raises PaniniError if not square."""
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
