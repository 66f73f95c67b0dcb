"""Parameters of one stage of a pipeline, combined from its entry, recipes, presets and the command line."""

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

_REMEDY = (
    "change the levels instead: give levels with values under 'factors' of the preset or with --set factors.NAME={...}"
)

NOT_STAGES = ("factors", "recipes", "methods", "split")
"""First names of changes that are not ids of stages."""


@dataclass(frozen=True)
class Settings:
    """Settings outside a stage's own entry that contribute to its parameters.

    Attributes:
        recipes: Recipes of the pipeline, by name.
        methods: Settings of methods of the pipeline, by name.
        split: Splits of the pipeline, by the name that stages use.
        everywhere: Values for every stage that has a parameter of this name.
        preset: The preset of the whole pipeline.
        changes: Changes from the command line, by stage id or pattern, and under ``recipes``, ``methods`` and ``split``.
        used: Collects the settings that stages use: ``recipes.NAME``, ``methods.NAME``, ``split.NAME``, and ``every.NAME`` for
            the kinds of stages.
    """

    recipes: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    everywhere: Mapping[str, Any] = field(default_factory=dict)
    preset: Preset | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def splits(self) -> dict[str, str]:
        """The splits of the data set, by the name that stages use."""
        preset = {} if self.preset is None else self.preset.split
        return {**self.split, **preset, **self.changes.get("split", {})}

    def values(
        self, stage: Stage, node_id: str, single: Single, levels: Sequence[Preset], where: str
    ) -> tuple[dict[str, Any], list[str]]:
        """Compute plain values for the parameters of a stage.

        Args:
            stage: The stage.
            node_id: Its id.
            single: Its entry.
            levels: Presets of its levels; they win over the preset of the pipeline.
            where: Place, for errors.

        Returns:
            The values, and the names of the presets that changed any of them.

        Raises:
            UsageError: A recipe is unknown, a preset does not fit, or a change affects a value that a factor sets.
        """
        given = single.entry.get("params") or {}
        if not isinstance(given, dict):
            raise UsageError(f"{where}: 'params' must be names with values, got {given!r}")
        self._require_level(stage, levels, where)
        presets = [preset for preset in (self.preset, *levels) if preset is not None]
        recipes = self._recipes(presets, where)
        for path, value in single.decided.items():
            _same(where, path, value, recipes.offered(given, path, where), recipes.source)
        fields = stage.params.model_fields
        values = {name: value for name, value in self.everywhere.items() if name in fields}
        values = merge(values, recipes.resolve(given, where))
        values = _with_methods(stage, values, self.methods, under=True)
        self.used.add(f"every.{stage.name}")
        self.used.update(f"recipes.{name}" for name in recipes.used)
        used = [recipes.source] if recipes.uses(given) else []
        usual = self._usual(stage, given, single, where)
        if stage.name == "train" and recipes.preset and not used:
            raise UsageError(
                f"{where}: preset {recipes.source} sets trainings by recipes, but this stage uses none of them, so the preset "
                "would change only the rest of the pipeline; leave the preset out, or give the stage `recipe: training`"
            )
        for preset in presets:
            before = values
            try:
                values = merge(values, preset.every.get(stage.name, {}))
                values = _with_methods(stage, values, preset.methods)
                values = overridden(values, node_id, preset.stages)
            except UsageError as error:
                raise UsageError(f"{where} with preset {preset.source}: {error}") from error
            if values != before and preset.source not in used:
                used.append(preset.source)
            self._keep(where, single, values, f"preset {preset.source}", usual)
        named = values.get("split", fields["split"].default if "split" in fields else None)
        if isinstance(named, str):
            self.used.add(f"split.{named}")
            values = {**values, "split": self.splits().get(named, named)}
        values = _with_methods(stage, values, self.changes.get("methods", {}))
        self.used.update(f"methods.{name}" for name in _methods(stage, values))
        values = overridden(values, node_id, {n: c for n, c in self.changes.items() if n not in NOT_STAGES})
        self._keep(where, single, values, "--set", usual)
        return values, used

    def _usual(self, stage: Stage, given: Mapping[str, Any], single: Single, where: str) -> Mapping[str, Any]:
        """The pipeline's own values, without preset and command line; empty if ``single.left`` is empty."""
        if not single.left:
            return {}
        return _with_methods(stage, Recipes(self.recipes).resolve(given, where), self.methods, under=True)

    def _require_level(self, stage: Stage, levels: Sequence[Preset], where: str) -> None:
        """Raise if the preset sets trainings only through presets of levels, and this training has no level."""
        preset = self.preset
        if stage.name != "train" or preset is None or preset.recipes or levels:
            return
        if named := preset.presets_of_levels():
            raise UsageError(
                f"{where}: preset {preset.source} sets trainings by levels of {' and '.join(sorted(preset.factors))}, but this "
                f"stage has none of these levels; use one of the presets that the levels name: {', '.join(named)}"
            )

    def _recipes(self, presets: Sequence[Preset], where: str) -> Recipes:
        chosen = [preset for preset in presets if preset.recipes]
        changes = self.changes.get("recipes", {})
        if not chosen:
            return Recipes(self.recipes, changes=changes)
        if len(of_levels := {preset.source for preset in chosen if preset is not self.preset}) > 1:
            raise UsageError(
                f"{where}: presets {' and '.join(sorted(of_levels))} of two levels both set how this stage is trained"
            )
        return Recipes(self.recipes, chosen[-1].recipes, chosen[-1].source, changes)

    @staticmethod
    def _keep(where: str, single: Single, values: Mapping[str, Any], source: str, usual: Mapping[str, Any]) -> None:
        """Raise if values differ from the values that a stage's levels set, or set parameters that only other levels set."""
        for path, value in single.decided.items():
            _same(where, path, value, at(values, path), source, required=True)
        for path in single.left:
            value = at(values, path)
            if value is not NOTHING and value != at(usual, path):
                raise UsageError(
                    f"{where}: {source} sets {'.'.join(map(str, path))} to {value!r}; other levels of this study set this "
                    f"parameter, and this level does not: {_REMEDY}"
                )


