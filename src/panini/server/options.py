"""The options of a request, as fields of a query or a form, and as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from panini.api import RestoreOptions, parse_box

_DEFAULTS = RestoreOptions()
Dial = Annotated[float, Field(ge=-1, le=1, description="-1: faithful to the photo; 1: realistic.")]
Share = Annotated[float, Field(ge=0, le=1)]
Passes = Annotated[int, Field(ge=1, le=8)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RestoreFields(_Strict):
    """The fields of `RestoreOptions` but `background`, which is a path; and how to write the result."""

    scale: int = Field(
        1, description="1, 2 or 4: how many times larger the result is.", json_schema_extra={"enum": [1, 2, 4]}
    )
    grain: Share = Field(0.0, description="How much of the photo's grain to add to the restored faces.")
    dial: Dial = 0.0
    dial_level: int | None = Field(None, description="Apply the dial only at this resolution: 4, 8, 16, …")
    strength: Share = Field(1.0, description="Blends the restored faces with the photo; 0 keeps the photo.")
    passes: Passes = Field(1, description="Average so many passes of the network.")
    only: list[int] = Field([], max_length=1000, description="Restore only these faces; 1 is the largest.")
    boxes: list[str] = Field(
        [], max_length=1000, description="Restore only faces whose center is in one of these boxes: x,y,width,height."
    )
    aligned: bool = Field(False, description="The photo is a square face crop.")
    keep: bool = Field(False, description="Return a photo without faces as it is.")
    consistent: bool | None = Field(None, description="Make the result equal to the photo when it is downsampled.")
    salvage: bool = Field(False, description="Take what is left of a damaged file.")
    mark: bool = Field(True, description="Note the restoration in the metadata of the result.")

    def options(self, like: bytes | None = None) -> RestoreOptions:
        """The options; `like` is the file of another photo. Raises PaniniError."""
        values = self.model_dump(exclude={"salvage", "mark", "only", "boxes"})
        return RestoreOptions(**values, only=tuple(self.only), boxes=tuple(map(parse_box, self.boxes)), like=like)


class FaceChange(_Strict):
    """New settings for one face."""

    number: int = Field(ge=1, description="1 is the first face of the job.")
    dial: Dial | None = None
    strength: Share | None = None
    restore: bool | None = Field(None, description="false leaves the face as it is in the photo.")


class Changes(_Strict):
    """New settings for a job; what is not named stays."""

    dial: Dial | None = Field(None, description="For all faces.")
    strength: Share | None = Field(None, description="For all faces.")
    scale: int | None = Field(None, json_schema_extra={"enum": [1, 2, 4, None]})
    grain: Share | None = None
    passes: Passes | None = None
    faces: list[FaceChange] = Field([], max_length=1000)
    boxes: list[tuple[float, float, float, float]] = Field(
        [], max_length=20, description="Faces to add, boxed by hand: x, y, width, height in pixels of the photo."
    )

    def options(self) -> dict[str, Any]:
        """The fields of `RestoreOptions` that change."""
        return self.model_dump(exclude={"faces", "boxes"}, exclude_none=True)
