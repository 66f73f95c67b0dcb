"""Changes of parameters as nested mappings: merging, lookup, and parsing of ``--set``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml

from wss.errors import UsageError
from wss.yaml_text import parse


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Apply changes to nested mappings.

    Lists and values are replaced as a whole. To change elements of a list, give a mapping from positions, or ``*`` for all, to
    changes. A ``method`` or ``network`` with another ``name`` replaces the old one completely, because its settings are
    different. ``epochs`` and ``steps`` both give the length of a phase: a change of one removes the other.

    Raises:
        UsageError: A change names a position that a list does not have.
    """
    result = dict(values)
    for name, change in changes.items():
        replaced = name in ("method", "network") and _renamed(result.get(name), change)
        result[name] = change if replaced else _changed(result.get(name), change)
    for name, other in (("epochs", "steps"), ("steps", "epochs")):
        if changes.get(name) is not None and other not in changes:
            result.pop(other, None)
    return result


def _renamed(old: Any, change: Any) -> bool:
    both = isinstance(old, Mapping) and isinstance(change, Mapping) and "name" in old and "name" in change
    return both and old["name"] != change["name"]


def _changed(old: Any, change: Any) -> Any:
    if not isinstance(change, Mapping) or not isinstance(old, Mapping | list):
        return change
    if isinstance(old, Mapping):
        return merge(old, change)
    positions = [str(position) for position in range(len(old))]
    for name in set(map(str, change)) - {"*", *positions}:
        raise UsageError(
            f"a list of {len(old)} has no position {name!r}; positions are 0 to {len(old) - 1}, or * for all"
        )
    result = list(old)
    for name, part in change.items():
        for position, item in enumerate(result):
            if str(name) in ("*", positions[position]):
                result[position] = _changed(item, part)
    return result


def parse_overrides(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse ``stage.param.sub=value`` strings (values in YAML) into nested parameter changes by stage id or pattern.

    ``factors.``, ``recipes.`` and ``methods.`` change these entries of the pipeline, see ``load_pipeline``.
    ``split=NAME`` sets the split to train on.

    Raises:
        UsageError: A setting has another form.
    """
    changes: dict[str, dict[str, Any]] = {}
    for setting in settings:
        target, equals, text = setting.partition("=")
        path = target.strip().split(".")
        if path == ["split"] and equals:
            changes["split"] = {"train": text.strip()}
            continue
        if not equals or len(path) < 2 or not all(path):
            raise UsageError(f"--set {setting}: expected stage.param=value, for example --set train.batch_size=4")
        try:
            value = parse(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {setting}: {text!r} is not a YAML value") from error
        change: Any = value
        for name in reversed(path[1:]):
            change = {name: change}
        changes[path[0]] = merge(changes.get(path[0], {}), change)
    return changes


NOTHING: Any = object()
"""Marker for a missing value."""


def at(values: Any, path: Sequence[str | int]) -> Any:
    """The value at a path through nested mappings and lists, or ``NOTHING``."""
    for part in path:
        inside = (isinstance(values, Mapping) and part in values) or (
            isinstance(values, list) and isinstance(part, int) and part < len(values)
        )
        if not inside:
            return NOTHING
        values = values[part]
    return values


def overridden(values: dict[str, Any], node_id: str, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Apply the changes of all patterns that match a stage's id. Changes for the exact id are applied last and win."""
    for name in sorted(changes, key=lambda name: name == node_id):
        if fnmatchcase(node_id, name):
            values = merge(values, changes[name])
    return values
