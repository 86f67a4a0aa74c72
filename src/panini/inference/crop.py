"""Restores an aligned crop: network, then color match. Photos, videos and calibration all use this."""

from __future__ import annotations

from dataclasses import dataclass

from panini.errors import PaniniError
from panini.inference.base import Array, Engine, at_every_level
from panini.inference.ensemble import restore_averaged
from panini.photo import scratches
from panini.photo.color import match_color
from panini.photo.pixels import Pixels, from_signed, to_signed


@dataclass(frozen=True)
class Edit:
    """How a face's v_DR is edited before it steers the network."""

    dial: float = 0.0
    """In [-1, 1]. -1: faithful to the photo; 0: unedited; 1: realistic."""
    level: int | None = None
    """The resolution (4, 8, ...) at which the dial acts; None: all of them, and the bands of the input."""
    start: Array | None = None
    """[dim]: a v_DR to start from instead of the face's own, such as that of another photo."""

    def check(self, engine: Engine) -> None:
        """Raises PaniniError if the engine has no dial or no such level."""
        if not self.dial:
            return
        if engine.calibration is None:
            raise PaniniError("these weights have no dial: `panini calibrate` measures it")
        if self.level is not None and self.level not in (levels := _resolutions(engine)):
            raise PaniniError(f"the dial works at {', '.join(map(str, levels))}, not at {self.level}")

    def apply(self, own: Array, engine: Engine) -> Array:
        """The v_DR [1, levels + 1, dim] for a face whose own one is `own` [dim]. Raises PaniniError as `check` does."""
        self.check(engine)
        start = own if self.start is None else self.start
        v = at_every_level(start[None], engine.levels)
        if self.dial and engine.calibration is not None:
            turned = engine.calibration.apply_dial(start, self.dial)
            v[:, slice(None) if self.level is None else _resolutions(engine).index(self.level)] = turned
        return v


NO_EDIT = Edit()


@dataclass(frozen=True)
class RestoredCrop:
    """One aligned face, restored."""

    image: Pixels
    """[output_size, output_size, 3] RGB, in the color and light of the crop."""
    degradation: Array
    """[dim]: the face's own v_DR, before any edit."""
    prior_share: Array
    """[levels]; see `EngineOutput`."""
    image_share: Array
    """[bands]; see `EngineOutput`."""
    passes: int
    """Number of passes that `image` is the mean of."""
    crop: Pixels
    """[input_size, input_size, 3]: the network's input, which is the crop with its scratches filled."""
    scratched: float = 0.0
    """Share of the crop that was scratched."""


def restore_crop(
    engine: Engine,
    crop: Pixels,
    edit: Edit = NO_EDIT,
    *,
    monochrome: bool = False,
    passes: int = 1,
    own: Array | None = None,
) -> RestoredCrop:
    """Restores an aligned crop, uint8 RGB [input_size, input_size, 3].

    monochrome: keep the single tone, gray or sepia, of the photo.
    passes: how many passes to average, 1 to 8.
    own: the face's v_DR [dim], if the caller has it or smoothed it over time.
    """
    crop, scratched = scratches.cleaned(crop)
    faces = to_signed(crop)[None]
    own = engine.degradation(faces)[0] if own is None else own
    output = restore_averaged(engine, faces, edit.apply(own, engine), own[None], passes)
    image = match_color(from_signed(output.images[0]), crop, monochrome=monochrome)
    return RestoredCrop(image, own, output.prior_share[0], output.image_share[0], passes, crop, scratched)


def _resolutions(engine: Engine) -> list[int]:
    return [4 << level for level in range(engine.levels)]
