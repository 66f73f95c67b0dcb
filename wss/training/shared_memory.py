"""Number of loader processes for which shared memory is large enough.

Loader processes pass batches through shared memory, which Linux keeps in ``/dev/shm``. Containers often have only 64 MB of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wss.distributed import local_world_size

FOLDER = Path("/dev/shm")
PREFETCHED = 2
"""Number of batches that each loader process prepares ahead."""
_HELD = 2  # batches that wait for the network or are used by it
_SHARE = 0.8  # usable fraction of the free memory; other programs use it too
_FEWEST = 1 << 20  # bytes that each process needs in addition to batches (semaphores, rounding to pages)


def nbytes(value: Any) -> int:
    """Total bytes of the arrays in nested dictionaries."""
    if isinstance(value, dict):
        return sum(nbytes(item) for item in value.values())
    return int(getattr(value, "nbytes", 0))


def needed(workers: int, batch_bytes: int) -> int:
    """Bytes of shared memory that loader processes need."""
    return (PREFETCHED * workers + _HELD) * batch_bytes + workers * _FEWEST


def free_bytes(folder: Path = FOLDER) -> int | None:
    """Free shared memory for this process in bytes; None if the system has no such folder.

    The free memory is divided by the number of processes of the run on this machine.
    """
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return int(status.f_bavail * status.f_frsize * _SHARE) // local_world_size()


def fitting(workers: int, batch_bytes: int, say: Callable[[str], None], free: int | None = None) -> int:
    """Number of loader processes that can be started. ``say`` receives a message if it is smaller than wanted.

    Args:
        workers: Wanted number of processes.
        batch_bytes: Size of a batch in bytes.
        say: Receives one line for the user.
        free: Free shared memory in bytes; None measures it.

    Returns:
        Number of processes, at most ``workers``. 0 means that images are loaded in this process.
    """
    free = free_bytes() if free is None else free
    if free is None or workers == 0:
        return workers
    fit = next((n for n in range(workers, 0, -1) if needed(n, batch_bytes) <= free), 0)
    if fit < workers:
        say(
            f"{FOLDER} has {_mb(free)} free, but {workers} loader processes need {_mb(needed(workers, batch_bytes))} there: "
            f"{f'{fit} are started' if fit else 'images are loaded without loader processes'}. A container gets more with "
            f"`docker run --shm-size {_size(needed(workers, batch_bytes))}`; a smaller train.batch_size or train.augment.crop "
            "needs less"
        )
    return fit


def _mb(count: int) -> str:
    return f"{max(1, round(count / 1e6)):,} MB"


def _size(count: int) -> str:
    """A value for ``--shm-size`` in whole GB, with some reserve."""
    return f"{max(1, -(-round(count / _SHARE) // (1 << 30)))}g"
