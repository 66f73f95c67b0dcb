"""What the golden stores hold. ``python tests/store/golden.py`` writes those of today's schemas that are missing.

One file for every version of every kind of store, kept for good: a golden file is never written anew. Whoever changes a layout
raises the version of its schema, and adds a file by running this.
"""

import json
from pathlib import Path

import numpy as np
import torch

import wss.store.schema
from wss.store import Journal, Schema, StoreWriter
from wss.store.checkpoint import write_checkpoint
from wss.store.codec import encode

FOLDER = Path(__file__).with_name("golden")
SCHEMAS = {value.name: value for value in vars(wss.store.schema).values() if isinstance(value, Schema)}
ATTRIBUTES = {
    "stage": "golden",
    "stage_version": 3,
    "key": "0123456789abcdef" * 4,
    "params": json.dumps({"seed": 7}),
    "inputs": json.dumps({"samples": [{"stage": "samples", "key": "a" * 64, "digest": "b" * 64}]}),
    "seed": 7,
    "wss_version": "0.0.0",
    "torch_version": "0.0.0",
    "device": "cpu (any)",
    "created": "2026-01-01T00:00:00+00:00",
}
META = {"classes": ["ground", "thing"], "note": "Größe", "record": {"miou": 0.5, "none": None}}
LOG = {"rows": [{"epoch": 1, "loss": 0.25}]}


def _ramp(dtype, *shape):
    return (np.arange(np.prod(shape)) % 200).astype(dtype).reshape(shape)


FULL = {  # every item that a kind of store may hold, of one image
    "samples": {
        "image": _ramp(np.uint8, 5, 4, 3),
        "mask": _ramp(np.uint8, 5, 4),
        "scribble": np.full((5, 4), 255, np.uint8),
        "strokes": _ramp(np.float64, 2, 5) / 8,
        "boxes": _ramp(np.int32, 1, 5),
    },
    "labels": {
        "labels": _ramp(np.uint8, 5, 4),
        "certainty": np.full((5, 4), 255, np.uint8),
        "tags": np.array([0, 1], np.uint8),
        "boxes": np.zeros((0, 5), np.int32),
    },
    "edges": {"edges": _ramp(np.uint8, 5, 4)},
    "superpixels": {"superpixels": _ramp(np.int32, 5, 4)},
    "features": {f"level{number}": _ramp(np.float16, 6, 2 * number) / 256 for number in (1, 2, 3, 4)},
    "cam": {"cam": _ramp(np.float16, 2, 5, 4) / 256, "scores": np.array([-1.5, 2.25], np.float32)},
    "pictures": {"tiles": _ramp(np.uint8, 2, 5, 4, 3), "numbers": np.array([[0.5, np.nan]])},
    "prototypes": {
        "prototypes": _ramp(np.float16, 3, 4) / 256,
        "labels": np.array([0, 1, 255], np.uint8),
        "segments": np.array([[0, -1], [2, 1]], np.int32),
    },
    "model": {},
    "predictions": {"labels": _ramp(np.uint8, 5, 4), "probs": _ramp(np.float16, 2, 5, 4) / 256},
    "metrics": {"confusion": _ramp(np.int64, 2, 2)},
    "quality": {
        "levels": np.array([3, 255], np.uint8),
        "counts": _ramp(np.int64, 2, 2, 2),
        "unlabelled": np.array([4, 0], np.int64),
    },
    "report": {},
}
ARRAYS = {"report": {"page": np.frombuffer(b"<html></html>", np.uint8)}}
TREE = {
    "weights": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
    "half": torch.tensor([0.5, -2], dtype=torch.bfloat16),
    "step": torch.tensor(9),
    "nested": [1, (2.5, None, True), {3: "text"}],
}


def items(schema: Schema, image_id: str):
    """Arrays of an image: ``full`` has all, ``bare`` those that are required."""
    return {n: a for n, a in FULL[schema.name].items() if image_id == "full" or n in schema.required}


def write(path: Path, schema: Schema) -> None:
    """Write a store of this kind with today's writer."""
    writer = StoreWriter(path, schema, ATTRIBUTES)
    writer.meta.update(META)
    writer.log.update(LOG)
    for image_id in ("full", "bare"):
        if FULL[schema.name]:
            writer.append(image_id, items(schema, image_id))
    for name, array in ARRAYS.get(schema.name, {}).items():
        writer.put(name, array)
    if schema.name == "model":
        writer.put_tree("state", TREE)
    writer.finish({"duration_s": 1.5})


def write_journal(path: Path) -> None:
    """Write an unfinished store."""
    with Journal(path) as journal:
        for name in ("b", "a"):
            journal.append(name, {n: encode(a, n != "image") for n, a in FULL["samples"].items()})


def path_of(schema: Schema, version: int) -> Path:
    return FOLDER / f"{schema.name}-{version}.h5"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for schema in SCHEMAS.values():
        if not path_of(schema, schema.version).exists():
            write(path_of(schema, schema.version), schema)
    if not (FOLDER / "journal-1.bin").exists():
        write_journal(FOLDER / "journal-1.bin")
    if not (FOLDER / "checkpoint-1.bin").exists():
        write_checkpoint(FOLDER / "checkpoint-1.bin", TREE)
