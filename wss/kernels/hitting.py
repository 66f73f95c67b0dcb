"""The native random-walk solver (hitting.cpp), loaded with ctypes when it was built and the machine can run it."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache, lru_cache

import torch
from torch import Tensor

from wss.errors import UsageError, WssError
from wss.kernels.library import load

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


@cache
def library() -> ctypes.CDLL | None:
    """The fastest build that this processor runs, or None when none was installed."""
    lib = load("_hitting")
    return None if lib is None else _declare(lib)


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    lib.wss_hitting_plan.argtypes = [ctypes.c_int32, ctypes.c_int32]
    lib.wss_hitting_plan.restype = _POINTER
    lib.wss_hitting_free.argtypes = [_POINTER]
    lib.wss_hitting_free.restype = None
    lib.wss_hitting_size.argtypes = [_POINTER]
    lib.wss_hitting_size.restype = _LONG
    lib.wss_hitting_factor.argtypes = [_POINTER, _POINTER, _POINTER, _LONG, _INT]
    lib.wss_hitting_factor.restype = None
    lib.wss_hitting_solve.argtypes = [_POINTER, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _INT, _INT]
    lib.wss_hitting_solve.restype = None
    return lib


def available() -> bool:
    """True if the native solver is installed and can be loaded."""
    return library() is not None


class _Plan:
    """Symbolic factorisation for one image size: the elimination order and all positions in memory."""

    def __init__(self, height: int, width: int) -> None:
        lib = library()
        if lib is None:
            raise UsageError(
                "backend='native' needs the compiled kernels, which are not installed here: install a C++ compiler and run "
                "`pip install --no-cache-dir --force-reinstall --no-deps wss` (or `pip install -e .`), or use backend='scipy'"
            )
        self.lib = lib
        self.handle = lib.wss_hitting_plan(height, width)
        if not self.handle:
            raise WssError(f"the random-walk solver ran out of memory planning for {height}x{width} pixels")
        weakref.finalize(self, lib.wss_hitting_free, self.handle)
        self.size = int(lib.wss_hitting_size(self.handle))


@lru_cache(maxsize=64)
def _plan(height: int, width: int) -> _Plan:
    return _Plan(height, width)


_KEPT_BYTES = 2**28
_kept: list[Tensor] = []
"""Memory of factors that nobody holds any more: at most one, of at most ``_KEPT_BYTES``. Fresh memory costs more than what is
computed in it."""


def _memory(size: int) -> Tensor:
    """Return at least ``size`` numbers, float64, of any value."""
    try:
        kept = _kept.pop()
    except IndexError:
        kept = torch.empty(0, dtype=torch.float64)
    if len(kept) >= size:
        return kept
    del kept
    try:
        return torch.empty(size, dtype=torch.float64)
    except RuntimeError as error:
        raise WssError(
            f"the random-walk solver cannot have {size * 8 / 2**20:.0f} MiB of memory: use fewer or smaller images at a time"
        ) from error


class NativeElimination:
    """Factors of I - T for a batch; see ``wss.ops.hitting.Elimination``. One solve at a time.

    Args:
        steps: T, (B,4,H,W) float64, on the CPU or brought there.
        jobs: Images factored and solved at a time.
    """

    def __init__(self, steps: Tensor, jobs: int) -> None:
        self._plan = _plan(*steps.shape[2:])
        self._jobs = jobs
        source = steps.detach().cpu().contiguous()
        self._factors = _memory(len(steps) * self._plan.size)
        self._plan.lib.wss_hitting_factor(
            self._plan.handle, source.data_ptr(), self._factors.data_ptr(), len(steps), jobs
        )

    def __del__(self) -> None:
        factors = getattr(self, "_factors", None)
        if factors is not None and factors.nbytes <= _KEPT_BYTES:
            _kept[:] = [max([*_kept, factors], key=len)]

    def solve(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T) z = rhs; (B,L,H,W) float64."""
        return self._apply(rhs, 0)

    def solve_transposed(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T)' z = rhs; (B,L,H,W) float64."""
        return self._apply(rhs, 1)

    def _apply(self, rhs: Tensor, transposed: int) -> Tensor:
        source = rhs.detach().cpu().contiguous()
        result = torch.empty_like(source)
        self._plan.lib.wss_hitting_solve(
            *(self._plan.handle, self._factors.data_ptr(), source.data_ptr(), result.data_ptr()),
            *(rhs.shape[0], rhs.shape[1], transposed, self._jobs),
        )
        return result.to(rhs.device)
