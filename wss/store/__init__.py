"""Artifact stores: HDF5 files that are written atomically, record their inputs, and can be verified."""

from wss.store.journal import Journal
from wss.store.key import artifact_key, canonical_json
from wss.store.lock import exclusive
from wss.store.reader import Store
from wss.store.schema import (
    CAM,
    EDGES,
    FEATURES,
    LABELS,
    METRICS,
    MODEL,
    PICTURES,
    PREDICTIONS,
    PROTOTYPES,
    QUALITY,
    REPORT,
    SAMPLES,
    SUPERPIXELS,
    Schema,
)
from wss.store.writer import StoreWriter

__all__ = [
    "CAM",
    "EDGES",
    "FEATURES",
    "LABELS",
    "METRICS",
    "MODEL",
    "PICTURES",
    "PREDICTIONS",
    "PROTOTYPES",
    "QUALITY",
    "REPORT",
    "SAMPLES",
    "SUPERPIXELS",
    "Journal",
    "Schema",
    "Store",
    "StoreWriter",
    "artifact_key",
    "canonical_json",
    "exclusive",
]
