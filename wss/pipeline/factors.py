"""Factors: what a study varies. One entry of a pipeline file becomes one stage for each combination of their levels.

A level ``${other}`` in a list of levels stands for all levels of another factor, with their values. A factor ``{product: {column:
factor, ...}}`` has one level for each combination of the levels of other factors. The values of such a level are: under
``factors`` its level of each column, and under the name of each column the values of that level.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wss.errors import UsageError
from wss.params import nearest

_PLACEHOLDER = re.compile(r"\$\{([\w-]+)((?:\.[\w-]+)*)\}")
_NOT_IN_IDS = re.compile(r"[^\w*-]")

Level = str | int | float


@dataclass(frozen=True)
class Choice:
    """One level of a factor.

    Attributes:
        level: Value of ``${factor}``.
        values: Values of ``${factor.name}`` by name; may be nested.
        presets: Names of presets for the stages that have this level: its value ``preset``.
    """

    level: Level
    values: Mapping[str, Any]
    presets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Single:
    """One stage of the several that an entry with ``each`` stands for.

    Attributes:
        entry: The entry with its placeholders replaced.
        decided: Parameters that came from placeholders: values by path.
        presets: Names of the presets of its levels.
    """

    entry: Any
    decided: Mapping[tuple[str | int, ...], Any] = field(default_factory=dict)
    presets: tuple[str, ...] = ()


Factors = Mapping[str, Sequence[Choice]]


def read_factors(declared: Any, changes: Mapping[str, Any], where: str) -> dict[str, list[Choice]]:
    """Read the factors of a pipeline file.

    Args:
        declared: By name, a list of levels, or a mapping from levels to their values.
        changes: Other levels by factor. A list chooses among the declared levels; where these are a list of plain levels, it
            may name new ones. A mapping gives new levels with their values, as in ``declared``.
        where: Named in errors.

    Raises:
        UsageError: Another form, a factor without levels, or an unknown factor or level.
    """
    if not isinstance(declared, dict):
        raise UsageError(f"{where}: 'factors' must be names with their levels, got {declared!r}")
    for name in set(changes) - set(declared):
        raise UsageError(f"{where}: no factor {name!r} to change{nearest(name, declared)}")
    factors: dict[str, list[Choice]] = {}
    for name, levels in declared.items():
        factors[str(name)] = _choices(levels, changes.get(name), f"{where}: factor {name!r}", factors)
    return factors


def _choices(declared: Any, chosen: Any, where: str, earlier: Factors) -> list[Choice]:
    if isinstance(chosen, dict):
        declared, chosen = chosen, None
    if isinstance(declared, dict):
        known = _product(declared, where, earlier) if set(declared) == {"product"} else _with_values(declared, where)
    elif any(isinstance(level, str) and _PLACEHOLDER.search(level) for level in _as_list(declared)):
        known = _spliced(_as_list(declared), where, earlier)
    else:
        return [Choice(level, {}) for level in _levels(declared if chosen is None else chosen, where)]
    chosen = list(known) if chosen is None else chosen
    for level in _levels(chosen, where):
        if level not in known:
            raise UsageError(f"{where}: no level {level!r}{nearest(level, map(str, known))}")
    return [known[level] for level in _levels(chosen, where)]


def _with_values(declared: Mapping[Any, Any], where: str) -> dict[Level, Choice]:
    known = {}
    for level, values in declared.items():
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise UsageError(f"{where}: level {level!r} must have names with values, got {values!r}")
        presets = (str(values["preset"]),) if "preset" in values else ()
        known[_level(level, where)] = Choice(_level(level, where), values, presets)
    return known


def _spliced(levels: list[Any], where: str, earlier: Factors) -> dict[Level, Choice]:
    """Levels with those of other factors in the place of ``${other}``; a level that comes twice is kept once."""
    known: dict[Level, Choice] = {}
    for level in levels:
        match = _PLACEHOLDER.search(level) if isinstance(level, str) else None
        if match and (match[0] != level or match[2]):
            raise UsageError(f"{where}: a level may be a whole factor, for example ${{{match[1]}}}, got {level!r}")
        if match and match[1] not in earlier:
            raise UsageError(f"{where}: no factor {match[1]!r} before it{nearest(match[1], earlier)}")
        for choice in earlier[match[1]] if match else [Choice(_level(level, where), {})]:
            known.setdefault(choice.level, choice)
    return known


def _product(declared: Mapping[str, Any], where: str, earlier: Factors) -> dict[Level, Choice]:
    columns = declared["product"]
    if not isinstance(columns, dict) or not columns:
        raise UsageError(f"{where}: 'product' must be columns with the factor of each, got {columns!r}")
    for name in columns.values():
        if not isinstance(name, str) or name not in earlier:
            raise UsageError(f"{where}: no factor {name!r} before it{nearest(name, earlier)}")
    if "factors" in columns:
        raise UsageError(f"{where}: no column can be named 'factors', which holds the levels of all columns")
    known: dict[Level, Choice] = {}
    for choices in itertools.product(*(earlier[name] for name in columns.values())):
        levels = {column: choice.level for column, choice in zip(columns, choices, strict=True)}
        values = {column: choice.values for column, choice in zip(columns, choices, strict=True)}
        presets = tuple(name for choice in choices for name in choice.presets)
        level = "-".join(map(str, levels.values()))
        if level in known:
            raise UsageError(f"{where}: two combinations of levels are named {level!r}; rename a level")
        known[level] = Choice(level, {**values, "factors": levels}, presets)
    return known


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _levels(value: Any, where: str) -> list[Level]:
    levels = _as_list(value)
    if not levels:
        raise UsageError(f"{where}: has no levels")
    if len(set(map(str, levels))) != len(levels):
        raise UsageError(f"{where}: a level is named twice in {levels}")
    return [_level(level, where) for level in levels]


def _level(value: Any, where: str) -> Level:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where}: levels are words or numbers, got {value!r}")
    return value


def expand(entry: Any, factors: Factors, where: str) -> Iterator[Single]:
    """Repeat an entry of a pipeline file for each combination of levels of the factors that its ``each`` names.

    ``${factor}`` and ``${factor.name}`` are replaced everywhere in it: by the value itself if the string holds nothing else,
    otherwise by the value's text. In an ``id``, characters other than letters, digits, - and _ become _.

    Raises:
        UsageError: ``each`` names an unknown factor; or a placeholder names a factor that ``each`` does not name, or a value
            that the level does not have.
    """
    if not isinstance(entry, dict):
        yield Single(entry)
        return
    each = _as_list(entry.get("each", []))
    for name in each:
        if name not in factors:
            raise UsageError(f"{where}: each: no factor {name!r}{nearest(name, factors)}")
    rest = {name: value for name, value in entry.items() if name != "each"}
    for choices in itertools.product(*(factors[name] for name in each)):
        chosen = dict(zip(each, choices, strict=True))
        result = _replace(rest, chosen, where)
        for name in {"id", "inputs"} & set(result):
            result[name] = _as_ids(rest[name], result[name])
        decided = dict(_decided(rest.get("params"), result.get("params"), ()))
        yield Single(result, decided, tuple(name for choice in choices for name in choice.presets))


def _decided(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The values that came from placeholders, by their path."""
    if isinstance(before, dict):
        for name, value in before.items():
            yield from _decided(value, after[name], (*path, name))
    elif isinstance(before, list):
        for position, value in enumerate(before):
            yield from _decided(value, after[position], (*path, position))
    elif isinstance(before, str) and _PLACEHOLDER.search(before):
        yield path, after


