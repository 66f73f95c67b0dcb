"""Writing of artifact stores: image by image into a journal, then once into an HDF5 file that is renamed into place."""

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
from wss.store.codec import CODINGS, Payload, encode, encode_image
from wss.store.journal import Journal
from wss.store.key import content_digest
from wss.store.schema import Schema
from wss.store.tree import flatten
from wss.store.whole_hdf5 import whole_hdf5

_FIXED = "="  # prefix of journal records that hold whole-store arrays; image ids never start with it


class StoreWriter:
    """The output of one stage while it runs.

    Args:
        path: Path of the finished store, ``<key>.h5``. The file ``<key>.partial`` in the same folder holds partial results.
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
        """True if this image is done, in this run or in an interrupted one."""
        return image_id in self._journal

    @property
    def ids(self) -> list[str]:
        """Ids of finished images."""
        return [name for name in self._journal.names if not name.startswith(_FIXED)]

    def append(self, image_id: str, arrays: Mapping[str, NDArray[Any] | Payload]) -> None:
        """Store the arrays of one image, encoded or not. After this call returns, they survive a crash.

        Raises:
            ValueError: The schema does not have an array, or a required array is missing.
            StoreError: The disk is full or not writable.
        """
        unknown = set(arrays) - set(self.schema.items)
        missing = self.schema.required - set(arrays)
        if unknown or missing or image_id.startswith(_FIXED):
            raise ValueError(
                f"{self.schema.name} item {image_id!r}: unknown {sorted(unknown)}, missing {sorted(missing)}"
            )
        self._journal.append(image_id, {name: self._encoded(name, array) for name, array in arrays.items()})

    def _encoded(self, name: str, array: NDArray[Any] | Payload) -> Payload:
        if isinstance(array, Payload):
            return array
        layout = self.schema.items[name]
        return encode_image(array) if layout == "image" else encode(array, layout == "deflate")

    def read(self, image_id: str) -> dict[str, NDArray[Any]]:
        """The arrays of a finished image."""
        return {name: payload.array for name, payload in self._journal.read(image_id).items()}

    def shape(self, item: str, image_id: str) -> tuple[int, ...]:
        """Shape of an array of a finished image."""
        return self._journal.header(image_id)[item].shape

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Store an array of the whole store under ``arrays/<name>``. If the name exists already (after resuming), do nothing."""
        if _FIXED + name not in self._journal:
            self._journal.append(_FIXED + name, {"array": encode(array, deflate=False)})

    def put_tree(self, name: str, tree: Any) -> None:
        """Store a nested state (tensors, arrays, numbers, strings) under ``name``; see ``Store.tree``."""
        structure, arrays = flatten(tree)
        self.meta[f"tree:{name}"] = structure
        for number, array in arrays.items():
            self.put(f"{name}/{number}", array)

    def save_checkpoint(self, state: Any) -> None:
        """Replace the checkpoint from which an interrupted stage resumes, atomically."""
        write_checkpoint(self._checkpoint, state)

    def load_checkpoint(self) -> Any | None:
        """The last checkpoint of an interrupted run of this stage, or None."""
        return read_checkpoint(self._checkpoint) if self._checkpoint.exists() else None

    def close(self) -> None:
        """Stop without finishing. Appended images are kept for the next run."""
        self._journal.close()

    def finish(self, attributes: Mapping[str, str | int | float]) -> None:
        """Write the HDF5 store, rename it into place and remove the partial files.

        Args:
            attributes: Further root attributes that are known only now (duration, device).
        """
        ids = self.ids
        digest = content_digest(self._digest_rows(), {"ids": ids, "meta": self.meta})
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
            file["meta"] = json.dumps(
                self.meta, allow_nan=False
            )  # keeps the given order, because people read files made of it
            file["log"] = json.dumps(self.log, allow_nan=False)
            self._write_items(file, ids)
            for name in self._journal.names:
                if name.startswith(_FIXED):
                    file[f"arrays/{name.removeprefix(_FIXED)}"] = self._journal.read(name)["array"].array
        self._journal.close()
        with storage_errors(self.path):
            self._journal.path.unlink(missing_ok=True)
            self._checkpoint.unlink(missing_ok=True)

    def _write_items(self, file: h5py.File, ids: list[str]) -> None:
        described = _Described(self.schema, len(ids))
        for index, image_id in enumerate(ids):
            described.note(index, self._journal.header(image_id))
        flat = described.create(file)
        for index, image_id in enumerate(ids):
            for item, payload in self._journal.read(image_id).items():
                layout = self.schema.items[item]
                if layout == "deflate":
                    _write_deflated(file[item], str(index), payload)
                    continue
                data, offsets = flat[item]
                values = np.frombuffer(payload.data, np.uint8) if layout == "image" else payload.array.ravel()
                data[offsets[index] : offsets[index] + values.size] = values

    def _digest_rows(self) -> Iterator[tuple[str, str, tuple[int, ...], str]]:
        """Yield one row per array, in the order of their names, without keeping them."""
        fixed = sorted(name for name in self._journal.names if name.startswith(_FIXED))
        ids = sorted(self.ids)
        for prefix in sorted([*(f"{item}/" for item in self.schema.items), "arrays/"]):
            item = prefix.removesuffix("/")
            for name in fixed if item == "arrays" else ids:
                payload = self._journal.header(name).get("array" if item == "arrays" else item)
                if payload is not None:
                    yield prefix + name.removeprefix(_FIXED), payload.dtype, payload.shape, payload.sha256