def _same(
    where: str, path: Sequence[str | int], decided: Any, other: Any, source: str, *, required: bool = False
) -> None:
    """Raise if another value differs from the value that a factor sets, or is missing although ``required``."""
    if isinstance(decided, Mapping) and isinstance(other, Mapping):
        if tuple(path[-1:]) == ("terms",) and (more := set(other) - set(decided)):
            raise UsageError(
                f"{where}: {source} adds {' and '.join(sorted(more))} to terms that a factor of this study sets: {_REMEDY}"
            )
        for name, value in decided.items():
            _same(where, (*path, name), value, other.get(name, NOTHING), source, required=required)
    elif other != decided and (required or other is not NOTHING):
        does = "removes {}" if other is NOTHING else f"sets {{}} to {other!r}"
        raise UsageError(
            f"{where}: {source} {does.format('.'.join(map(str, path)))}, but a factor of this study sets it to {decided!r}: "
            f"{_REMEDY}"
        )


def _with_methods(
    stage: Stage, values: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], under: bool = False
) -> dict[str, Any]:
    """Apply settings of methods to every parameter of a stage that holds training methods.

    Args:
        stage: The stage.
        values: Its values so far.
        settings: Settings by name of the method.
        under: If True, values win over settings. Both win over the stage's default.
    """
    result = dict(values)
    for name, default in _method_fields(stage):
        plain = result.get(name, default)
        items = plain if isinstance(plain, list) else [plain]
        changed = [_with_settings(item, settings, under and name in result) for item in items]
        if changed != items:
            result[name] = changed if isinstance(plain, list) else changed[0]
    return result


def _with_settings(item: Any, settings: Mapping[str, Mapping[str, Any]], under: bool) -> Any:
    if not isinstance(item, dict) or not settings.get(item.get("name", "")):
        return item
    change = settings[item["name"]]
    return merge(change, item) if under else merge(item, change)


def _methods(stage: Stage, values: Mapping[str, Any]) -> Iterator[str]:
    """Names of the training methods in the values of a stage."""
    for name, default in _method_fields(stage):
        plain = values.get(name, default)
        yield from (item.get("name", "") for item in (plain if isinstance(plain, list) else [plain]) if item)


def _method_fields(stage: Stage) -> Iterator[tuple[str, Any]]:
    """Names of the parameters of a stage that hold training methods, and their defaults as plain values."""
    for name, field_ in stage.params.model_fields.items():
        if any(issubclass(model, Method) for model in _models(field_.annotation)):
            required = field_.is_required()
            yield name, None if required else canonical(field_.get_default(call_default_factory=True), tagged=False)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
