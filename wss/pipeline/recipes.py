"""Recipes: named groups of parameters, mostly of trainings and their phases. A preset can replace them.

``recipe: NAME`` inside the parameters of a stage inserts the values of a recipe. Values next to it win over the recipe. A recipe
may itself start from another recipe. Recipes are named by roles (``training``, ``first``, ``second``, ...). A preset replaces
whole recipes, so its settings apply to every pipeline that uses these roles, independent of the ids of its stages.
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
    """The recipes that apply to one stage.

    Attributes:
        own: Recipes of the pipeline, by name.
        preset: Recipes of the preset, by name; they replace the pipeline's recipes.
        source: Name of the preset, for errors.
        changes: Changes of single values, by recipe (``--set recipes.first.steps=100``).
        used: Collects the names of recipes whose values were used.
    """

    own: Mapping[str, Any]
    preset: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def resolve(self, value: Any, where: str) -> Any:
        """Replace every ``recipe: NAME`` inside a value by the values of the recipe.

        Raises:
            UsageError: A recipe does not exist or contains itself, or the preset has recipes but lacks this role.
        """
        return self._resolved(value, where, ())

    def _resolved(self, value: Any, where: str, above: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [self._resolved(item, where, above) for item in value]
        if not isinstance(value, dict):
            return value
        rest = {name: self._resolved(item, where, above) for name, item in value.items() if name != "recipe"}
        return merge(self._values(value["recipe"], where, above), rest) if "recipe" in value else rest

    def uses(self, value: Any) -> bool:
        """True if a value uses a recipe and the preset has recipes."""
        if isinstance(value, list):
            return any(map(self.uses, value))
        if not isinstance(value, dict):
            return False
        return bool(self.preset and "recipe" in value) or any(map(self.uses, value.values()))

    def offered(self, given: Any, path: Sequence[str | int], where: str) -> Any:
        """Look up the value of recipes at a path of the given parameters, if the preset has recipes.

        Returns:
            The value, or ``NOTHING``.
        """
        for position, part in enumerate(path):
            if self.preset and isinstance(given, dict) and "recipe" in given:
                value = at(self._values(given["recipe"], where, ()), path[position:])
                if value is not NOTHING:
                    return value
            given = at(given, [part])
        return NOTHING

    def _values(self, name: Any, where: str, above: tuple[str, ...]) -> dict[str, Any]:
        """The values of one recipe; ``above`` are the recipes that contain it."""
        known = {**self.own, **self.preset}
        if name in above:
            raise UsageError(f"{where}: recipe {name!r} contains itself")
        if not isinstance(name, str) or name not in known:
            raise UsageError(f"{where}: no recipe {name!r}{nearest(name, known)}")
        self.used.add(name)
        recipe = known[name] or {}
        if not isinstance(recipe, dict):
            raise UsageError(f"{where}: recipe {name!r} must map names to values, got {recipe!r}")
        rest = {key: self._resolved(item, where, (*above, name)) for key, item in recipe.items() if key != "recipe"}
        if self.preset and name not in self.preset and rest:
            raise UsageError(
                f"{where}: this stage uses the recipe {name!r}, and preset {self.source} has no such recipe: the preset is not "
                f"made for this pipeline; its recipes are {', '.join(sorted(self.preset))}"
            )
        if "recipe" in recipe:
            rest = merge(self._values(recipe["recipe"], where, (*above, name)), rest)
        change = self.changes.get(name, {})
        return merge(rest, change) if change else rest


def joined(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Join the recipes of a file with the recipes of the file that it extends.

    A recipe that starts from another one (``recipe: NAME``) replaces the recipe of the same name. Any other recipe changes the
    recipe of the same name value by value.
    """
    result = dict(base)
    for name, recipe in own.items():
        whole = not isinstance(recipe, dict) or "recipe" in recipe or not isinstance(base.get(name), dict)
        result[name] = recipe if whole else merge(base[name], recipe)
    return result


def check_changes(changes: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise if a change names an unknown recipe, or is not a mapping of parameters."""
    for name, change in changes.items():
        if name not in known:
            raise UsageError(f"{where}: no recipe {name!r} to change{nearest(name, known)}")
        if not isinstance(change, dict):
            raise UsageError(f"{where}: recipe {name!r}: expected recipes.{name}.parameter=value")
