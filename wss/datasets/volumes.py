"""Slices that belong to one three-dimensional scan, recognised by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from wss.datasets.source import Volume
from wss.errors import UsageError

PATIENT_SLICES = r"(?P<volume>(?P<group>patient\d+)_frame\d+)_slice_(?P<slice>\d+)"
"""Names like ``patient036_frame12_slice_03``: volume ``patient036_frame12``, of group ``patient036``."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of slice names.

    Args:
        pattern: Regular expression for the whole name with groups ``volume`` and ``slice`` (a number), optionally ``group``
            (images of one group stay in one split; by default a group is a volume).

    Raises:
        UsageError: Not a regular expression, or the groups are missing.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"volume pattern {pattern!r} is not a regular expression ({error})") from None
    if not {"volume", "slice"} <= set(compiled.groupindex):
        raise UsageError(
            f"volume pattern {pattern!r} needs the named groups (?P<volume>...) and (?P<slice>\\d+); example: {PATIENT_SLICES}"
        )
    return compiled


def find_volumes(ids: Iterable[str], pattern: re.Pattern[str]) -> tuple[dict[str, Volume], Mapping[str, str]]:
    """Group slices into volumes.

    Args:
        ids: Image ids. Ids that do not match the pattern are skipped.
        pattern: From ``compile_pattern``.

    Returns:
        Volumes by name, sorted, slices in the order of their numbers; and the group of every matching id.
    """
    slices: dict[str, list[tuple[int, str]]] = {}
    groups: dict[str, str] = {}
    for image_id in ids:
        match = pattern.fullmatch(image_id)
        if match is None:
            continue
        try:
            number = int(match["slice"])
        except ValueError:
            raise UsageError(
                f"volume pattern {pattern.pattern!r}: slice {match['slice']!r} of {image_id!r} is not a number"
            ) from None
        slices.setdefault(match["volume"], []).append((number, image_id))
        groups[image_id] = match.groupdict().get("group") or match["volume"]
    volumes = {name: Volume(tuple(image_id for _, image_id in sorted(slices[name]))) for name in sorted(slices)}
    return volumes, groups


def missing_slice(ids: Sequence[str]) -> tuple[str, str] | None:
    """Find two neighbours whose numbers, at the end of their ids, are further apart than those of others; None if none.

    Args:
        ids: Slices of a volume in order.
    """
    matches = [re.search(r"\d+$", image_id) for image_id in ids]
    if not all(matches):
        return None
    numbers = [int(match[0]) for match in matches if match is not None]
    steps = [after - before for before, after in pairwise(numbers)]
    return next(((ids[n], ids[n + 1]) for n, step in enumerate(steps) if step > min(steps)), None)
