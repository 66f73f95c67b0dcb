"""Predicted slices that wait for the rest of their volume, of which only the largest region of foreground is kept."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.cli.segmentation import Segmentation
from wss.errors import DataError
from wss.ops.largest_region import outside_largest

Source = tuple[str, Any]
Files = dict[str, bytes | None] | str
"""Results of ``Segmentation``."""


class HeldSlices:
    """Holds the files of slices until their volume is complete, and reduces them to its largest region.

    Args:
        segment: Made the files, with all regions of these slices.
        volumes: Names of the slices of each volume, in order; they are of one size.
        background: Index of the background.
    """

    def __init__(self, segment: Segmentation, volumes: Sequence[Sequence[str]], background: int) -> None:
        self._segment, self._volumes, self._background = segment, volumes, background
        self._number = {name: number for number, names in enumerate(volumes) for name in names}
        self._held: dict[int, dict[str, tuple[Source, Files]]] = {}

    def complete(self, found: Iterable[tuple[Source, Files]]) -> Iterator[tuple[Source, Files]]:
        """Give other images on at once, and the slices of a volume together when the last one is there.

        Slices that cannot be read do not count: the largest region is that of the others.
        """
        for source, files in found:
            number = self._number.get(source[0])
            if number is None:
                yield source, files
                continue
            held = self._held.setdefault(number, {})
            held[source[0]] = source, files
            if len(held) == len(self._volumes[number]):
                del self._held[number]
                yield from self._reduced([held[name] for name in self._volumes[number]])

    def _reduced(self, slices: Sequence[tuple[Source, Files]]) -> Iterator[tuple[Source, Files]]:
        labels = {source[0]: _labels(files) for source, files in slices if not isinstance(files, str)}
        outside = {}
        if labels:
            masks = outside_largest(np.stack(list(labels.values())), self._background)
            outside = dict(zip(labels, masks, strict=True))
        for source, files in slices:
            name = source[0]
            if not isinstance(files, str) and outside[name].any():
                try:
                    fewer = np.where(outside[name], np.uint8(self._background), labels[name])
                    yield source, files | self._segment.drawn(source, fewer)
                except DataError as error:  # the file has changed since it was predicted
                    yield source, str(error)
            else:
                yield source, files


def _labels(files: dict[str, bytes | None]) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(files[".png"] or b"")))
