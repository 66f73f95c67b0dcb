"""Array payloads: HDF5's shuffle + deflate filters applied by hand, so that an array is compressed once, where it is made.

The bytes made here are written into HDF5 as they are (direct chunk write) and any HDF5 reader decodes them.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFLATE_LEVEL = 1


@dataclass(frozen=True)
class Payload:
    """One array as bytes, with what is needed to decode and to digest it."""

    dtype: str
    shape: tuple[int, ...]
    deflated: bool
    sha256: str
    data: bytes

    @property
    def array(self) -> NDArray[np.generic]:
        """The array again."""
        dtype = np.dtype(self.dtype)
        raw = self.data
        if self.deflated:
            raw = unshuffle(zlib.decompress(raw), dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(self.shape)


def encode(array: NDArray[np.generic], deflate: bool) -> Payload:
    """Make the payload of one array. Empty arrays are never deflated, since HDF5 has no empty chunks."""
    array = np.ascontiguousarray(array).reshape(array.shape)  # which makes scalars one-dimensional
    if array.dtype.hasobject:
        raise TypeError(f"arrays of {array.dtype} cannot be stored")
    raw = array.tobytes()
    deflate = deflate and array.size > 0
    data = zlib.compress(shuffle(raw, array.dtype.itemsize), DEFLATE_LEVEL) if deflate else raw
    return Payload(array.dtype.str, array.shape, deflate, hashlib.sha256(raw).hexdigest(), data)


def shuffle(raw: bytes, itemsize: int) -> bytes:
    """HDF5's byte shuffle: first bytes of all elements, then second bytes, ..."""
    if itemsize == 1:
        return raw
    return np.frombuffer(raw, np.uint8).reshape(-1, itemsize).T.tobytes()


def unshuffle(raw: bytes, itemsize: int) -> bytes:
    """The inverse of ``shuffle``."""
    if itemsize == 1:
        return raw
    return np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T.tobytes()
