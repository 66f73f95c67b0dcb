"""Factors of a study. One entry of a pipeline file becomes one stage for each combination of factor levels.

A level ``${other}`` in a list of levels is replaced by all levels of another factor, with their values. A factor ``{product:
{column: factor, ...}}`` has one level for each combination of the levels of other factors. Such a level has two kinds of values:
``factors`` holds its level of each column, and the name of each column holds the values of that level.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from wss.errors import UsageError
from wss.params import nearest

_PLACEHOLDER = re.compile(r"\$\{([\w-]+)((?:\.[\w-]+)*)\}")
_NOT_IN_IDS = re.compile(r"[^\w*-]")

Level = str | int | float
Place = tuple[str | int, ...]
"""Path to a value inside nested mappings and lists: names and positions."""

Reads = set[tuple[int, str]]
"""Values of levels that stages have read: pairs of the id() of the mapping and the name of the value."""


@dataclass(frozen=True)
class Choice:
    """One level of a factor.

    Attributes:
        level: Value of ``${factor}``.
        values: Values of ``${factor.name}`` by name; may be nested.
        presets: Names of presets for the stages with this level, from its value ``preset``.
        combined: True if the level is a combination of levels of other factors.
    """

    level: Level
    values: Mapping[str, Any]
    presets: tuple[str, ...] = ()
    combined: bool = False


@dataclass(frozen=True)
class Single:
    """One of the stages that an entry with ``each`` is repeated as.

    Attributes:
        entry: The entry with its placeholders replaced.
        decided: Values of parameters that came from placeholders, by path.
        left: Paths of parameters that other levels set but this level does not.
        presets: Names of the presets of its levels.
    """

    entry: Any
    decided: Mapping[Place, Any] = field(default_factory=dict)
    left: tuple[Place, ...] = ()
    presets: tuple[str, ...] = ()


Factors = Mapping[str, Sequence[Choice]]


def read_factors(declared: Any, changes: Mapping[str, Any], where: str) -> dict[str, list[Choice]]:
    """Read the factors of a pipeline file.

    Args:
        declared: For each factor name, a list of levels, or a mapping from levels to their values.
        changes: Other levels by factor. A list chooses among the declared levels. If the declared levels are a plain list, it may
            also name new levels. A mapping gives new levels with their values, in the form of ``declared``.
        where: Place, for errors.

    Raises:
        UsageError: ``declared`` has another form, a factor has no levels, or a factor or level is unknown.
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
        presets = (str(values["preset"]),) if values.get("preset") is not None else ()
        known[_level(level, where)] = Choice(_level(level, where), values, presets)
    return known


def _spliced(levels: list[Any], where: str, earlier: Factors) -> dict[Level, Choice]:
    """Replace each level ``${other}`` by the levels of the factor ``other``. A repeated level is kept once."""
    known: dict[Level, Choice] = {}
    for level in levels:
        match = _PLACEHOLDER.search(level) if isinstance(level, str) else None
        if match and (match[0] != level or match[2]):
            raise UsageError(
                f"{where}: a placeholder in a list of levels must be a whole level, for example ${{{match[1]}}}; got {level!r}"
            )
        if match and match[1] not in earlier:
            raise UsageError(f"{where}: no factor {match[1]!r} before it{nearest(match[1], earlier)}")
        for choice in earlier[match[1]] if match else [Choice(_level(level, where), {})]:
            known.setdefault(choice.level, choice)
    return known


def _product(declared: Mapping[str, Any], where: str, earlier: Factors) -> dict[Level, Choice]:
    columns = declared["product"]
    if not isinstance(columns, dict) or not columns:
        raise UsageError(f"{where}: 'product' must map names of columns to factors, got {columns!r}")
    for name in columns.values():
        if not isinstance(name, str) or name not in earlier:
            raise UsageError(f"{where}: no factor {name!r} before it{nearest(name, earlier)}")
    if "factors" in columns:
        raise UsageError(
            f"{where}: a column cannot be named 'factors', because this name holds the levels of all columns"
        )
    known: dict[Level, Choice] = {}
    for choices in itertools.product(*(earlier[name] for name in columns.values())):
        levels = {column: choice.level for column, choice in zip(columns, choices, strict=True)}
        values = {column: choice.values for column, choice in zip(columns, choices, strict=True)}
        presets = tuple(name for choice in choices for name in choice.presets)
        level = "-".join(map(str, levels.values()))
        if level in known:
            raise UsageError(f"{where}: two combinations of levels are named {level!r}; rename a level")
        known[level] = Choice(level, {**values, "factors": levels}, presets, combined=True)
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
        raise UsageError(f"{where}: levels must be text or numbers, got {value!r}")
    return value


