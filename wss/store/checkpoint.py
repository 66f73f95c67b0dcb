"""The state of an interrupted training run as one HDF5 file, replaced atomically."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py

from wss.errors import StoreError
from wss.store.key import canonical_json
from wss.store.tree import flatten, unflatten
from wss.store.whole_hdf5 import whole_hdf5


def write_checkpoint(path: Path, state: Any) -> None:
    """Write a nested state (tensors, arrays, numbers, strings) to ``path``. The old file stays until the new one is complete."""
    structure, arrays = flatten(state)
    text = canonical_json(structure)
    with whole_hdf5(path) as file:
        file.attrs["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        file["state"] = text
        for name, array in arrays.items():
            file[f"arrays/{name}"] = array


def read_checkpoint(path: Path) -> Any:
    """Read a state written by ``write_checkpoint``.

    Raises:
        StoreError: The file is damaged. Training starts again if it is removed.
    """
    try:
        with h5py.File(path, "r") as file:
            text = file["state"][()].decode()
            if hashlib.sha256(text.encode()).hexdigest() != file.attrs["sha256"]:
                raise ValueError("checksum mismatch")
            arrays = {name: item[()] for name, item in file["arrays"].items()} if "arrays" in file else {}
        return unflatten(json.loads(text), arrays)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: damaged checkpoint ({error}); remove the file to start this stage over") from error
