"""A lock between processes: one process holds a file, the others wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from wss.errors import StoreError
from wss.store.atomic import storage_errors


@contextlib.contextmanager
def exclusive(lock: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock, and remove its file at the end. The lock of a dead process is released.

    Args:
        lock: The lock file. It is created if it does not exist.
        waiting: Called once if another process holds the lock.

    Raises:
        StoreError: The file cannot be written, or its file system cannot lock files.
    """
    with _locked(lock, waiting) as handle:
        try:
            yield
        finally:
            if _is(handle, lock):
                lock.unlink(missing_ok=True)


def _locked(lock: Path, waiting: Callable[[], None]) -> IO[str]:
    """Open and lock a file. Closing the file releases the lock."""
    while True:
        with storage_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreError(f"{lock}: this file system cannot lock files ({error})") from error
        if _is(handle, lock):
            return handle
        handle.close()  # the file was removed while we waited, by the last holder or `wss gc`: others may lock a new file


def _is(handle: IO[str], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.fstat(handle.fileno()).st_ino == path.stat().st_ino
    return False