def expand(entry: Any, factors: Factors, where: str, read: Reads) -> list[Single]:
    """Repeat an entry of a pipeline file for each combination of levels of the factors in its ``each``.

    ``${factor}`` and ``${factor.name}`` are replaced everywhere in the entry: by the value itself if the string holds nothing
    else, otherwise by the value as text. In an ``id``, characters other than letters, digits, - and _ become _.

    Args:
        entry: The entry.
        factors: All factors by name.
        where: Place, for errors.
        read: Collects the values of levels that the entry reads, see ``check_read``.

    Raises:
        UsageError: ``each`` names an unknown factor; or a placeholder names a factor that ``each`` does not name, or a value
            that the level does not have.
    """
    if not isinstance(entry, dict):
        return [Single(entry)]
    each = _as_list(entry.get("each", []))
    for name in each:
        if name not in factors:
            raise UsageError(f"{where}: each: no factor {name!r}{nearest(name, factors)}")
    rest = {name: value for name, value in entry.items() if name != "each"}
    singles: list[Single] = []
    for choices in itertools.product(*(factors[name] for name in each)):
        chosen = dict(zip(each, choices, strict=True))
        result = _Replacement(chosen, where, read).of(rest)
        for name in {"id", "inputs"} & set(result):
            result[name] = _as_ids(rest[name], result[name])
        decided = dict(_decided(rest.get("params"), result.get("params"), ()))
        presets = dict.fromkeys(name for choice in choices for name in choice.presets)
        singles.append(Single(result, decided, presets=tuple(presets)))
    every = dict.fromkeys(place for single in singles for place in _places(single.decided))
    return [replace(single, left=tuple(_left(every, set(_places(single.decided))))) for single in singles]


def check_read(factors: Factors, read: Reads, where: str) -> None:
    """Check that stages read every value of every level. The value ``preset`` always counts as read.

    Raises:
        UsageError: No stage reads a value.
    """
    for name, choices in factors.items():
        for choice in choices:
            for value in () if choice.combined else choice.values:
                if value != "preset" and (id(choice.values), value) not in read:
                    known = sorted({used for mapping, used in read if mapping == id(choice.values)} | {"preset"})
                    raise UsageError(
                        f"{where}: factor {name!r}: level {choice.level!r}: no stage reads its value {value!r}"
                        f"{nearest(value, known)}"
                    )


def _places(decided: Mapping[Place, Any]) -> Iterator[Place]:
    """Paths of the single values in ``decided``. A nested mapping gives one path per value, and none if it is empty."""
    for place, value in decided.items():
        if isinstance(value, Mapping):
            yield from _places({(*place, name): item for name, item in value.items()})
        else:
            yield place


def _left(every: Iterable[Place], own: Set[Place]) -> Iterator[Place]:
    """Paths in ``every`` that neither contain a path of this level nor lie inside one."""
    for place in every:
        if not any(place[: len(other)] == other or other[: len(place)] == place for other in own):
            yield place


def _decided(before: Any, after: Any, path: Place) -> Iterator[tuple[Place, Any]]:
    """Pairs of path and value, for values that came from placeholders."""
    if isinstance(before, dict):
        for name, value in before.items():
            yield from _decided(value, after[name], (*path, name))
    elif isinstance(before, list):
        for position, value in enumerate(before):
            yield from _decided(value, after[position], (*path, position))
    elif isinstance(before, str) and _PLACEHOLDER.search(before):
        yield path, after


def _as_ids(before: Any, after: Any) -> Any:
    """Replace characters that ids cannot have by _ in ids that had placeholders (``*`` stays, for patterns)."""
    if isinstance(before, dict):
        return {role: _as_ids(before[role], after[role]) for role in before}
    if isinstance(before, list):
        return [_as_ids(b, a) for b, a in zip(before, after, strict=True)]
    return _NOT_IN_IDS.sub("_", str(after)) if before != after else after


@dataclass(frozen=True)
class _Replacement:
    """Replaces placeholders by the values of the chosen levels, and records in ``read`` the values that were read."""

    chosen: Mapping[str, Choice]
    where: str
    read: Reads

    def of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.of(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.of(item) for item in value]
        if not isinstance(value, str):
            return value
        whole = _PLACEHOLDER.fullmatch(value)
        if whole:
            return self._value(whole)
        return _PLACEHOLDER.sub(lambda match: str(self._value(match)), value)

    def _value(self, match: re.Match[str]) -> Any:
        name, path = match[1], match[2].split(".")[1:]
        if name not in self.chosen:
            known = nearest(name, self.chosen)
            raise UsageError(f"{self.where}: {match[0]}: 'each' does not name the factor {name!r}{known}")
        choice = self.chosen[name]
        if not path:
            return choice.level
        value: Any = choice.values
        for part in path:
            if not isinstance(value, Mapping) or part not in value:
                raise UsageError(f"{self.where}: {match[0]}: level {choice.level!r} of {name!r} has no {part!r}")
            self.read.add((id(value), part))
            value = value[part]
        return value
