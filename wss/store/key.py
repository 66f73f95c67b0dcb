"""Identity of an artifact: a digest of its recipe (the key), and a digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from wss.names import name_bytes


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def artifact_key(
    stage: str, version: int, schema: str, schema_version: int, params: Any, inputs: Mapping[str, str | list[str]]
) -> str:
    """SHA-256 hex digest of a stage's recipe.

    Args:
        stage: Stage name.
        version: Stage version, raised when equal inputs give a new result.
        schema: Name of the output schema.
        schema_version: The oldest version of the schema with the same content.
        params: Parameters as plain JSON values, nested models with their class names.
        inputs: Content digest(s) of each input, by role.
    """
    recipe = {
        "stage": stage,
        "version": version,
        "schema": [schema, schema_version],
        "params": params,
        "inputs": dict(inputs),
    }
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def content_digest(arrays: Iterable[tuple[str, str, tuple[int, ...], str]], meta: Any) -> str:
    """SHA-256 hex digest of a store's content, independent of its layout on disk.

    Args:
        arrays: Name, dtype string, shape and SHA-256 of the bytes, for every array, in the order of the names.
        meta: The store's metadata as plain JSON values.
    """
    digest = hashlib.sha256(canonical_json(meta).encode())
    for name, dtype, shape, sha256 in arrays:
        digest.update(name_bytes(f"\n{name}|{dtype}|{','.join(map(str, shape))}|{sha256}"))
    return digest.hexdigest()
