"""Artifact stores: HDF5 files that appear whole, name what they were made from, and can be checked."""

from wss.store.journal import Journal
from wss.store.key import artifact_key, canonical_json
from wss.store.reader import Store
from wss.store.schema import LABELS, METRICS, MODEL, PREDICTIONS, REPORT, SAMPLES, Schema
from wss.store.writer import StoreWriter

__all__ = [
    "LABELS",
    "METRICS",
    "MODEL",
    "PREDICTIONS",
    "REPORT",
    "SAMPLES",
    "Journal",
    "Schema",
    "Store",
    "StoreWriter",
    "artifact_key",
    "canonical_json",
]
