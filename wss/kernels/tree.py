"""The native spanning trees (tree.cpp), loaded with ctypes if they are built and the machine can run them."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from wss.errors import UsageError, WssError
from wss.kernels.library import load

_POINTER, _LONG, _INT, _SIDE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int32


@cache
def library() -> ctypes.CDLL | None:
    """The fastest build that this processor can run, or None if none is installed."""
    lib = load("_tree")
    if lib is not None:
        lib.wss_tree_build.argtypes = [_POINTER, _LONG, _SIDE, _SIDE, _POINTER, _POINTER, _POINTER, _INT]
        lib.wss_tree_filter.argtypes = [*(_POINTER,) * 5, _LONG, _LONG, _LONG, _INT]
    return lib


def available() -> bool:
    """True if the native spanning trees are installed and load."""
    return library() is not None


def _require() -> ctypes.CDLL:
    lib = library()
    if lib is None:
        raise UsageError(
            "backend='native' needs the compiled kernels, which are not installed here: install a C++ compiler and run "
            "`pip install --no-cache-dir --force-reinstall --no-deps wss` (or `pip install -e .`), or use backend='scipy'"
        )
    return lib


def build(lengths: Tensor, height: int, width: int, jobs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Trees of a batch; see ``wss.ops.spanning_tree.SpanningTree``.

    Args:
        lengths: (B,E) float32 on the CPU, contiguous, at least 0 or infinite.
        height: Height of the images.
        width: Width of the images.
        jobs: Number of images at a time.

    Returns:
        Order and parents, int32 (B,N), and lengths of the edges to the parents, float32 (B,N).
    """
    order = torch.empty(len(lengths), height * width, dtype=torch.int32)
    parent, length = torch.empty_like(order), torch.empty(order.shape)
    _check(
        _require().wss_tree_build(
            *(lengths.data_ptr(), len(lengths), height, width),
            *(order.data_ptr(), parent.data_ptr(), length.data_ptr(), jobs),
        )
    )
    return order, parent, length


def sums(order: Tensor, parent: Tensor, weight: Tensor, values: Tensor, jobs: int) -> Tensor:
    """Sums of values, float64 (B,N,C), over the trees. All tensors must be contiguous and on the CPU."""
    result = torch.empty_like(values)
    _check(
        _require().wss_tree_filter(
            *(order.data_ptr(), parent.data_ptr(), weight.data_ptr(), values.data_ptr(), result.data_ptr()),
            *(*values.shape, jobs),
        )
    )
    return result


def _check(status: int) -> None:
    if status:
        raise WssError("the spanning trees ran out of memory: use fewer or smaller images at a time")