def _as_ids(before: Any, after: Any) -> Any:
    """Ids; in those that had placeholders, characters that ids cannot have become _ (``*`` stays, for patterns)."""
    if isinstance(before, dict):
        return {role: _as_ids(before[role], after[role]) for role in before}
    if isinstance(before, list):
        return [_as_ids(b, a) for b, a in zip(before, after, strict=True)]
    return _NOT_IN_IDS.sub("_", str(after)) if before != after else after


def _replace(value: Any, chosen: Mapping[str, Choice], where: str) -> Any:
    if isinstance(value, dict):
        return {name: _replace(item, chosen, where) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, chosen, where) for item in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole:
        return _value(whole, chosen, where)
    return _PLACEHOLDER.sub(lambda match: str(_value(match, chosen, where)), value)


def _value(match: re.Match[str], chosen: Mapping[str, Choice], where: str) -> Any:
    name, path = match[1], match[2].split(".")[1:]
    if name not in chosen:
        raise UsageError(f"{where}: {match[0]}: 'each' does not name the factor {name!r}{nearest(name, chosen)}")
    if not path:
        return chosen[name].level
    value: Any = chosen[name].values
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            raise UsageError(f"{where}: {match[0]}: level {chosen[name].level!r} of {name!r} has no {part!r}")
        value = value[part]
    return value
