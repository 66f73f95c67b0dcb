"""Number of loader processes that shared memory has room for.

Loader processes hand over batches in shared memory, which Linux keeps in ``/dev/shm``. Containers often have 64 MB of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wss.distributed import neighbours

FOLDER = Path("/dev/shm")
PREFETCHED = 2
"""Batches that each loader process prepares ahead."""
_HELD = 2  # batches that wait for the network or are in its hands
_SHARE = 0.8  # of the free memory; others use it too
_FEWEST = 1 << 20  # bytes that each process needs beside batches (semaphores, rounding to pages)


def nbytes(value: Any) -> int:
    """Bytes of the arrays in nested dictionaries."""
    if isinstance(value, dict):
        return sum(nbytes(item) for item in value.values())
    return int(getattr(value, "nbytes", 0))


def needed(workers: int, batch_bytes: int) -> int:
    """Bytes of shared memory that loader processes need."""
    return (PREFETCHED * workers + _HELD) * batch_bytes + workers * _FEWEST


def free_bytes(folder: Path = FOLDER) -> int | None:
    """Free shared memory for this process, which shares it with its neighbours; None where the system has no such folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return int(found.f_bavail * found.f_frsize * _SHARE) // neighbours()


def fitting(workers: int, batch_bytes: int, say: Callable[[str], None], free: int | None = None) -> int:
    """Loader processes that can be started; where these are fewer than wanted, ``say`` is told.

    Args:
        workers: Wanted processes.
        batch_bytes: Size of a batch.
        say: Called with one line for people.
        free: Free shared memory in bytes; None finds out.

    Returns:
        At most ``workers``; 0 loads in this process.
    """
    free = free_bytes() if free is None else free
    if free is None or workers == 0:
        return workers
    fit = next((n for n in range(workers, 0, -1) if needed(n, batch_bytes) <= free), 0)
    if fit < workers:
        say(
            f"{FOLDER} has {_mb(free)} to spare, and {workers} loader processes need {_mb(needed(workers, batch_bytes))} there: "
            f"{f'{fit} are started' if fit else 'images are loaded without'}. A container gets more with `docker run --shm-size "
            f"{_size(needed(workers, batch_bytes))}`, a smaller train.batch_size or train.augment.crop needs less"
        )
    return fit


def _mb(count: int) -> str:
    return f"{max(1, round(count / 1e6)):,} MB"


def _size(count: int) -> str:
    """A size for ``--shm-size`` with room to spare, in whole GB."""
    return f"{max(1, -(-round(count / _SHARE) // (1 << 30)))}g"
