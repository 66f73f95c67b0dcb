"""Segmentation of TIFF files of any size, block by block, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wss.blocks import Block, blocks
from wss.datasets.images import PixelOptions
from wss.datasets.mask_files import write_mask_tiff
from wss.datasets.regions import RegionReader
from wss.labels import UNLABELLED
from wss.predictor import Predictor

PREVIEW = 2000
"""Longest side of the reduced image and labels, in pixels."""


@dataclass
class Preview:
    """A reduced image with its labels: every n-th pixel in both directions.

    Attributes:
        rgb: Image, uint8 (h, w, 3).
        labels: Labels, uint8 (h, w).
    """

    rgb: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    labels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))


def predict_tiff(
    predictor: Predictor,
    path: Path,
    out: Path,
    options: PixelOptions | None = None,
    *,
    probs: NDArray[np.float16] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Preview:
    """Segment a TIFF file of any size and write the mask to a TIFF file.

    The network sees one block with its margin at a time (``wss.blocks``). If the field of view of the network is larger
    than the margin, labels can differ from those for the whole image. Pixels without data get the label 255.

    Args:
        predictor: The trained network.
        path: File of the image.
        out: File of the mask: indexed and tiled, with the image's GeoTIFF tags.
        options: Conversion of values to 8-bit RGB.
        probs: Array that is filled with class probabilities, float16 (K, H, W). It may be a ``numpy.memmap``.
        progress: Called with the number of finished blocks and the number of all blocks.

    Returns:
        The reduced image with its labels.

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
        grid = list(blocks(height, width))

        def rows() -> Iterator[NDArray[np.uint8]]:
            part = np.empty((0, 0), np.uint8)
            for done, block in enumerate(grid, 1):
                inside_rows, inside_columns = block.inside
                if inside_columns.start == 0:
                    part = np.empty((inside_rows.stop - inside_rows.start, width), np.uint8)
                part[:, inside_columns] = _segment(predictor, reader, block, preview, step, probs)
                if progress is not None:
                    progress(done, len(grid))
                if inside_columns.stop == width:
                    yield part

        write_mask_tiff(out, rows(), reader.shape, predictor.palette, reader.geo)
    return preview


def _segment(
    predictor: Predictor,
    reader: RegionReader,
    block: Block,
    preview: Preview,
    step: int,
    probs: NDArray[np.float16] | None,
) -> NDArray[np.uint8]:
    """Labels of a block, uint8 (h, w). Labels are also written to the preview, and probabilities to ``probs``."""
    seen_rows, seen_columns = block.seen
    rgb, valid = reader.read(
        seen_rows.start,
        seen_columns.start,
        seen_rows.stop - seen_rows.start,
        seen_columns.stop - seen_columns.start,
    )
    labels = np.full(rgb.shape[:2], UNLABELLED, np.uint8)
    if probs is not None or valid is None or valid.any():
        maps = predictor.probabilities(rgb)
        labels = maps.argmax(0).astype(np.uint8)
        if probs is not None:
            probs[(slice(None), *block.inside)] = maps[(slice(None), *block.kept)]
    if valid is not None:
        labels[~valid] = UNLABELLED
    kept: NDArray[np.uint8] = labels[block.kept]
    top, left = block.inside[0].start, block.inside[1].start
    every = slice(-top % step, None, step), slice(-left % step, None, step)
    small, colours = kept[every], rgb[block.kept][every]
    at = (
        slice(-(-top // step), -(-top // step) + small.shape[0]),
        slice(-(-left // step), -(-left // step) + small.shape[1]),
    )
    preview.labels[at], preview.rgb[at] = small, colours
    return kept
