"""The way through: photo -> faces found -> each aligned -> network -> blended back -> photo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panini import images
from panini.background import Upscaler
from panini.engine import Engine, load_engine
from panini.errors import NoFaceError, PaniniError
from panini.faces import align, blend
from panini.faces.aligner import Aligner
from panini.faces.detect import Box, CenterFace, Detector, Face, choose
from panini.pixels import from_signed, to_signed

Source = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | images.Photo
"""What can be restored: a file, a Pillow image, a uint8 array [H, W], [H, W, 1], [H, W, 3] RGB or [H, W, 4] RGBA, or
what `panini.images.load` makes of one of these."""

SCALES = (1, 2, 4)


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
    """[256]: what the network took the damage to be (v_DR)."""
    prior_share: NDArray[np.float32]
    """[levels] in [0, 1], coarse to fine: how much came from the GAN prior and not from the photo."""


@dataclass(frozen=True)
class Restoration:
    """A restored photo. `np.asarray(result.image)` is its array."""

    photo: images.Photo
    faces: list[RestoredFace]
    """Largest first; empty only if no face was found and `keep` allowed that."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by step."""

    @property
    def image(self) -> Image.Image:
        """The result in the mode that came in: L, LA, RGB or RGBA."""
        return self.photo.image()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Writes the result with the input's metadata, in the format of the suffix; see `panini.images.save`."""
        return images.save(self.photo, path, overwrite=overwrite)


class Restorer:
    """Restores the faces in photos. Loading takes a moment, so keep one and use it again."""

    def __init__(self, engine: Engine | None = None, detector: Detector | None = None) -> None:
        """`engine` is by default the network that the package carries, `detector` CenterFace."""
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
    ) -> Restoration:
        """Restores every face in a photo.

        aligned: the picture is itself a square face crop of any size; the result is the network's square.
        scale: 1, 2 or 4 times the photo's own size; does not go with `aligned`.
        keep: a photo without faces comes back as it is (or enlarged) instead of raising NoFaceError.
        only, boxes: restore these faces alone, by their number (1 is the largest) or by a box that their middle is in.
        grain: how much of the photo's own grain to lay over the restored faces again, 0 to 1.
        background: enlarges what is no face, if `scale` is 2 or 4.
        Raises PaniniError if the picture cannot be read or does not fit these choices.
        """
        if scale not in SCALES:
            raise PaniniError(f"scale must be 1, 2 or 4, not {scale}")
        if aligned and (scale != 1 or only or boxes):
            raise PaniniError("scale, only and boxes do not go with aligned: the picture is one face")
        if not 0 <= grain <= 1:
            raise PaniniError(f"grain must be between 0 and 1, not {grain}")
        timings: dict[str, float] = {}
        with _clock(timings, "read"):
            photo = image if isinstance(image, images.Photo) else images.load(image)
            toned = blend.is_toned(photo.pixels)
        if aligned:
            return self._restore_aligned(photo, toned, timings)

        with _clock(timings, "detect"):
            found = choose(self.detector(photo.pixels), only, boxes)
        if not found and not keep:
            raise NoFaceError(f"{photo.path or 'the picture'}: no face found")
        with _clock(timings, "align"):
            size = self.engine.input_size
            transforms = [self.transform(photo.pixels, face) for face in found]
        with _clock(timings, "blend"):
            result = photo.enlarged(scale, background)
            result = replace(result, pixels=result.pixels.copy())
            masks = blend.masks(transforms, size)
        faces = []
        for face, transform, mask in zip(found, transforms, masks, strict=True):
            with _clock(timings, "align"):
                crop = np.asarray(align.warp(photo.pixels, transform, (size, size)), np.uint8)
            faces.append(self._restore_crop(face, crop, toned, timings))
            with _clock(timings, "blend"):
                patch = blend.patch(photo.pixels, faces[-1].after, transform, size, grain)
                blend.paste(result.pixels, patch, mask, transform, size, scale)
        return Restoration(result, faces, timings)

    def transform(self, pixels: NDArray[np.uint8], face: Face) -> align.Transform:
        """From a photo uint8 RGB [H, W, 3] to the crop of a face in it that the network sees."""
        if self._aligner is None:
            self._aligner = Aligner()
        size = self.engine.input_size
        return self._aligner(pixels, align.ffhq_transform(face.landmarks, size, align.DETECTED_ZOOM), size)

    def _restore_aligned(self, photo: images.Photo, toned: bool, timings: dict[str, float]) -> Restoration:
        height, width = photo.pixels.shape[:2]
        if height != width:
            raise PaniniError(f"an aligned face must be square, not {width}x{height}")
        crop = _square(photo.pixels, self.engine.input_size)
        whole = Face((0.0, 0.0, float(width), float(height)), 1.0, np.full((5, 2), np.nan, np.float32))
        face = self._restore_crop(whole, crop, toned, timings)
        alpha = None if photo.alpha is None else _square(photo.alpha, face.after.shape[0])
        return Restoration(replace(photo, pixels=face.after, alpha=alpha, deep=None), [face], timings)

    def _restore_crop(
        self, face: Face, crop: NDArray[np.uint8], toned: bool, timings: dict[str, float]
    ) -> RestoredFace:
        with _clock(timings, "network"):
            faces = to_signed(crop)[None]
            v = self.engine.degradation(faces)
            output = self.engine.restore(faces, v)
        with _clock(timings, "blend"):
            after = blend.match_colour(from_signed(output.images[0]), crop, toned=toned)
        return RestoredFace(face, crop, after, v[0], output.prior_share[0])


def restore(image: Source, *, aligned: bool = False, scale: int = 1, keep: bool = False) -> Restoration:
    """`Restorer().restore(...)`, for a single photo."""
    return Restorer().restore(image, aligned=aligned, scale=scale, keep=keep)


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Of an aligned crop [S, S, 3]: the variance of its Laplacian at 256 pixels. Below about 50 it is soft."""
    grey = cv2.cvtColor(_square(crop, 256), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _square(array: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W] or [H, W, C] brought to size x size: bicubic up, averaged down."""
    interpolation = cv2.INTER_AREA if array.shape[0] > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(array, (size, size), interpolation=interpolation), np.uint8)


@contextmanager
def _clock(timings: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + perf_counter() - start
