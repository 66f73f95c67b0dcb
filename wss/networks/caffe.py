"""Reader of the weights in a Caffe model file (a protocol buffer), without Caffe or a protobuf library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_LAYER, _LAYER_V1 = 100, 2
"""Field numbers of the layers in NetParameter: of the current message, and of the message before 2015."""


def read_caffemodel(path: Path) -> dict[str, list[NDArray[np.float32]]]:
    """Read the arrays of all layers with weights, in the order of the file (weights, then biases).

    Args:
        path: A ``.caffemodel`` file with layer messages of either generation.

    Raises:
        DataError: The file is missing, damaged, or has no weights.

    Source: the field numbers of ``caffe.proto`` and the wire format of protocol buffers.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise DataError(f"weights {path}: cannot be read ({error}); give the path of a .caffemodel file") from error
    layers: dict[str, list[NDArray[np.float32]]] = {}
    try:
        for field, value in _fields(data):
            if field in (_LAYER, _LAYER_V1) and isinstance(value, memoryview):
                name_field, blob_field = (1, 7) if field == _LAYER else (4, 6)
                parts = list(_fields(value))
                names = [bytes(v).decode() for f, v in parts if f == name_field and isinstance(v, memoryview)]
                blobs = [_blob(v) for f, v in parts if f == blob_field and isinstance(v, memoryview)]
                if blobs and names:
                    layers[names[0]] = blobs
    except (IndexError, struct.error, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"weights {path}: not a whole .caffemodel file ({error}); download it again") from error
    if not layers:
        raise DataError(
            f"weights {path}: no layer with weights in it; give a .caffemodel, not a .prototxt or solverstate"
        )
    return layers


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the field numbers and raw values of one message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == _VARINT:
            number, place = _varint(data, place)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            length, place = _varint(data, place)
        elif kind in (_DOUBLE, _FLOAT):
            length = 8 if kind == _DOUBLE else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
        if place + length > len(data):
            raise ValueError("a field reaches beyond the end")
        yield tag >> 3, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return number, place
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")


def _blob(message: memoryview) -> NDArray[np.float32]:
    """Read one BlobProto: data in field 5 (floats) or 8 (doubles), shape in field 7, or in the old fields 1 to 4."""
    values: list[NDArray[np.float32]] = []
    old: dict[int, int] = {}
    shape: list[int] | None = None
    for field, value in _fields(message):
        if field in (1, 2, 3, 4) and isinstance(value, int):
            old[field] = value
        elif field in (5, 8) and isinstance(value, memoryview):  # one packed array, or a field per number
            values.append(np.frombuffer(value, "<f4" if field == 5 else "<f8").astype(np.float32))
        elif field == 7 and isinstance(value, memoryview):
            shape = _dimensions(value)
    array = np.concatenate(values) if values else np.empty(0, np.float32)
    if shape is None:
        shape = [old.get(field, 1) for field in (1, 2, 3, 4)] if old else [len(array)]
    return array.reshape(shape)


def _dimensions(message: memoryview) -> list[int]:
    shape: list[int] = []
    for field, value in _fields(message):
        if field == 1 and isinstance(value, int):
            shape.append(value)
        elif field == 1 and isinstance(value, memoryview):
            place = 0
            while place < len(value):
                number, place = _varint(value, place)
                shape.append(number)
    return shape
