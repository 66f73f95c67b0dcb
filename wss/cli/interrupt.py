"""Handling of Ctrl-C and SIGTERM: while modules load, the process exits at once; during work, it stops cleanly.

An exception at an arbitrary place can be lost (in imports, finalizers, callbacks) or cause strange errors later. So a signal is
only recorded. The next progress report, an image or a training step later, raises ``KeyboardInterrupt``. If there is no progress
report for ``PATIENCE_S``, the exception is raised at the current place.

A second signal ends the process at once; no finished image is lost. The process is also ended if it still runs ``GRACE_S`` after
the exception, because an exception at an arbitrary place may leave a lock that something else waits for.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

MESSAGE = "interrupted; run the same command again to continue from here"
EXIT_CODE = 130
PATIENCE_S = 1.0
GRACE_S = 10.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []
_raised: list[int] = []


def leave_at_once() -> None:
    """Make both signals end the process at once. Signals that the caller's shell ignores stay ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    os.register_at_fork(after_in_child=_leave_it_to_the_parent)
    atexit.register(_finish)


def begin_work() -> None:
    """Make both signals stop the work cleanly. Does nothing unless ``leave_at_once`` was called before."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, _stop)
            signal.signal(signal.SIGALRM, _lose_patience)


def end_work() -> None:
    """Make both signals end the process at once again."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, _leave)


@contextmanager
def work() -> Iterator[None]:
    """Context in which both signals stop the work cleanly, for commands without a workspace."""
    begin_work()
    try:
        yield
        check()
    finally:
        end_work()


def came() -> bool:
    """True if a signal was received."""
    return bool(_received)


def check() -> None:
    """Raise ``KeyboardInterrupt`` if a signal was received."""
    if _received:
        _raise(_received[0])


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"stopped: {MESSAGE}\n".encode())
    os._exit(EXIT_CODE)


def _stop(number: int, frame: FrameType | None) -> None:
    if _received:
        _leave(number, frame)
    _received.append(number)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)


def _finish() -> None:
    """Set the exit code at exit. Without it, Python kills itself with SIGINT if the interrupt hit an ``exec`` of a string."""
    if _received:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_CODE)


def _raise(number: int) -> None:
    _raised.append(number)
    signal.setitimer(signal.ITIMER_REAL, GRACE_S)
    raise KeyboardInterrupt


def _lose_patience(number: int, frame: FrameType | None) -> None:
    if _raised:
        _leave(number, frame)
    _raise(number)


def _leave_it_to_the_parent() -> None:
    """Run in a forked worker: ignore Ctrl-C, because the parent handles it and ends its workers."""
    if signal.getsignal(signal.SIGINT) in (_leave, _stop):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGTERM) in (_leave, _stop):
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
