"""Objects that can be drawn on an image: strokes, points, boxes, accepted regions, erasures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from wss.draw import limits
from wss.draw.refusals import Refused
from wss.labels import UNLABELLED

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Coordinate = Annotated[float, Field(ge=-100_000, le=200_000, allow_inf_nan=False)]
Label = Annotated[int, Field(ge=0, lt=UNLABELLED, strict=True)]
Brush = Annotated[float, Field(ge=0.5, le=limits.BRUSH, allow_inf_nan=False)]
Points = Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=1, max_length=limits.POINTS)]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: Id


class StrokeObject(_Object):
    """The trace of a round brush."""

    kind: Literal["stroke"]
    label: Label = Field(alias="class")
    width: Brush
    points: Points


class PointObject(_Object):
    """One print of a round brush."""

    kind: Literal["point"]
    label: Label = Field(alias="class")
    x: Coordinate
    y: Coordinate
    width: Brush


class BoxObject(_Object):
    """The box of an object, which is not painted."""

    kind: Literal["box"]
    label: Label = Field(alias="class")
    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate


class Runs(BaseModel):
    """Pixels as run lengths down the columns, as in COCO: outside, inside, outside, ..."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Annotated[int, Field(ge=1, le=100_000)], Annotated[int, Field(ge=1, le=100_000)]]
    counts: list[Annotated[int, Field(ge=0, le=2**40, strict=True)]]

    @model_validator(mode="after")
    def _whole(self) -> Runs:
        if sum(self.counts) != self.size[0] * self.size[1]:
            raise ValueError("the runs do not sum up to the size")
        return self


class RegionObject(_Object):
    """A region of a mask that somebody accepted as a label."""

    kind: Literal["region"]
    label: Label = Field(alias="class")
    rle: Runs


class EraseObject(_Object):
    """A brush that clears what was drawn before it."""

    kind: Literal["erase"]
    width: Brush
    points: Points


AnyObject = Annotated[StrokeObject | PointObject | BoxObject | RegionObject | EraseObject, Field(discriminator="kind")]
_OBJECT: TypeAdapter[AnyObject] = TypeAdapter(AnyObject)


def checked(value: Any, classes: int, size: tuple[int, int] | None) -> dict[str, Any]:
    """Check an object that a client sends.

    Args:
        value: What came, from JSON.
        classes: Number of classes.
        size: Height and width of the image, or None where they are not known yet.

    Returns:
        The object as plain values, in the order of its fields.

    Raises:
        Refused: It is no object, or lies far off the image, or its class does not exist.
    """
    try:
        item = _OBJECT.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:80]
        raise Refused(400, f"not an object that can be drawn: {place}: {first['msg']}"[:300]) from None
    label = getattr(item, "label", None)
    if label is not None and label >= classes:
        raise Refused(400, f"class {label} does not exist, there are {classes}; reload the page")
    if size is not None:
        _require_near(item, size)
    plain: dict[str, Any] = item.model_dump(mode="json", by_alias=True)
    return plain


def _require_near(item: Any, size: tuple[int, int]) -> None:
    """Refuse what lies farther off the image than its own size, and regions of another size."""
    height, width = size
    if isinstance(item, RegionObject):
        if item.rle.size != size:
            raise Refused(400, f"the region is of an image of {item.rle.size[1]}x{item.rle.size[0]} pixels; reload")
        return
    if isinstance(item, BoxObject):
        places = [(item.x0, item.y0), (item.x1, item.y1)]
    elif isinstance(item, PointObject):
        places = [(item.x, item.y)]
    else:
        places = item.points
    if any(not (-width <= x <= 2 * width and -height <= y <= 2 * height) for x, y in places):
        raise Refused(400, "the object lies far outside the image; draw it on the image")
