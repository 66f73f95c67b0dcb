"""Descriptions of the parameters of a model, from the docstring under each field."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from pydantic import BaseModel

from wss.params import canonical


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: Name in pipeline files, after the names of the models that contain it (``augment.crop``).
        kind: Type annotation as in the source code.
        default: Default as a plain value; None if ``required``.
        required: True if the parameter has no default.
        text: Description.
    """

    name: str
    kind: str
    default: Any
    required: bool
    text: str


def parameters(model: type[BaseModel]) -> Iterator[Parameter]:
    """The parameters of a model, in their order.

    A nested model with a default is replaced by its own parameters, whose names begin with its name. The parameters of models in
    a list follow the list (``phases.*.lr``).
    """
    docs = _docs(model)
    for name, field in model.model_fields.items():
        nested = field.annotation
        if _is_model(nested) and not field.is_required():
            yield from _inside(name, nested)
            continue
        kind, text = docs.get(name, ("", ""))
        required = field.is_required()
        default = None if required else canonical(field.get_default(call_default_factory=True), tagged=False)
        yield Parameter(name, kind, default, required, text)
        for inner in getattr(nested, "__args__", ()):
            if getattr(nested, "__origin__", None) is tuple and _is_model(inner):
                yield from _inside(f"{name}.*", inner)


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inside(name: str, model: type[BaseModel]) -> Iterator[Parameter]:
    for inner in parameters(model):
        yield replace(inner, name=f"{name}.{inner.name}")


def _docs(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Type and docstring by field name. Fields of subclasses replace fields of their bases."""
    docs: dict[str, tuple[str, str]] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, BaseModel) or owner is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        if not isinstance(body, ast.ClassDef):
            continue
        for place, statement in enumerate(body.body):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            name, after = statement.target.id, body.body[place + 1 : place + 2]
            text = docs.get(name, ("", ""))[1]
            if after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant):
                text = " ".join(str(after[0].value.value).split())
            docs[name] = (ast.unparse(statement.annotation), text)
    return docs
