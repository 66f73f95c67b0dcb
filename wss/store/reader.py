"""Reading of artifact stores, from any process and any number of data loader workers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from wss.errors import StoreError
from wss.names import name_of
from wss.store.codec import CODINGS
from wss.store.key import content_digest
from wss.store.pictures import decode_picture, from_grey
from wss.store.schema import Schema
from wss.store.tree import unflatten
from wss.store.whole_hdf5 import bound_cache


class _Flat(NamedTuple):
    """All values of a flat item, memory-mapped, with the position of each image.

    Attributes:
        data: The values.
        offsets: Offset of each image's first value.
        shapes: Shape of each image's array; -1 for an image without one.
        codings: Index of each image's coding in ``CODINGS``; None if all are raw.
        lengths: Number of stored values of each image; None if all are raw.
    """

    data: NDArray[Any]
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    codings: NDArray[np.uint8] | None = None
    lengths: NDArray[np.int64] | None = None


_DECODERS = {"grey": from_grey, "encoded": decode_picture}

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
"""Exceptions that h5py raises for damaged files."""


class Store:
    """A finished artifact store, opened read-only. Cheap to open, safe to pickle and to use after a fork.

    Args:
        path: The ``.h5`` file.
        schema: Required schema; None accepts any schema (``wss status``, ``wss verify``).

    Raises:
        StoreError: The store is missing, damaged, of another kind or of another schema version. The message names the remedy.
    """

    def __init__(self, path: Path, schema: Schema | None = None) -> None:
        self.path = Path(path)
        self._handle: tuple[int, h5py.File] | None = None
        self._layouts: dict[str, _Flat | None] = {}
        rebuild = schema.rebuild if schema else "wss run"
        if not self.path.exists():
            raise StoreError(f"{self.path}: no such store; make it with `{rebuild}`")
        if self.path.is_dir():
            raise StoreError(f"{self.path}: is a folder; name the file of a store in it")
        try:
            attributes = dict(self._file.attrs)
            self.ids: list[str] = [name_of(i) for i in self._file["ids"][()]]
            self.meta: dict[str, Any] = json.loads(self._file["meta"][()])
            if not {"key", "digest"} <= set(attributes):
                raise KeyError("neither key nor digest")
        except _DAMAGE as error:
            raise StoreError(
                f"{self.path}: not a readable wss store ({error}); if wss wrote this file, it is damaged: remove it and make it "
                f"again with `{rebuild}`; otherwise name another file"
            ) from error
        self.attributes: dict[str, Any] = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()
        }
        stored_schema = (self.attributes.get("schema"), self.attributes.get("schema_version"))
        if schema is not None and stored_schema[0] != schema.name:
            raise StoreError(f"{self.path}: holds {stored_schema[0]}, but {schema.name} is needed here")
        if schema is not None and not schema.oldest <= int(stored_schema[1] or 0) <= schema.version:
            raise StoreError(
                f"{self.path}: {schema.name} store of version {stored_schema[1]}, this wss reads version "
                f"{schema.version}; rebuild it with `{rebuild}`"
            )
        self._index = {image_id: index for index, image_id in enumerate(self.ids)}

    @property
    def _file(self) -> h5py.File:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), h5py.File(self.path, "r"))
            bound_cache(self._handle[1])
        return self._handle[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the store as its absolute path, because other processes may have another current folder. Each opens it once."""
        return _opened, (self.path.absolute(), self.digest)

    @property
    def key(self) -> str:
        """Digest of the recipe."""
        return str(self.attributes["key"])

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return str(self.attributes["digest"])

    @cached_property
    def log(self) -> dict[str, Any]:
        """Log of the stage that made the store (for example training curves). Not part of the content digest."""
        return dict(json.loads(self._file["log"][()]))

    @property
    def params(self) -> dict[str, Any]:
        """The stage's parameters."""
        return dict(json.loads(self.attributes["params"]))

    @property
    def inputs(self) -> dict[str, list[dict[str, str]]]:
        """Stage, key and digest of each input, by role."""
        return dict(json.loads(self.attributes["inputs"]))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index

    def position(self, image_id: str) -> int:
        """Index of an image id.

        Raises:
            StoreError: The store does not have this image.
        """
        try:
            return self._index[image_id]
        except KeyError:
            raise StoreError(f"{self.path}: no image {image_id!r}; it holds {len(self.ids)} others") from None

    def has(self, item: str, image_id: str) -> bool:
        """True if this image has this array."""
        index = self.position(image_id)
        try:
            if item not in self._file:
                return False
            flat = self._layout(item)
            return f"{item}/{index}" in self._file if flat is None else bool(flat.shapes[index, 0] >= 0)
        except _DAMAGE as error:
            raise self._damaged(f"image {image_id!r}, {item}", error) from error

    def get(self, item: str, image_id: str) -> NDArray[Any]:
        """One array of one image. Flat items and images stored as pixels are read-only views of the file, without a copy.

        Raises:
            StoreError: The image or the array does not exist, or the file is damaged.
        """
        index = self.position(image_id)
        try:
            flat = self._layout(item)
            if flat is None:
                return self._inflate(f"{item}/{index}")
            shape = flat.shapes[index]
            if shape[0] < 0:
                raise KeyError(image_id)
            start = int(flat.offsets[index])
            if flat.codings is None or flat.lengths is None or flat.codings[index] == 0:
                return flat.data[start : start + int(shape.prod())].reshape(shape)
            stored = flat.data[start : start + int(flat.lengths[index])]
            return _DECODERS[CODINGS[flat.codings[index]]](stored, tuple(shape.tolist()))
        except KeyError:
            raise StoreError(f"{self.path}: image {image_id!r} has no {item}") from None
        except (*_DAMAGE, IndexError, cv2.error, StoreError) as error:
            raise self._damaged(f"image {image_id!r}, {item}", error) from error

    def shape(self, item: str, image_id: str) -> tuple[int, ...]:
        """Shape of one array of one image, without reading the array.

        Raises:
            StoreError: The image or the array does not exist, or the file is damaged.
        """
        index = self.position(image_id)
        try:
            flat = self._layout(item)
            if flat is None:
                return tuple(h5py.h5d.open(self._file.id, f"{item}/{index}".encode()).shape)
            if flat.shapes[index, 0] < 0:
                raise KeyError(image_id)
            return tuple(flat.shapes[index].tolist())
        except KeyError:
            raise StoreError(f"{self.path}: image {image_id!r} has no {item}") from None
        except _DAMAGE as error:
            raise self._damaged(f"image {image_id!r}, {item}", error) from error

    def _damaged(self, what: str, error: BaseException) -> StoreError:
        return StoreError(f"{self.path}: {what}: damaged ({error}); remove the file and run the same command again")

    def _inflate(self, name: str) -> NDArray[Any]:
        """Read one dataset with h5py's low-level API: h5py's objects would take nearly as long as decompression."""
        dataset = h5py.h5d.open(self._file.id, name.encode())
        values = np.empty(dataset.shape, dataset.dtype)
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return values

    def _layout(self, item: str) -> _Flat | None:
        """Layout of a flat item; None for an item with one dataset per image."""
        if item not in self._layouts:
            group = self._file[item]
            self._layouts[item] = self._map(group) if "data" in group else None
        return self._layouts[item]

    def _map(self, group: h5py.Group) -> _Flat:
        data = group["data"]
        position = data.id.get_offset()
        values: NDArray[Any] = np.empty(0, data.dtype)
        if position is not None:  # something is stored
            values = np.memmap(self.path, data.dtype, mode="r", offset=position, shape=data.shape)
        coded = (group["coding"][()], group["length"][()]) if "coding" in group else (None, None)
        return _Flat(values, group["offset"][()], group["shape"][()], *coded)

    def array(self, name: str) -> NDArray[Any]:
        """An array of the whole store.

        Raises:
            StoreError: The array does not exist, or the file is damaged.
        """
        try:
            return np.asarray(self._file[f"arrays/{name}"][()])
        except KeyError:
            raise StoreError(f"{self.path}: has no array {name!r}") from None
        except _DAMAGE as error:
            raise self._damaged(name, error) from error

    def tree(self, name: str) -> Any:
        """A nested state written by ``StoreWriter.put_tree``.

        Raises:
            StoreError: The state does not exist, or the file is damaged.
        """
        if f"tree:{name}" not in self.meta:
            raise StoreError(f"{self.path}: has no {name!r}")
        try:
            group = self._file.get(f"arrays/{name}", {})
            return unflatten(self.meta[f"tree:{name}"], {number: group[number][()] for number in group})
        except _DAMAGE as error:
            raise self._damaged(name, error) from error

    def verify(self) -> bool:
        """True if the content still has the digest with which it was written. Reads everything."""
        try:
            return content_digest(self._digest_rows(), {"ids": self.ids, "meta": self.meta}) == self.digest
        except (*_DAMAGE, StoreError):
            return False

    def _digest_rows(self) -> Iterator[tuple[str, str, tuple[int, ...], str]]:
        def row(name: str, values: NDArray[Any]) -> tuple[str, str, tuple[int, ...], str]:
            return name, values.dtype.str, values.shape, hashlib.sha256(values.tobytes()).hexdigest()

        for item in sorted(self._file, key=lambda name: f"{name}/"):
            group = self._file[item]
            if item == "arrays":
                names: list[str] = []
                group.visititems(
                    lambda name, node, names=names: names.append(name) if isinstance(node, h5py.Dataset) else None
                )
                yield from (row(f"arrays/{name}", np.asarray(group[name][()])) for name in sorted(names))
            elif isinstance(group, h5py.Group):
                yield from (row(f"{item}/{i}", self.get(item, i)) for i in sorted(self.ids) if self.has(item, i))

    def close(self) -> None:
        """Close the file. A later access opens it again."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None
        self._layouts.clear()


@lru_cache(maxsize=32)
def _opened(path: Path, digest: str) -> Store:
    """The store at ``path``, opened once per process and content."""
    return Store(path)
