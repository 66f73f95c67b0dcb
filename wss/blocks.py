"""Segmentation of pictures of any size, block by block, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wss.datasets.images import PixelOptions
from wss.datasets.mask_files import write_mask_tiff
from wss.datasets.regions import RegionReader
from wss.predictor import Predictor

BLOCK = 768
"""Side of the blocks whose labels are kept, in pixels."""

MARGIN = 128
"""What the network sees around a block."""

PREVIEW = 2000
"""Longest side of the reduced picture and labels."""


@dataclass
class Preview:
    """A reduced picture with its labels: every n-th pixel.

    Attributes:
        rgb: uint8 (h, w, 3).
        labels: uint8 (h, w).
    """

    rgb: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    labels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))


def predict_blocks(
    predictor: Predictor,
    path: Path,
    out: Path,
    options: PixelOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Preview:
    """Segment a TIFF of any size into a TIFF.

    The network sees blocks of 768 pixels with 128 more on every side, so that its labels may differ from those of the whole
    picture where it looks farther. Pixels without data are 255.

    Args:
        predictor: The trained network.
        path: The picture.
        out: The mask's file, indexed and tiled, with the picture's GeoTIFF tags.
        options: How values become RGB of 8 bits.
        progress: Called with the number of blocks that are done and of all.

    Returns:
        The reduced picture.

    Raises:
        DataError: See ``RegionReader``.
    """
    with RegionReader(path, options) as reader:
        height, width = reader.shape
        step = max(1, -(-max(height, width) // PREVIEW))
        preview = Preview(
            np.zeros((-(-height // step), -(-width // step), 3), np.uint8),
            np.zeros((-(-height // step), -(-width // step)), np.uint8),
        )
        count = -(-height // BLOCK) * -(-width // BLOCK)

        def rows() -> Iterator[NDArray[np.uint8]]:
            done = 0
            for top in range(0, height, BLOCK):
                part = np.empty((min(BLOCK, height - top), width), np.uint8)
                for left in range(0, width, BLOCK):
                    _block(predictor, reader, part, top, left, preview, step)
                    done += 1
                    if progress is not None:
                        progress(done, count)
                yield part

        write_mask_tiff(out, rows(), reader.shape, predictor.palette, reader.geo)
    return preview


def _block(
    predictor: Predictor,
    reader: RegionReader,
    part: NDArray[np.uint8],
    top: int,
    left: int,
    preview: Preview,
    step: int,
) -> None:
    """Segment one block into its rows, and into the preview."""
    y0, x0 = max(0, top - MARGIN), max(0, left - MARGIN)
    rgb, valid = reader.read(y0, x0, top + BLOCK + MARGIN - y0, left + BLOCK + MARGIN - x0)
    labels = np.full(rgb.shape[:2], 255, np.uint8)
    if valid is None or valid.any():
        labels = predictor(rgb)
    if valid is not None:
        labels[~valid] = 255
    inner = (slice(top - y0, top - y0 + part.shape[0]), slice(left - x0, left - x0 + BLOCK))
    part[:, left : left + BLOCK] = labels[inner]
    ys = slice(-top % step, None, step), slice(-left % step, None, step)
    small, colours = labels[inner][ys], rgb[inner][ys]
    at = (-(-top // step), -(-left // step))
    preview.labels[at[0] : at[0] + small.shape[0], at[1] : at[1] + small.shape[1]] = small
    preview.rgb[at[0] : at[0] + small.shape[0], at[1] : at[1] + small.shape[1]] = colours
