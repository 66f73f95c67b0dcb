"""Atomic writing of HDF5 files, also if a write fails."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from wss.store.atomic import replace_file

PATIENCE_BYTES = 1 << 26
"""Bytes that are still accepted after a failed write. Then writing is refused, because the file is lost anyway."""

CACHE_BYTES = 1 << 18
"""Size of the cache of object headers, as HDF5 counts it. The headers need about 15 times as much memory."""


class _Sink(io.FileIO):
    """A file whose writes do not fail: after an error, it records the error and keeps further writes in memory.

    This is needed because HDF5 writes much data when objects are closed, and errors at that point are only printed. HDF5 also
    crashes if it reads back other data than it wrote.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []
        self._patience = PATIENCE_BYTES

    def write(self, data: Any) -> int:
        """Write all of ``data``. Raises only once, when continuing is useless."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        if self.error is not None:
            start = self.tell()
            self._kept.append((start, bytes(view[done:])))
            self.seek(start + len(view) - done)
            impatient, self._patience = self._patience > 0, self._patience - len(view)
            if impatient and self._patience <= 0:
                raise self.error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read written data, from the file or from memory; zeros elsewhere."""
        view = memoryview(buffer).cast("B")
        start = self.tell()
        view[:] = bytes(len(view))
        super().readinto(view)
        for place, data in self._kept:
            first, last = max(place, start), min(place + len(data), start + len(view))
            if first < last:
                view[first - start : last - start] = data[first - place : last - place]
        self.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size, unless an earlier write failed."""
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0


@contextlib.contextmanager
def whole_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write an HDF5 file to ``path`` atomically.

    Raises:
        StoreError: The file cannot be written. An old file at ``path`` is unchanged.
    """
    with _interruptions_wait(), replace_file(path) as temporary, _Sink(temporary) as sink:
        try:
            with h5py.File(sink, "w", libver="v110") as file:
                bound_cache(file)
                yield file
        finally:
            if sink.error is not None:
                raise sink.error


def bound_cache(file: h5py.File) -> None:
    """Limit the cache of object headers. Otherwise it grows with the number of opened datasets."""
    config = file.id.get_mdc_config()
    config.set_initial_size, config.initial_size, config.min_size = True, CACHE_BYTES, CACHE_BYTES
    config.max_size = CACHE_BYTES
    file.id.set_mdc_config(config)


@contextlib.contextmanager
def _interruptions_wait() -> Iterator[None]:
    """Delay signals that raise an exception (Ctrl-C, timers), because HDF5 calls the sink and an exception there can be lost.

    The data of that write would be lost too. Handlers that do not raise stay, so that a second Ctrl-C can end the process.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    raising = {
        n: h for n, h in handlers.items() if h is signal.default_int_handler or (n == signal.SIGALRM and callable(h))
    }
    for number in raising:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
        for received in waiting:
            signal.raise_signal(received)
