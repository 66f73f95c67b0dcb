"""Typed parameters: frozen and validated. Errors for unknown names suggest the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator
from pydantic.fields import FieldInfo

from wss.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


LOCAL: dict[str, JsonValue] = {"local": True}
"""Marks a field that holds a location on this machine, such as a path. It is not part of keys."""

LATER: dict[str, JsonValue] = {"later": True}
"""Marks a field that was added after stores had been written. Keys leave it out while it has its default, so those
stores are still found. The default must mean the behaviour of the stage before the field existed."""


class Params(BaseModel):
    """Base class of all parameter models. Numbers must be finite, because keys and JSON need this."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, values: Any) -> Any:
        """Refuse true and false for numbers. Pydantic would convert them to 1 and 0."""
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields:
                kinds = set(_kinds(cls.model_fields[name].annotation))
                if kinds & {int, float} and bool not in kinds:
                    raise ValueError(f"{name}: expected a number, got {str(value).lower()}")
        return values


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types of a field, through unions and annotations. A list or tuple is one type."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _kinds(argument)
    else:
        yield annotation


def nearest(name: object, known: Iterable[str]) -> str:
    """Hint for an unknown name: ``; did you mean 'x'?`` or the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"


def validate(model: type[Model], values: Any, where: str) -> Model:
    """Build a parameter model from plain values.

    Args:
        model: The parameter model.
        values: Plain values from YAML or the command line.
        where: Source of the values for error messages, for example ``pipelines/pce.yaml: stage train``.

    Raises:
        UsageError: A value has the wrong type or is out of range, or a name is unknown.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            path = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                owner = _model_at(model, item["loc"][:-1])
                hint = _hint(str(item["loc"][-1]), owner) if owner else ""
                problems.append(f"unknown parameter {path!r}{hint}")
            elif item["type"] == "missing":
                problems.append(f"parameter {path!r} is required")
            elif item["type"] == "union_tag_invalid":
                known = item["ctx"]["expected_tags"].replace("'", "").split(", ")
                problems.append(f"{path}: no {item['ctx']['tag']!r}{nearest(item['ctx']['tag'], known)}")
            else:
                message = item["msg"].removeprefix("Value error, ")
                got = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"
                problems.append((f"{path}: " if path else "") + message + got)
        raise UsageError(f"{where}: " + "; ".join(problems)) from None


def _hint(name: str, owner: type[BaseModel]) -> str:
    """Hint for a name that a model does not have: a nested parameter with this name, or the nearest name."""
    places = [
        f"{field}.*.{name}" if get_origin(info.annotation) in (list, tuple) else f"{field}.{name}"
        for field, info in owner.model_fields.items()
        if any(name in inner.model_fields for inner in _models_in(info.annotation))
    ]
    return f"; did you mean {' or '.join(map(repr, places))}?" if places else nearest(name, owner.model_fields)


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that owns the field at ``location``, through nested models, unions and lists."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        following: list[type[BaseModel]] = []
        for candidate in candidates:
            tags = [c for c in candidates if "name" in c.model_fields and c.model_fields["name"].default == part]
            if tags:  # a discriminated union names the chosen member in the location
                following = tags
                break
            if part in candidate.model_fields:
                following += _models_in(candidate.model_fields[str(part)].annotation)
            elif isinstance(part, int):
                following.append(candidate)
        candidates = following or candidates
    return candidates[0] if candidates else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    models: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        models += _models_in(argument)
    return models


def _as_before(value: BaseModel, name: str, field: FieldInfo) -> bool:
    """True for a field that was added later and has its default."""
    default = field.get_default(call_default_factory=True, validated_data={})
    return field.json_schema_extra == LATER and bool(getattr(value, name) == default)


def canonical(value: Any, tagged: bool = True) -> Any:
    """Convert parameters to plain JSON values that do not depend on the machine, for keys and provenance.

    Fields declared with ``json_schema_extra=LOCAL`` (paths) are left out; the content of their files enters keys
    separately. Fields declared with ``json_schema_extra=LATER`` are left out of tagged values while they have their
    default. Values have the type of their field, so ``1`` and ``1.0`` give the same result.

    Args:
        value: A parameter model, or a value inside one.
        tagged: Add the class name of every nested model, to distinguish models with equal fields.
    """
    if isinstance(value, BaseModel):
        fields = {
            name: canonical(getattr(value, name), tagged)
            for name, field in type(value).model_fields.items()
            if field.json_schema_extra != LOCAL and not (tagged and _as_before(value, name, field))
        }
        return {"": type(value).__name__, **fields} if tagged else fields
    if isinstance(value, dict):
        return {str(key): canonical(item, tagged) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [canonical(item, tagged) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
