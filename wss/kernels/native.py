"""The native lattice (lattice.cpp), loaded with ctypes if it is built and the machine can run it."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache

import torch

from wss.errors import UsageError, WssError
from wss.kernels.geometry import Geometry
from wss.kernels.library import load

FORWARD, REVERSE, MEAN, THERE_AND_BACK = range(4)
"""Orders of the blur directions: 0..d, d..0, the mean of both, and both in sequence."""

NOT_FINITE, OUT_OF_MEMORY, REFUSED = 1, 2, 3

MAX_CLASSES = 256

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float


class _Geometry(ctypes.Structure):
    _fields_ = (
        ("dims", ctypes.c_int32),
        ("ring", ctypes.c_int32),
        ("scale", ctypes.c_float * 5),
        ("stride", ctypes.c_int64 * 5),
        ("origin", ctypes.c_int64),
    )

    @classmethod
    def of(cls, geometry: Geometry) -> _Geometry:
        scale = (ctypes.c_float * 5)(*geometry.scale)
        stride = (ctypes.c_int64 * 5)(*geometry.stride)
        return cls(geometry.dims, int(geometry.blurs > 1), scale, stride, geometry.origin)


@cache
def library() -> ctypes.CDLL | None:
    """The fastest build that this processor can run, or None if none is installed."""
    lib = load("_lattice")
    return None if lib is None else _declare(lib)


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    lattices = ctypes.POINTER(_POINTER)
    geometry = ctypes.POINTER(_Geometry)
    lib.wss_lattice_build.argtypes = [geometry, _POINTER, _POINTER, _LONG, _LONG, _LONG, _INT, lattices]
    lib.wss_lattice_free.argtypes = [_POINTER]
    lib.wss_lattice_free.restype = None
    lib.wss_lattice_vertices.argtypes = [_POINTER]
    lib.wss_lattice_vertices.restype = _LONG
    lib.wss_lattice_filter.argtypes = [lattices, _LONG, _POINTER, _POINTER, _LONG, _INT, _FLOAT, _INT]
    lib.wss_mean_field.argtypes = [
        *(geometry, _FLOAT, _FLOAT),
        *(geometry, _FLOAT, _FLOAT),
        *(_POINTER, _POINTER, _POINTER),
        *(_LONG, _LONG, _LONG, _LONG),
        *(_INT, _INT),
    ]
    return lib


def available() -> bool:
    """True if the native kernels are installed and load."""
    return library() is not None


def require() -> ctypes.CDLL:
    """Return the library.

    Raises:
        UsageError: The library is not built.
    """
    lib = library()
    if lib is None:
        raise UsageError(
            "backend='native' needs the compiled kernels, which are not installed here: install a C++ compiler and run "
            "`pip install --no-cache-dir --force-reinstall --no-deps wss` (or `pip install -e .`), or use backend='torch'"
        )
    return lib


def _check(status: int) -> None:
    if status == OUT_OF_MEMORY:
        raise WssError("the native lattice ran out of memory: use fewer or smaller images at a time")
    if status not in (0, NOT_FINITE):
        raise WssError(f"the native lattice refused the call (status {status})")


class NativeLattice:
    """One lattice per image of a batch. The library owns the memory; it is freed with this object.

    Args:
        geometry: The embedding.
        images: (B,3,H,W) float32, contiguous, CPU.
        roi: (B,H,W) bool, contiguous, or None.
    """

    def __init__(self, geometry: Geometry, images: torch.Tensor, roi: torch.Tensor | None) -> None:
        lib = require()
        batch, _, height, width = images.shape
        self._handles = (_POINTER * batch)()
        weakref.finalize(self, _free, lib, self._handles)
        _check(
            lib.wss_lattice_build(
                *(ctypes.byref(_Geometry.of(geometry)), images.data_ptr(), None if roi is None else roi.data_ptr()),
                *(batch, height, width, torch.get_num_threads(), self._handles),
            )
        )
        self.factor = geometry.factor

    def vertices(self) -> int:
        """Number of vertices of all images."""
        return sum(int(require().wss_lattice_vertices(handle)) - 1 for handle in self._handles)

    def filter(self, x: torch.Tensor, order: int) -> tuple[torch.Tensor, bool]:
        """Return W x for x (B,C,H,W), computed in float32, and True if x is finite."""
        source = x.to(torch.float32).contiguous()
        result = torch.empty_like(source)
        status = require().wss_lattice_filter(
            *(self._handles, x.shape[0], source.data_ptr(), result.data_ptr(), x.shape[1]),
            *(order, self.factor, torch.get_num_threads()),
        )
        _check(status)
        return result.to(x.dtype), status != NOT_FINITE


def _free(lib: ctypes.CDLL, handles: ctypes.Array[ctypes.c_void_p]) -> None:
    for handle in handles:
        if handle:
            lib.wss_lattice_free(handle)


def mean_field(
    logits: torch.Tensor,
    images: torch.Tensor,
    colour: tuple[Geometry, float],
    position: tuple[Geometry, float],
    iterations: int,
) -> torch.Tensor:
    """Mean-field inference with two symmetrically normalised kernels; see ``wss.ops.mean_field``.

    Args:
        logits: (B,K,H,W) float32, contiguous, CPU; K at most ``MAX_CLASSES``.
        images: (B,3,H,W) float32, contiguous, CPU.
        colour: Embedding of (x, y, r, g, b) and weight of the kernel; 0 leaves it out.
        position: Embedding of (x, y) and weight of the kernel; 0 leaves it out.
        iterations: Number of updates; 0 returns the softmax.
    """
    probs = torch.empty_like(logits)
    _check(
        require().wss_mean_field(
            *(ctypes.byref(_Geometry.of(colour[0])), colour[0].factor, colour[1]),
            *(ctypes.byref(_Geometry.of(position[0])), position[0].factor, position[1]),
            *(images.data_ptr(), logits.data_ptr(), probs.data_ptr()),
            *(*logits.shape, iterations, torch.get_num_threads()),
        )
    )
    return probs
