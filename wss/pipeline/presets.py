"""Presets: YAML files with settings for many pipelines, for example those of a paper on a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wss.errors import UsageError
from wss.methods import METHODS
from wss.params import nearest
from wss.pipeline.changes import merge
from wss.pipeline.document import read_document
from wss.pipeline.recipes import joined as join_recipes
from wss.shipped import shipped
from wss.stages import STAGES

_PARTS = ("differs", "split", "recipes", "every", "methods", "factors", "stages")
_KNOWN = {method.model_fields["name"].default: method for method in METHODS}


@dataclass(frozen=True)
class Preset:
    """Settings for many pipelines.

    Attributes:
        source: Name or file of the preset, for errors.
        title: One line for lists.
        differs: Differences from the paper, one line each. They are shown whenever the preset is used.
        split: Splits by the name that pipelines use, for example ``{train: trainaug}``.
        recipes: Recipes by name; they replace the recipes of a pipeline. If the preset has recipes, a pipeline that uses a
            recipe missing from the preset is refused.
        every: Changes of parameters by kind of stage (``crf``), for all stages of that kind.
        methods: Changes of a training method's settings by name of the method, for all stages with this method.
        factors: Levels with their values by factor; they replace the levels of a pipeline that has the factor.
        stages: Changes of parameters by pattern of stage ids, for presets that are made for one pipeline.
        own: For a user's file, ``PART.NAME`` for each of its own settings of recipes, kinds of stages, methods, factors and
            splits. Each of these should be used by a stage. Empty for shipped presets, because they are made for several
            pipelines.
    """

    source: str
    title: str
    differs: tuple[str, ...]
    split: Mapping[str, str]
    recipes: Mapping[str, Any]
    every: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    factors: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    own: tuple[str, ...] = ()

    def presets_of_levels(self) -> list[str]:
        """Names of the presets in its levels (the value ``preset`` of a level)."""
        levels = [values for factor in self.factors.values() if isinstance(factor, dict) for values in factor.values()]
        return sorted({str(values["preset"]) for values in levels if isinstance(values, dict) and "preset" in values})


def shipped_presets() -> dict[str, Path]:
    """Files of the shipped presets, by name."""
    return {path.stem: path for path in sorted((shipped("pipelines") / "presets").glob("*.yaml"))}


def load_preset(name_or_file: str) -> Preset:
    """Read a shipped preset or a YAML file.

    The entries of the file are ``title``, ``description``, ``extends`` and the attributes of ``Preset``. ``extends`` names
    another preset, shipped or in the same folder; its settings are used unless this preset has its own. A factor replaces the
    whole factor of the same name. Recipes are joined (``wss.pipeline.recipes.joined``).

    Raises:
        UsageError: The preset does not exist, has another form, or names an unknown kind of stage, method or setting.
    """
    path = _file(name_or_file)
    document = _document(path, ())
    own = () if name_or_file in shipped_presets() else _own(read_document(path))
    parts = {name: document.get(name) or {} for name in _PARTS}
    parts["split"] = split_names(parts["split"], str(path))
    lines = parts.pop("differs") or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UsageError(f"{path}: 'differs' must be a list of lines, got {lines!r}")
    for name, part in parts.items():
        nested = name in ("every", "methods", "stages", "recipes")
        if not isinstance(part, dict) or (nested and not all(isinstance(v, dict) for v in part.values())):
            raise UsageError(f"{path}: {name!r} must map names to settings with their values, got {part!r}")
    _check_names(path, "every", parts["every"], {stage.name: stage.params.model_fields for stage in STAGES.values()})
    check_methods(parts["methods"], str(path))
    return Preset(name_or_file, str(document.get("title", path.stem)), tuple(lines), own=own, **parts)


def _own(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The value of ``Preset.own``. A single split replaces ``train``."""
    names = {part: document.get(part) or {} for part in ("recipes", "every", "methods", "factors", "split")}
    names["split"] = {"train": None} if isinstance(names["split"], str) else names["split"]
    return tuple(f"{part}.{name}" for part, entries in names.items() if isinstance(entries, dict) for name in entries)


def check_methods(settings: Mapping[str, Any], where: str) -> None:
    """Raise if settings of methods contain an unknown method or setting."""
    _check_names(where, "methods", settings, {name: method.model_fields for name, method in _KNOWN.items()})


def split_names(value: Any, where: str) -> dict[str, str]:
    """Read the entry ``split``: splits by the name that stages use. A single name replaces ``train``.

    Raises:
        UsageError: The entry has another form.
    """
    names = {"train": value} if isinstance(value, str) else value or {}
    if not isinstance(names, dict) or not all(isinstance(name, str) for pair in names.items() for name in pair):
        raise UsageError(f"{where}: 'split' must be the name of the split to train on, got {value!r}")
    return names


def _file(name_or_file: str) -> Path:
    known = shipped_presets()
    path = known.get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise UsageError(f"no preset {name_or_file!r}{nearest(name_or_file, known)}")
    return path


def _document(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    document = read_document(path)
    known = ["title", "description", "extends", *_PARTS]
    for name in set(document) - set(known):
        raise UsageError(f"{path}: unknown entry {name!r}{nearest(name, known)}")
    if "extends" not in document:
        return document
    beside = path.parent / f"{document['extends']}.yaml"
    base_path = beside if beside.is_file() else _file(str(document["extends"]))
    if base_path.resolve() in {other.resolve() for other in (*above, path)}:
        raise UsageError(f"{path}: extends itself, through {base_path}")
    base = _document(base_path, (*above, path))
    joined = {**base, **document}
    for name in ("recipes", "factors", "every", "methods", "stages"):
        mine, other = document.get(name) or {}, base.get(name) or {}
        if isinstance(mine, dict) and isinstance(other, dict):
            if name == "factors":
                joined[name] = {**other, **mine}
            else:
                joined[name] = join_recipes(other, mine) if name == "recipes" else merge(other, mine)
    return joined


def _check_names(where: Path | str, part: str, settings: Mapping[str, Any], known: Mapping[str, Iterable[str]]) -> None:
    for name, values in settings.items():
        if name not in known:
            raise UsageError(f"{where}: {part}: no {name!r}{nearest(name, known)}")
        if not isinstance(values, dict):
            raise UsageError(f"{where}: {part}: {name!r} must map parameters to values, got {values!r}")
        for key in values:
            if key not in known[name]:
                raise UsageError(f"{where}: {part}: {name!r} has no parameter {key!r}{nearest(key, known[name])}")
