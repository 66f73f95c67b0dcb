"""Array payloads: arrays as bytes, compressed once, in the process that makes them.

Label maps and probabilities are encoded here as HDF5's shuffle and deflate filters do. The bytes are written unchanged into HDF5
(direct chunk write), and any HDF5 reader can decode them. For images see ``wss.store.pictures``.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wss.store.pictures import decode_picture, from_grey

DEFLATE_LEVEL = 1

Coding = Literal["raw", "deflate", "grey", "encoded"]
"""``raw``: the array's bytes. ``deflate``: shuffled and deflated. ``grey``: the first of three equal channels. ``encoded``: an
image file, JPEG or PNG."""

CODINGS: tuple[Coding, ...] = ("raw", "grey", "encoded")
"""Codings of images. Stores refer to them by their index."""


@dataclass(frozen=True)
class Payload:
    """One array as bytes, with the information to decode it and to compute digests.

    Attributes:
        dtype: Dtype of the array.
        shape: Shape of the array.
        coding: Encoding of the bytes.
        sha256: Hex digest of the array's raw bytes, independent of the coding.
        length: Number of bytes.
        data: The bytes; empty in descriptions.
    """

    dtype: str
    shape: tuple[int, ...]
    coding: Coding
    sha256: str
    length: int
    data: bytes

    @property
    def array(self) -> NDArray[np.generic]:
        """Decode the array."""
        if self.coding in ("grey", "encoded"):
            stored = np.frombuffer(self.data, np.uint8)
            return from_grey(stored, self.shape) if self.coding == "grey" else decode_picture(stored, self.shape)
        dtype = np.dtype(self.dtype)
        raw = self.data
        if self.coding == "deflate":
            raw = unshuffle(zlib.decompress(raw), dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(self.shape)


def encode(array: NDArray[np.generic], deflate: bool) -> Payload:
    """Make the payload of one array. Empty arrays are never deflated, because HDF5 has no empty chunks."""
    array = np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray makes scalars one-dimensional
    if array.dtype.hasobject:
        raise TypeError(f"arrays of {array.dtype} cannot be stored")
    raw = array.tobytes()
    deflate = deflate and array.size > 0
    data = zlib.compress(shuffle(raw, array.dtype.itemsize), DEFLATE_LEVEL) if deflate else raw
    sha256 = hashlib.sha256(raw).hexdigest()
    return Payload(array.dtype.str, array.shape, "deflate" if deflate else "raw", sha256, len(data), data)


def encode_image(image: NDArray[np.uint8], file: bytes | None = None) -> Payload:
    """Make the payload of an image: the smallest lossless encoding.

    Args:
        image: uint8 (H,W,3), RGB. Three equal channels are stored once.
        file: Bytes of an image file with exactly these pixels; None stores the pixels.
    """
    image = np.ascontiguousarray(image)
    raw = image.tobytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    grey = bool(image.size) and bool((image == image[..., :1]).all())
    coding: Coding = "grey" if grey else "raw"
    data = image[..., 0].tobytes() if grey else raw
    if file is not None and len(file) < len(data):
        coding, data = "encoded", file
    return Payload(image.dtype.str, image.shape, coding, sha256, len(data), data)


def shuffle(raw: bytes, itemsize: int) -> bytes:
    """HDF5's byte shuffle: first bytes of all elements, then second bytes, ..."""
    if itemsize == 1:
        return raw
    return np.frombuffer(raw, np.uint8).reshape(-1, itemsize).T.tobytes()


def unshuffle(raw: bytes, itemsize: int) -> bytes:
    """Inverse of ``shuffle``."""
    if itemsize == 1:
        return raw
    return np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T.tobytes()
