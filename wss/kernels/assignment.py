"""The native assignment (assignment.cpp), loaded with ctypes if it is built and the machine can run it."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError, WssError
from wss.kernels.library import load

_POINTER, _LONG = ctypes.c_void_p, ctypes.c_int64


@cache
def library() -> ctypes.CDLL | None:
    """The fastest build that this processor can run, or None if none is installed."""
    lib = load("_assignment")
    if lib is not None:
        lib.wss_assigned.argtypes = [_POINTER, _POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER, _POINTER, _LONG]
    return lib


def available() -> bool:
    """True if the native assignment is installed and loads."""
    return library() is not None


def assigned(
    begin: NDArray[np.int64],
    partners: NDArray[np.int32],
    costs: NDArray[np.int64],
    columns: int,
    present: NDArray[np.bool_],
    outside: int,
) -> NDArray[np.bool_]:
    """Rows with a partner, bool (T,R); see ``wss.metrics.assignment.assigned``.

    Raises:
        UsageError: The kernel is not installed.
        WssError: The memory is not sufficient.
    """
    lib = library()
    if lib is None:
        raise UsageError(
            "backend='native' needs the compiled kernels, which are not installed here: install a C++ compiler and run "
            "`pip install --no-cache-dir --force-reinstall --no-deps wss` (or `pip install -e .`), or use backend='python'"
        )
    steps, rows = present.shape
    arrays = [
        np.ascontiguousarray(values, kind)
        for values, kind in ((begin, np.int64), (partners, np.int32), (costs, np.int64), (present, np.bool_))
    ]
    matched = np.zeros((steps, rows), np.bool_)
    first, marks, values, shown = (array.ctypes.data for array in arrays)
    if lib.wss_assigned(first, marks, values, rows, columns, outside, shown, matched.ctypes.data, steps):
        raise WssError("the assignment of boundaries ran out of memory: use smaller images")
    return matched
