"""Writing an artifact store: image by image into a journal, then once into HDF5 and renamed into place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wss.names import name_bytes
from wss.store.atomic import storage_errors
from wss.store.checkpoint import read_checkpoint, write_checkpoint
from wss.store.codec import Payload, encode
from wss.store.journal import Journal
from wss.store.key import content_digest
from wss.store.schema import Schema
from wss.store.tree import flatten
from wss.store.whole_hdf5 import whole_hdf5

_FIXED = "="  # prefix of journal records that hold whole-store arrays; image ids never start with it


class StoreWriter:
    """The output of one stage while it runs.

    Args:
        path: Where the finished store goes, ``<key>.h5``. ``<key>.partial`` beside it holds the work in progress.
        schema: Layout of the store.
        attributes: Root attributes (key, params, inputs, versions, ...), strings and numbers.
    """

    def __init__(self, path: Path, schema: Schema, attributes: Mapping[str, str | int | float]) -> None:
        self.path = path
        self.schema = schema
        self.meta: dict[str, Any] = {}
        self.log: dict[str, Any] = {}
        self._attributes = dict(attributes)
        self._journal = Journal(path.with_suffix(".partial"))
        self._checkpoint = path.with_suffix(".checkpoint.partial")

    def __contains__(self, image_id: str) -> bool:
        """Whether this image is done already, in this run or in an interrupted one."""
        return image_id in self._journal

    @property
    def ids(self) -> list[str]:
        """Image ids done so far."""
        return [name for name in self._journal.names if not name.startswith(_FIXED)]

    def append(self, image_id: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store the arrays of one image; when this returns they survive a crash.

        Raises:
            ValueError: An array that the schema does not name, or a required one is missing.
            StoreError: The disk is full or not writable.
        """
        unknown = set(arrays) - set(self.schema.items)
        missing = self.schema.required - set(arrays)
        if unknown or missing or image_id.startswith(_FIXED):
            raise ValueError(
                f"{self.schema.name} item {image_id!r}: unknown {sorted(unknown)}, missing {sorted(missing)}"
            )
        self._journal.append(
            image_id, {name: encode(array, self.schema.items[name] == "deflate") for name, array in arrays.items()}
        )

    def read(self, image_id: str) -> dict[str, NDArray[Any]]:
        """The arrays of one image that is done."""
        return {name: payload.array for name, payload in self._journal.read(image_id).items()}

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Store one array of the whole store under ``arrays/<name>``; again under the same name is ignored on resume."""
        if _FIXED + name not in self._journal:
            self._journal.append(_FIXED + name, {"array": encode(array, deflate=False)})

    def put_tree(self, name: str, tree: Any) -> None:
        """Store a nested state (tensors, arrays, numbers, strings) under ``name``; see ``Store.tree``."""
        structure, arrays = flatten(tree)
        self.meta[f"tree:{name}"] = structure
        for number, array in arrays.items():
            self.put(f"{name}/{number}", array)

    def save_checkpoint(self, state: Any) -> None:
        """Replace the checkpoint from which an interrupted stage goes on, atomically."""
        write_checkpoint(self._checkpoint, state)

    def load_checkpoint(self) -> Any | None:
        """The last checkpoint of an interrupted run of this stage, or None."""
        return read_checkpoint(self._checkpoint) if self._checkpoint.exists() else None

    def close(self) -> None:
        """Stop without finishing; what was appended is kept for the next run."""
        self._journal.close()

    def finish(self, attributes: Mapping[str, str | int | float], order: list[str] | None = None) -> None:
        """Write the HDF5 store, rename it into place and remove the partial files.

        Args:
            attributes: Further root attributes, known only now (duration, device).
            order: Image ids in the order to keep; default: as appended.
        """
        described = dict(self._journal.headers())
        ids = order if order is not None else self.ids
        digest = content_digest(_digest_rows(described), {"ids": ids, "meta": self.meta})
        with whole_hdf5(self.path) as file:
            file.attrs.update(
                {
                    "schema": self.schema.name,
                    "schema_version": self.schema.version,
                    **self._attributes,
                    **attributes,
                    "digest": digest,
                }
            )
            file.create_dataset("ids", data=[name_bytes(name) for name in ids], dtype=h5py.string_dtype())
            file["meta"] = json.dumps(self.meta, allow_nan=False)  # in the order given: people read what is made of it
            file["log"] = json.dumps(self.log, allow_nan=False)
            self._write_items(file, ids, described)
            for name in self._journal.names:
                if name.startswith(_FIXED):
                    file[f"arrays/{name.removeprefix(_FIXED)}"] = self._journal.read(name)["array"].array
        self._journal.close()
        with storage_errors(self.path):
            self._journal.path.unlink(missing_ok=True)
            self._checkpoint.unlink(missing_ok=True)

    def _write_items(self, file: h5py.File, ids: list[str], described: Mapping[str, Mapping[str, Payload]]) -> None:
        flat: dict[str, tuple[h5py.Dataset, NDArray[np.int64]]] = {}
        for item, layout in self.schema.items.items():
            payloads = [described[i].get(item) for i in ids]
            present = [payload for payload in payloads if payload is not None]
            if not present:
                continue
            group = file.create_group(item)
            if layout == "deflate":
                continue
            dtypes = {payload.dtype for payload in present}
            if len(dtypes) != 1:
                raise ValueError(f"{self.schema.name}: {item} has several dtypes: {sorted(dtypes)}")
            sizes = np.array([0 if p is None else int(np.prod(p.shape, dtype=np.int64)) for p in payloads], np.int64)
            offsets = np.cumsum(sizes) - sizes
            rank = len(present[0].shape)
            group["offset"] = offsets
            group["shape"] = np.array([(-1,) * rank if p is None else p.shape for p in payloads], np.int64)
            data = group.create_dataset("data", (int(sizes.sum()),), np.dtype(dtypes.pop()))
            flat[item] = (data, offsets)
        for index, image_id in enumerate(ids):
            for item, payload in self._journal.read(image_id).items():
                if item in flat:
                    data, offsets = flat[item]
                    values = payload.array.ravel()
                    data[offsets[index] : offsets[index] + values.size] = values
                else:
                    _write_deflated(file[item], str(index), payload)


def _write_deflated(group: h5py.Group, name: str, payload: Payload) -> None:
    dtype = np.dtype(payload.dtype)
    if not payload.deflated:
        group.create_dataset(name, data=payload.array)
        return
    dataset = group.create_dataset(
        name, payload.shape, dtype, chunks=payload.shape, compression="gzip", shuffle=dtype.itemsize > 1
    )
    dataset.id.write_direct_chunk((0,) * len(payload.shape), payload.data)


def _digest_rows(described: Mapping[str, Mapping[str, Payload]]) -> Iterator[tuple[str, str, tuple[int, ...], str]]:
    for name, payloads in described.items():
        for item, payload in payloads.items():
            logical = f"arrays/{name.removeprefix(_FIXED)}" if name.startswith(_FIXED) else f"{item}/{name}"
            yield logical, payload.dtype, payload.shape, payload.sha256
