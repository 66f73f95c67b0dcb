"""Messages about the settings of a pipeline: differences of presets from their papers, and settings without effect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from wss.errors import UsageError
from wss.params import nearest
from wss.pipeline.presets import Preset

_WHOLE_LEVEL = re.compile(r"\$\{([\w-]+)\}")


def differences(presets: Sequence[Preset]) -> list[str]:
    """List the differences of presets from their papers, under one heading.

    A line begins with its topic (``weights of losses: ...``). The first preset is the preset of the whole pipeline. Its lines
    replace lines of the other presets (of levels) on the same topic. If presets share a line, the line names all of them.
    """
    topics = {_topic(line) for line in presets[0].differs} if presets else set()
    by_line: dict[str, list[str]] = {}
    for preset in presets:
        for line in preset.differs:
            if preset is presets[0] or _topic(line) not in topics:
                by_line.setdefault(" ".join(line.split()), []).append(preset.source)
    if not by_line:
        return []
    sources = list(dict.fromkeys(source for owners in by_line.values() for source in owners))
    heading = f"differences of {' and '.join(sources)} from the paper, and choices that the paper leaves open (docs/papers.md):"
    owners = {line: f"{', '.join(names)}: " if len(sources) > 1 else "" for line, names in by_line.items()}
    return [heading, *(f"  - {owner}{line}" for line, owner in owners.items())]


def _topic(line: str) -> str:
    """Topic of a difference: the words before the colon, or the whole line."""
    return line.partition(":")[0]


def unmatched(presets: Iterable[Preset], pipeline: str, ids: Sequence[str], used: set[str]) -> list[str]:
    """List settings of presets that no stage uses.

    Args:
        presets: The presets.
        pipeline: Name of the pipeline.
        ids: Ids of its stages.
        used: Everything that its stages use, as ``recipes.NAME``, ``methods.NAME``, ``factors.NAME``, ``split.NAME`` or
            ``every.NAME``.
    """
    notes: list[str] = []
    for preset in presets:
        notes += [
            f"preset {preset.source}: its settings for {pattern!r} match no stage of the pipeline {pipeline}"
            for pattern in preset.stages
            if not any(fnmatchcase(node_id, pattern) for node_id in ids)
        ]
        notes += [
            f"preset {preset.source}: {_unused(place, pipeline, used)}" for place in preset.own if place not in used
        ]
    return notes


def unused(
    own: Mapping[str, Any], where: str, pipeline: str, used: set[str], alone: Callable[[], set[str]]
) -> list[str]:
    """List recipes, settings of methods and factors of a pipeline file that no stage uses.

    Args:
        own: The entries of the file.
        where: Place, for the messages.
        pipeline: Name of the pipeline.
        used: See ``unmatched``.
        alone: Returns the same as ``used`` for the pipeline with its own levels, without preset and changes.
    """
    places = [f"{part}.{name}" for part in ("recipes", "methods", "factors") for name in own.get(part) or {}]
    if all(place in used for place in places):
        return []
    try:
        used = used | alone()
    except UsageError:  # it needs its preset
        return []
    return [f"{where}: {_unused(place, pipeline, used)}" for place in places if place not in used]


def _unused(place: str, pipeline: str, used: Iterable[str]) -> str:
    part, _, name = place.partition(".")
    known = [other.partition(".")[2] for other in used if other.startswith(f"{part}.")]
    return f"no stage of the pipeline {pipeline} uses {part}.{name}{nearest(name, known)}"


def used_factors(document: Mapping[str, Any]) -> set[str]:
    """Names of the factors that stages of a pipeline or other factors use."""
    factors: set[str] = set()
    for entry in document.get("stages") or []:
        each = entry.get("each", []) if isinstance(entry, dict) else []
        factors.update(map(str, each if isinstance(each, list) else [each]))
    for levels in (document.get("factors") or {}).values():
        if isinstance(levels, dict) and isinstance(levels.get("product"), dict):
            factors.update(map(str, levels["product"].values()))
        for level in levels if isinstance(levels, list) else [levels]:
            factors.update(_WHOLE_LEVEL.findall(level) if isinstance(level, str) else [])
    return factors


def idle_changes(changes: Mapping[str, Any], nodes: object, load: Callable[[Mapping[str, Any]], object]) -> list[str]:
    """List changes of recipes, methods and splits on the command line that have no effect.

    Args:
        changes: All changes.
        nodes: The stages with all changes.
        load: Returns the stages with other changes.
    """
    notes: list[str] = []
    for kind in ("recipes", "methods", "split"):
        for path in _leaves(changes.get(kind, {}), (kind,)):
            try:
                idle = load(_without(changes, path)) == nodes
            except UsageError:  # the pipeline needs the change
                continue
            if idle:
                name = "split" if path == ("split", "train") else ".".join(path)
                notes.append(f"--set {name} changes nothing: no stage uses it, or stages already had this value")
    return notes


def unread_changes(changes: Iterable[str], ids: Iterable[str], not_stages: Iterable[str]) -> list[str]:
    """List changes of stages that were removed because no other stage reads their result with these settings.

    Args:
        changes: Names or patterns of stages.
        ids: Ids of the remaining stages.
        not_stages: Names of changes that are not stages.
    """
    return [
        f"--set {name} changes nothing: with these settings no stage reads the result of {name}"
        for name in changes
        if name not in not_stages and not any(fnmatchcase(node_id, name) for node_id in ids)
    ]


def _leaves(values: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(values, Mapping) and values:
        for name, value in values.items():
            yield from _leaves(value, (*path, str(name)))
    elif len(path) > 1:
        yield path


def _without(changes: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Changes without the change at a path. Names that become empty are removed too."""
    rest = {name: value for name, value in changes.items() if str(name) != path[0]}
    inside = next(value for name, value in changes.items() if str(name) == path[0])
    if len(path) > 1 and (kept := _without(inside, path[1:])):
        rest[path[0]] = kept
    return rest