class _Described:
    """Sizes and dtypes of all images, collected before their bytes are written.

    Args:
        schema: Layout of the store.
        count: Number of images.
    """

    def __init__(self, schema: Schema, count: int) -> None:
        self._schema, self._count = schema, count
        self._groups: dict[str, bool] = {}
        self._dtypes: dict[str, set[str]] = {}
        self._shapes: dict[str, NDArray[np.int64]] = {}
        self._sizes: dict[str, NDArray[np.int64]] = {}
        self._codings: dict[str, NDArray[np.uint8]] = {}

    def note(self, index: int, payloads: Mapping[str, Payload]) -> None:
        """Record the arrays of one image."""
        for item, payload in payloads.items():
            layout = self._schema.items[item]
            self._groups[item] = True
            if layout == "deflate":
                continue
            if item not in self._shapes:
                self._dtypes[item] = set()
                self._shapes[item] = np.full((self._count, len(payload.shape)), -1, np.int64)
                self._sizes[item] = np.zeros(self._count, np.int64)
                self._codings[item] = np.zeros(self._count, np.uint8)
            self._dtypes[item].add(payload.dtype)
            self._shapes[item][index] = payload.shape
            whole = int(np.prod(payload.shape, dtype=np.int64))
            self._sizes[item][index] = payload.length if layout == "image" else whole
            if layout == "image":
                self._codings[item][index] = CODINGS.index(payload.coding)

    def create(self, file: h5py.File) -> dict[str, tuple[h5py.Dataset, NDArray[np.int64]]]:
        """Create the groups of all items. Returns the dataset of each flat item, with the offset of each image."""
        flat: dict[str, tuple[h5py.Dataset, NDArray[np.int64]]] = {}
        for item, layout in self._schema.items.items():
            if item not in self._groups:
                continue
            group = file.create_group(item)
            if layout == "deflate":
                continue
            dtypes, sizes = self._dtypes[item], self._sizes[item]
            if len(dtypes) != 1:
                raise ValueError(f"{self._schema.name}: {item} has several dtypes: {sorted(dtypes)}")
            offsets = np.cumsum(sizes) - sizes
            group["offset"] = offsets
            group["shape"] = self._shapes[item]
            if layout == "image":
                group["coding"] = self._codings[item]
                group["length"] = sizes
            data = group.create_dataset("data", (int(sizes.sum()),), np.dtype(next(iter(dtypes))))
            flat[item] = (data, offsets)
        return flat


def _write_deflated(group: h5py.Group, name: str, payload: Payload) -> None:
    dtype = np.dtype(payload.dtype)
    if payload.coding != "deflate":
        group.create_dataset(name, data=payload.array)
        return
    dataset = group.create_dataset(
        name, payload.shape, dtype, chunks=payload.shape, compression="gzip", shuffle=dtype.itemsize > 1
    )
    dataset.id.write_direct_chunk((0,) * len(payload.shape), payload.data)
