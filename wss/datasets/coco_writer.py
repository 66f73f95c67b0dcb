"""Conversion of label images to COCO's instances: one object per connected region, as uncompressed run lengths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.scribbles.rasters import components


def format_coco(images: Sequence[tuple[str, NDArray[np.uint8]]], classes: Sequence[str], background: int | None) -> str:
    """Labels as a JSON document that kind ``coco`` and pycocotools read.

    Args:
        images: File name and labels, uint8 (H,W) with 255 = unlabelled, of each image.
        classes: Class names by index.
        background: The class whose pixels are not objects, or None. Unlabelled pixels become background when the file is read.

    Returns:
        JSON with ``images``, ``categories`` (ids are class indices plus 1) and ``annotations``.
    """
    listed: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, (name, labels) in enumerate(images, 1):
        height, width = labels.shape
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, window, inside in components(labels):
            if label == background:
                continue
            top, left = window[0].start, window[1].start
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "area": int(inside.sum()),
                    "bbox": [left, top, inside.shape[1], inside.shape[0]],
                    "segmentation": {"size": [height, width], "counts": _runs(inside, top, left, height, width)},
                }
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(classes) if i != background]
    return json.dumps({"images": listed, "categories": categories, "annotations": objects})


def _runs(inside: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> list[int]:
    """Run lengths down the columns of the image. The first run is outside the region."""
    columns = np.zeros((inside.shape[1], inside.shape[0] + 1), np.int8)
    columns[:, :-1] = inside.T
    column, row = np.nonzero(np.diff(columns, axis=1, prepend=0))
    places = (left + column) * height + top + row
    counts: list[int] = np.diff(np.concatenate([[0], places, [height * width]])).tolist()
    return counts
