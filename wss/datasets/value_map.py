"""Tables that map stored values of label files to class indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from wss.labels import UNLABELLED


def _pairs(given: Any) -> Any:
    """The rows of a table, sorted by stored value. Accepts a mapping from YAML, also with text keys as in JSON."""
    if not isinstance(given, Mapping):
        return given
    try:
        rows = sorted((_whole(stored), _whole(label)) for stored, label in given.items())
    except (TypeError, ValueError, OverflowError):
        rows = [(-1, -1)]
    if not all(0 <= label <= UNLABELLED for _, label in rows):
        raise ValueError(f"expected class indices from 0 to 255 by stored value, as in {{0: 0, 255: 1}}; got {given}")
    if len(dict(rows)) < len(rows):
        raise ValueError(f"expected one class for each stored value; got {given}")
    return tuple(rows)


def _whole(given: Any) -> int:
    number = int(given)
    if not isinstance(given, str) and number != given:
        raise ValueError("expected a whole number")
    return number


ValueMap = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_pairs)]
"""Pairs of stored value (any integer) and class index (255 for unlabelled), given as a mapping. Other values are kept."""


def remap(labels: NDArray[Any], ignore: Sequence[int], values: Sequence[tuple[int, int]] = ()) -> NDArray[Any]:
    """Replace stored values by class indices.

    Args:
        labels: Any shape and type. uint8 stays uint8; other types may become wider.
        ignore: Values that become 255.
        values: Stored value and class index, see ``ValueMap``.
    """
    if not ignore and not values:
        return labels
    meaning = {**dict.fromkeys(ignore, UNLABELLED), **dict(values)}
    if labels.dtype == np.uint8:
        table = np.arange(256, dtype=np.uint8)
        for stored, label in meaning.items():
            if 0 <= stored < 256:
                table[stored] = label
        return np.asarray(table[labels])
    indices = labels.astype(np.result_type(labels, np.uint8))
    for stored, label in meaning.items():
        indices[labels == stored] = label
    return indices


def written(values: Mapping[int, int]) -> str:
    """Format a table as YAML, such as ``{0: 0, 255: 1}``."""
    return "{" + ", ".join(f"{stored}: {label}" for stored, label in sorted(values.items())) + "}"
