"""Recipes: named parameters of a pipeline, for training and its phases above all, which a preset can replace.

A mapping in the parameters of a stage takes a recipe over by ``recipe: NAME``; what stands beside it counts more. A recipe may
take over another one. The names are roles (``training``, ``first``, ``second``, ...): a preset replaces a recipe whole, wherever
a pipeline uses it, and so does not depend on the ids of stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wss.errors import UsageError
from wss.params import nearest
from wss.pipeline.changes import NOTHING, at, merge


@dataclass(frozen=True)
class Recipes:
    """The recipes that hold for one stage.

    Attributes:
        own: Those of the pipeline, by name.
        preset: Those of the preset, which replace them, by name.
        source: The preset's name, for errors.
        changes: Changes of single values by recipe (``--set recipes.first.steps=100``).
    """

    own: Mapping[str, Any]
    preset: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, value: Any, where: str) -> Any:
        """A value in which every ``recipe: NAME`` is replaced by the recipe's values.

        Raises:
            UsageError: No such recipe, or a preset with recipes has none for this role.
        """
        if isinstance(value, list):
            return [self.resolve(item, where) for item in value]
        if not isinstance(value, dict):
            return value
        rest = {name: self.resolve(item, where) for name, item in value.items() if name != "recipe"}
        return merge(self._values(value["recipe"], where, ()), rest) if "recipe" in value else rest

    def uses(self, value: Any) -> bool:
        """Whether a recipe of the preset has a say in a value."""
        if isinstance(value, list):
            return any(map(self.uses, value))
        if not isinstance(value, dict):
            return False
        return bool(self.preset and "recipe" in value) or any(map(self.uses, value.values()))

    def offered(self, given: Any, path: Sequence[str | int], where: str) -> Any:
        """What the preset's recipes have at a path of the given parameters, or ``NOTHING``."""
        for position, part in enumerate(path):
            if self.preset and isinstance(given, dict) and "recipe" in given:
                found = at(self._values(given["recipe"], where, ()), path[position:])
                if found is not NOTHING:
                    return found
            given = at(given, [part])
        return NOTHING

    def _values(self, name: Any, where: str, above: tuple[Any, ...]) -> dict[str, Any]:
        if name in above:
            raise UsageError(f"{where}: recipe {name!r} takes itself over")
        found = self.preset.get(name, self.own.get(name))
        if found is None and name not in self.own:
            raise UsageError(f"{where}: no recipe {name!r}{nearest(name, self.own)}")
        found = found or {}
        if not isinstance(found, dict):
            raise UsageError(f"{where}: recipe {name!r} must be names with values, got {found!r}")
        rest = {key: self.resolve(item, where) for key, item in found.items() if key != "recipe"}
        if self.preset and name not in self.preset and rest:
            raise UsageError(
                f"{where}: preset {self.source} has no recipe {name!r}, which this stage trains by: the preset is not made for "
                f"this pipeline; its recipes are {', '.join(sorted(self.preset))}"
            )
        if "recipe" in found:
            rest = merge(self._values(found["recipe"], where, (*above, name)), rest)
        change = self.changes.get(name, {})
        return merge(rest, change) if change else rest


def check_changes(changes: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise if a change names a recipe that is not there."""
    for name, change in changes.items():
        if name not in known:
            raise UsageError(f"{where}: no recipe {name!r} to change{nearest(name, known)}")
        if not isinstance(change, dict):
            raise UsageError(f"{where}: recipe {name!r}: expected recipes.{name}.parameter=value")
