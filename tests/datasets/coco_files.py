"""Writes annotations in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, outside first."""
    pixels = mask.astype(bool).T.ravel().tolist()
    counts, inside = [0], False
    for pixel in pixels:
        if pixel != inside:
            counts.append(0)
            inside = pixel
        counts[-1] += 1
    return counts


def compressed(counts: list[int]) -> str:
    """The counts as COCO's string, digit by digit."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            digit, value = value & 31, value >> 5
            done = value == (-1 if digit & 16 else 0)
            text += chr(48 + digit + (0 if done else 32))
            if done:
                break
    return text


def rle(mask: np.ndarray, *, packed: bool = True) -> dict[str, Any]:
    counts = runs(mask)
    return {"size": list(mask.shape), "counts": compressed(counts) if packed else counts}


def write_annotations(
    path: Path,
    images: dict[int, tuple[str, tuple[int, int]]],
    annotations: list[dict[str, Any]],
    categories: dict[int, str] | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": n, "file_name": name, "height": h, "width": w} for n, (name, (h, w)) in images.items()],
        "annotations": [{"id": 100 + n, **row} for n, row in enumerate(annotations)],
        "categories": [{"id": n, "name": name} for n, name in (categories or {1: "person"}).items()],
    }
    path.write_text(json.dumps(content))
