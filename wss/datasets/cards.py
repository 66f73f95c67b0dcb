"""Data set cards: descriptions of public data sets, which readers use before they see any files."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import UsageError
from wss.params import Params, nearest, validate
from wss.shipped import shipped
from wss.yaml_text import parse


class Card(Params):
    """One data set card, a YAML file under ``data/``.

    Attributes:
        title: Name of the data set.
        homepage: Address of its description.
        download: Instructions to get the files and where to put them.
        licence: Terms of use.
        layout: Files and folders that the reader expects.
        splits: Description of each split.
        classes: Class names by index.
        palette: RGB colour per class.
        background: Index of the background class, or None.
        aliases: Other spellings of class names found in its annotation files.
        orders: Other class orders in circulation, by name.
        facts: Numbers that the reader needs, for example the label of unlabelled pixels.
    """

    title: str
    homepage: str = ""
    download: str
    licence: str
    layout: str
    splits: dict[str, str]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()
    background: int | None = None
    aliases: dict[str, str] = Field(default_factory=dict)
    orders: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def colours(self) -> NDArray[np.uint8]:
        """The palette, uint8 (K, 3); the VOC colour map if the card has no palette."""
        return np.array(self.palette, np.uint8) if self.palette else colour_map(len(self.classes))


@lru_cache
def load_card(name: str) -> Card:
    """Read a card of the package.

    Args:
        name: For example ``voc``.

    Raises:
        UsageError: No such card.
    """
    known = sorted(path.stem for path in shipped("data").glob("*.yaml"))
    if name not in known:
        raise UsageError(f"no data set card {name!r}{nearest(name, known)}")
    path = shipped("data") / f"{name}.yaml"
    return validate(Card, parse(path.read_text(encoding="utf-8")), str(path))


def colour_map(count: int) -> NDArray[np.uint8]:
    """The VOC colour map: the bits of index ``i`` are distributed to red, green and blue in turn, highest bits first.

    Args:
        count: Number of colours, at most 256.

    Returns:
        uint8 (count, 3); colour 0 is black.
    """
    colours = np.zeros((count, 3), np.uint8)
    index = np.arange(count)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> channel) & 1) << (7 - bit)).astype(np.uint8)
        index >>= 3
    return colours
