"""Tables from the values that label files store to class indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from wss.datasets.source import IGNORE_INDEX


def _pairs(given: Any) -> Any:
    """The rows of a table, sorted by the stored value. YAML gives a mapping, whose names are text once it was JSON."""
    if not isinstance(given, Mapping):
        return given
    try:
        rows = sorted((int(stored), int(label)) for stored, label in given.items())
    except (TypeError, ValueError):
        rows = [(-1, -1)]
    if not all(0 <= value <= IGNORE_INDEX for row in rows for value in row):
        raise ValueError(f"expected stored values and class indices from 0 to 255, as in {{0: 0, 255: 1}}; got {given}")
    return tuple(rows)


ValueMap = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_pairs)]
"""Stored value and class index, 255 for unlabelled; given as a mapping. Values that are not named stay as they are."""


def remap(
    labels: NDArray[np.uint8], ignore: Sequence[int], values: Sequence[tuple[int, int]] = ()
) -> NDArray[np.uint8]:
    """Replace stored values by what they mean.

    Args:
        labels: uint8, any shape.
        ignore: Values that become 255.
        values: Stored value and class index, see ``ValueMap``.
    """
    if not ignore and not values:
        return labels
    table = np.arange(256, dtype=np.uint8)
    table[[value for value in ignore if 0 <= value < 256]] = IGNORE_INDEX
    for stored, label in values:
        table[stored] = label
    return table[labels]


def written(values: Mapping[int, int]) -> str:
    """A table as YAML writes it, for people to copy: ``{0: 0, 255: 1}``."""
    return "{" + ", ".join(f"{stored}: {label}" for stored, label in sorted(values.items())) + "}"
