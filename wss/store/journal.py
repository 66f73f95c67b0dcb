"""The partial result of a stage: an append-only file of checksummed records that survives ``kill -9`` and a full disk.

An HDF5 file whose writing was interrupted cannot be opened again. So partial results are kept here, and become an HDF5 store in
one pass when the stage is done. Reading stops at the first record with a wrong checksum, and appending continues from there. So
at most one record is lost.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from wss.errors import StoreError
from wss.store.atomic import storage_errors
from wss.store.codec import Coding, Payload

_MAGIC = b"wss-journal-1\n"
_FRAME = struct.Struct("<QII")  # payload length, header length, crc32 of header and payload


class Journal:
    """Records of named arrays, each under one name (an image id), in the order in which they were appended.

    Args:
        path: The ``.partial`` file. It is created if it does not exist, and otherwise scanned and continued.

    Raises:
        StoreError: The file is not a journal, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._positions: dict[str, int] = {}
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            end = self._scan()
            self._file.truncate(end)
            self._file.seek(end)

    def _scan(self) -> int:
        """Index the intact records, and return the position of their end."""
        self._file.seek(0, os.SEEK_END)
        size = self._file.tell()
        self._file.seek(0)
        magic = self._file.read(len(_MAGIC))
        if _MAGIC.startswith(magic) and len(magic) < len(_MAGIC):  # new, or cut off in the first line
            self._file.truncate(0)
            self._file.write(_MAGIC)
            self._file.flush()
            return len(_MAGIC)
        if magic != _MAGIC:
            raise StoreError(
                f"{self.path}: not a partial result of wss; remove the file and run the same command again"
            )
        position = len(_MAGIC)
        while True:
            self._file.seek(position)
            frame = self._file.read(_FRAME.size)
            if len(frame) < _FRAME.size:
                return position
            payload_length, header_length, crc = _FRAME.unpack(frame)
            end = position + _FRAME.size + header_length + payload_length
            if end > size:
                return position
            header = self._file.read(header_length)
            actual = zlib.crc32(header)
            remaining = payload_length
            while remaining:
                block = self._file.read(min(remaining, 1 << 24))
                actual = zlib.crc32(block, actual)
                remaining -= len(block)
            if actual != crc:
                return position
            self._positions[json.loads(header)["name"]] = position
            position = end

    def __contains__(self, name: str) -> bool:
        return name in self._positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def names(self) -> list[str]:
        """Names of the records, oldest first."""
        return list(self._positions)

    def append(self, name: str, arrays: Mapping[str, Payload]) -> None:
        """Add one record. After this call returns, the record survives if the process is killed."""
        if name in self._positions:
            raise ValueError(f"{self.path}: record {name!r} is there already")
        fields = [[key, a.dtype, list(a.shape), a.coding, a.sha256, a.length] for key, a in arrays.items()]
        header = json.dumps({"name": name, "arrays": fields}).encode()
        crc = zlib.crc32(header)
        for payload in arrays.values():
            crc = zlib.crc32(payload.data, crc)
        position = self._file.tell()
        length = sum(payload.length for payload in arrays.values())
        with storage_errors(self.path):
            try:
                self._file.write(_FRAME.pack(length, len(header), crc) + header)
                for payload in arrays.values():
                    self._file.write(payload.data)
                self._file.flush()
            except OSError:
                self._file = self.path.open("a+b")  # discards the buffer of the failed write
                self._file.truncate(position)
                raise
        self._positions[name] = position

    def read(self, name: str) -> dict[str, Payload]:
        """Read one record."""
        end = self._file.tell()
        try:
            self._file.seek(self._positions[name])
            _, header_length, _ = _FRAME.unpack(self._file.read(_FRAME.size))
            fields = json.loads(self._file.read(header_length))["arrays"]
            return {
                key: Payload(dtype, tuple(shape), _coding(coding), sha256, length, self._file.read(length))
                for key, dtype, shape, coding, sha256, length in fields
            }
        finally:
            self._file.seek(end)

    def header(self, name: str) -> dict[str, Payload]:
        """Descriptions of one record's arrays, without their bytes."""
        end = self._file.tell()
        try:
            return self._header(self._positions[name])
        finally:
            self._file.seek(end)

    def _header(self, position: int) -> dict[str, Payload]:
        self._file.seek(position)
        _, header_length, _ = _FRAME.unpack(self._file.read(_FRAME.size))
        fields = json.loads(self._file.read(header_length))["arrays"]
        return {
            key: Payload(dtype, tuple(shape), _coding(coding), sha256, length, b"")
            for key, dtype, shape, coding, sha256, length in fields
        }

    def headers(self) -> Iterator[tuple[str, dict[str, Payload]]]:
        """Names and array descriptions of all records, without their bytes."""
        end = self._file.tell()
        try:
            for name, position in self._positions.items():
                yield name, self._header(position)
        finally:
            self._file.seek(end)

    def close(self) -> None:
        """Close the file; its records stay for the next run."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _coding(value: Coding | bool) -> Coding:
    """The coding of a field. Journals of earlier versions only record whether it is deflated."""
    if isinstance(value, bool):
        return "deflate" if value else "raw"
    return value
