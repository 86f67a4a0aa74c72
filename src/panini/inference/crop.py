"""Restores an aligned crop with the network, then matches its color. Photos, videos and calibration use this."""

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
    """How to edit the v_DR of a face before it conditions the network."""

    dial: float = 0.0
    """In [-1, 1], from faithful to the photo to realistic. 0: no edit."""
    level: int | None = None
    """The resolution (4, 8, ...) to apply the dial at. None: all of them, and the choice between the input and the
    generated face."""
    start: Array | None = None
    """[dim]: a v_DR to start from instead of the face's own, such as that of another photo."""

    def check(self, engine: Engine) -> None:
        """Raises PaniniError if the engine has no dial or no such level."""
        if not self.dial:
            return
        if engine.calibration is None:
            raise PaniniError("these weights have no dial: calibrate them with `panini calibrate`")
        if self.level is not None and self.level not in (levels := _resolutions(engine)):
            raise PaniniError(f"--dial-level must be one of {', '.join(map(str, levels))}, not {self.level}")

    def apply(self, own: Array, engine: Engine) -> Array:
        """The edited v_DR [1, levels + 1, dim] of a face with the v_DR `own` [dim]. Raises the errors of `check`."""
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
    """A restored crop."""

    image: Pixels
    """[output_size, output_size, 3] RGB, with the color and light of the crop."""
    degradation: Array
    """[dim]: the v_DR of the face, before any edit."""
    prior_share: Array
    """[levels]; see `EngineOutput`."""
    image_share: Array
    """[1]; see `EngineOutput`."""
    passes: int
    """Number of passes that were averaged."""
    crop: Pixels
    """[input_size, input_size, 3]: the input of the network, which is the crop with its scratches filled."""
    scratched: float = 0.0
    """Share of the crop that was filled because it was scratched."""


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

    monochrome: keep the single tone of the photo, such as gray or sepia.
    passes: number of passes to average, 1 to 8.
    own: the v_DR [dim] of the face, if it is already known or was smoothed over time.
    Raises PaniniError if `passes` is out of range or the engine cannot apply `edit` (see `Edit.check`).
    """
    crop, scratched = scratches.cleaned(crop)
    faces = to_signed(crop)[None]
    own = engine.degradation(faces)[0] if own is None else own
    output = restore_averaged(engine, faces, edit.apply(own, engine), own[None], passes)
    image = match_color(from_signed(output.images[0]), crop, monochrome=monochrome)
    return RestoredCrop(image, own, output.prior_share[0], output.image_share[0], passes, crop, scratched)


def _resolutions(engine: Engine) -> list[int]:
    return [4 << level for level in range(engine.levels)]
