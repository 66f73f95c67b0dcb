"""Presets: settings for many pipelines in one YAML file, those of a paper on a data set, say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wss.errors import UsageError
from wss.methods import METHODS
from wss.params import nearest
from wss.pipeline.document import read_document
from wss.shipped import shipped
from wss.stages import STAGES

_PARTS = ("differs", "split", "recipes", "every", "methods", "factors", "stages")
_KNOWN = {method.model_fields["name"].default: method for method in METHODS}


@dataclass(frozen=True)
class Preset:
    """Settings for many pipelines: those of a paper on a data set, say.

    Attributes:
        source: Its name, or its file, as errors quote it.
        title: One line for lists.
        differs: Where it is not the paper, one line each; told whenever it is used.
        split: Other splits by the name that pipelines use, ``{train: trainaug}``.
        recipes: Recipes that replace those of a pipeline, by name. A preset that has recipes has one for every role that a
            pipeline trains by.
        every: Parameter changes by kind of stage (``crf``), for all stages of that kind.
        methods: Changes of a method's settings by its name, wherever a stage has that method.
        factors: Levels, with their values, by factor.
        stages: Parameter changes by pattern of stage ids, for presets that are made for one pipeline.
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


def shipped_presets() -> dict[str, Path]:
    """The presets that come with wss, by name."""
    return {path.stem: path for path in sorted((shipped("pipelines") / "presets").glob("*.yaml"))}


def load_preset(name_or_file: str) -> Preset:
    """Read a shipped preset, or a YAML file; its entries are those of ``Preset``, ``title``, ``description`` and ``extends``.

    ``extends`` names another preset, shipped or beside the file, whose settings hold where this one has none.

    Raises:
        UsageError: No such preset, not of that form, or with a kind of stage, a method or a setting that does not exist.
    """
    path = _file(name_or_file)
    document = _document(path, ())
    parts = {name: document.get(name) or {} for name in _PARTS}
    parts["split"] = split_names(parts["split"], str(path))
    lines = parts.pop("differs") or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UsageError(f"{path}: 'differs' must be a list of lines, got {lines!r}")
    for name, part in parts.items():
        nested = name in ("every", "methods", "stages", "recipes")
        if not isinstance(part, dict) or (nested and not all(isinstance(v, dict) for v in part.values())):
            raise UsageError(
                f"{path}: {name!r} must hold names, and for each its settings with their values; got {part!r}"
            )
    _check_names(path, "every", parts["every"], {stage.name: stage.params.model_fields for stage in STAGES.values()})
    check_methods(parts["methods"], str(path))
    return Preset(name_or_file, str(document.get("title", path.stem)), tuple(lines), **parts)


def check_methods(settings: Mapping[str, Any], where: str) -> None:
    """Raise if settings by method name an unknown method or an unknown setting."""
    _check_names(where, "methods", settings, {name: method.model_fields for name, method in _KNOWN.items()})


def split_names(value: Any, where: str) -> dict[str, str]:
    """Other splits by the name that stages use, from the entry ``split``; one name alone is that for ``train``.

    Raises:
        UsageError: Not of that form.
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
    if base_path in (*above, path):
        raise UsageError(f"{path}: extends itself, by way of {base_path}")
    base = _document(base_path, (*above, path))
    joined = {**base, **document}
    for name in ("recipes", "factors", "every", "methods", "stages"):
        mine, other = document.get(name) or {}, base.get(name) or {}
        if isinstance(mine, dict):
            joined[name] = {**other, **mine}
    return joined


def _check_names(where: Path | str, part: str, settings: Mapping[str, Any], known: Mapping[str, Iterable[str]]) -> None:
    for name, values in settings.items():
        if name not in known:
            raise UsageError(f"{where}: {part}: no {name!r}{nearest(name, known)}")
        for key in values if isinstance(values, dict) else ():
            if key not in known[name]:
                raise UsageError(f"{where}: {part}: {name!r} has no parameter {key!r}{nearest(key, known[name])}")
