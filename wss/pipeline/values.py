"""The parameters of one stage of a pipeline, from all the places that have a say in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel

from wss.errors import UsageError
from wss.methods import Method
from wss.params import canonical
from wss.pipeline.changes import NOTHING, at, merge, overridden
from wss.pipeline.factors import Single
from wss.pipeline.presets import Preset
from wss.pipeline.recipes import Recipes
from wss.stages.stage import Stage

NOT_STAGES = ("factors", "recipes", "methods", "split")
"""Names that stand in the place of a stage in changes."""


@dataclass(frozen=True)
class Settings:
    """Everything beside a stage's own entry that decides its parameters.

    Attributes:
        recipes: The pipeline's, by name.
        methods: The pipeline's settings of methods, by name.
        split: The pipeline's other names of splits.
        everywhere: Values for every stage that has a parameter of that name.
        preset: The preset of the whole pipeline.
        changes: What the command line sets, by stage id or pattern, and under ``recipes``, ``methods`` and ``split``.
    """

    recipes: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    everywhere: Mapping[str, Any] = field(default_factory=dict)
    preset: Preset | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def values(
        self, stage: Stage, node_id: str, single: Single, levels: Sequence[Preset], where: str
    ) -> tuple[dict[str, Any], list[str]]:
        """Plain values for the parameters of a stage, and the presets that changed any of them.

        Args:
            stage: Which one.
            node_id: Its id.
            single: Its entry.
            levels: The presets of its levels; they count more than the preset of the pipeline.
            where: Named in errors.

        Raises:
            UsageError: An unknown recipe, or a change of what a factor decides.
        """
        given = single.entry.get("params") or {}
        if not isinstance(given, dict):
            raise UsageError(f"{where}: 'params' must be names with values, got {given!r}")
        presets = [preset for preset in (self.preset, *levels) if preset is not None]
        recipes = self._recipes(presets)
        for path, value in single.decided.items():
            _same(where, path, value, recipes.offered(given, path, where), recipes.source)
        fields = stage.params.model_fields
        values = {name: value for name, value in self.everywhere.items() if name in fields}
        values = merge(values, recipes.resolve(given, where))
        values = _with_methods(stage, values, self.methods, under=True)
        splits = dict(self.split)
        used = [recipes.source] if recipes.uses(given) else []
        for preset in presets:
            splits |= preset.split
            before = values
            try:
                values = merge(values, preset.every.get(stage.name, {}))
                values = _with_methods(stage, values, preset.methods)
                values = overridden(values, node_id, preset.stages)
            except UsageError as error:
                raise UsageError(f"{where} with preset {preset.source}: {error}") from error
            if values != before and preset.source not in used:
                used.append(preset.source)
            self._keep(where, single, values, f"preset {preset.source}")
        splits |= self.changes.get("split", {})
        usual = values.get("split", fields["split"].default if "split" in fields else None)
        if usual in splits:
            values = {**values, "split": splits[usual]}
        values = _with_methods(stage, values, self.changes.get("methods", {}))
        values = overridden(values, node_id, {n: c for n, c in self.changes.items() if n not in NOT_STAGES})
        self._keep(where, single, values, "--set")
        return values, used

    def _recipes(self, presets: Sequence[Preset]) -> Recipes:
        chosen = [preset for preset in presets if preset.recipes]
        changes = self.changes.get("recipes", {})
        if not chosen:
            return Recipes(self.recipes, changes=changes)
        return Recipes(self.recipes, chosen[-1].recipes, chosen[-1].source, changes)

    @staticmethod
    def _keep(where: str, single: Single, values: Mapping[str, Any], source: str) -> None:
        for path, value in single.decided.items():
            _same(where, path, value, at(values, path), source)


def _same(where: str, path: Sequence[str | int], decided: Any, other: Any, source: str) -> None:
    """Raise if another value contradicts the one that a factor decided."""
    if isinstance(decided, Mapping) and isinstance(other, Mapping):
        for name, value in decided.items():
            _same(where, (*path, name), value, other.get(name, NOTHING), source)
    elif other is not NOTHING and other != decided:
        raise UsageError(
            f"{where}: {source} sets {'.'.join(map(str, path))} to {other!r}, and a factor of this study to {decided!r}: "
            "name levels instead, with their values, under 'factors' of the preset or by --set factors.NAME=[...]"
        )


def _with_methods(
    stage: Stage, values: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], under: bool = False
) -> dict[str, Any]:
    """Values with the settings of methods, wherever the stage has a training method among its parameters.

    Args:
        stage: Which one.
        values: Its values so far.
        settings: By name of the method.
        under: Settings count less than the values.
    """
    result = dict(values)
    for name, default in _method_fields(stage):
        plain = result.get(name, canonical(default, tagged=False) if default is not None else None)
        items = plain if isinstance(plain, list) else [plain]
        changed = [_with_settings(item, settings, under) for item in items]
        if changed != items:
            result[name] = changed if isinstance(plain, list) else changed[0]
    return result


def _with_settings(item: Any, settings: Mapping[str, Mapping[str, Any]], under: bool) -> Any:
    if not isinstance(item, dict) or not settings.get(item.get("name", "")):
        return item
    change = settings[item["name"]]
    return merge(change, item) if under else merge(item, change)


def _method_fields(stage: Stage) -> Iterator[tuple[str, Any]]:
    """Parameters of a stage that hold training methods, with their defaults."""
    for name, field_ in stage.params.model_fields.items():
        if any(issubclass(model, Method) for model in _models(field_.annotation)):
            yield (
                name,
                None if field_.is_required() else field_.get_default(call_default_factory=True, validated_data={}),
            )


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
