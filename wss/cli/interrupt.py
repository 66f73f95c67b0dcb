"""Ctrl-C and SIGTERM: while modules load the process leaves at once, during work it stops in good order.

An exception in the midst of anything can be lost (in imports, finalizers, callbacks), or leave a mess that fails in odd ways.
So a signal only leaves a note, and the next sign of progress, an image or a training step later, raises ``KeyboardInterrupt``;
where there is none for a second, it is raised wherever the program is. A second signal ends the process at once, which loses
no finished image; so does the first if the process is still there ``GRACE_S`` after the exception: one raised in the midst of
anything may leave a lock behind that something else waits for.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

MESSAGE = "interrupted; run the same command again to go on from here"
EXIT_CODE = 130
PATIENCE_S = 1.0
GRACE_S = 10.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []
_raised: list[int] = []


def leave_at_once() -> None:
    """From now on, both signals end the process. Signals that the caller's shell ignores stay ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    os.register_at_fork(after_in_child=_leave_it_to_the_parent)
    atexit.register(_finish)


def begin_work() -> None:
    """From now on, both signals stop the work in good order; does nothing unless ``leave_at_once`` came first."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, _stop)
            signal.signal(signal.SIGALRM, _lose_patience)


def end_work() -> None:
    """From now on, both signals end the process again."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, _leave)


@contextmanager
def work() -> Iterator[None]:
    """Work that both signals stop in good order, for commands without a workspace."""
    begin_work()
    try:
        yield
        check()
    finally:
        end_work()


def came() -> bool:
    """Whether a signal came."""
    return bool(_received)


def check() -> None:
    """Raise ``KeyboardInterrupt`` if a signal came."""
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
    """Last of all, give the exit code: Python kills itself with SIGINT instead if the interrupt met an ``exec`` of a string."""
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
    """In a forked worker: Ctrl-C is for the parent, which ends its workers."""
    if signal.getsignal(signal.SIGINT) in (_leave, _stop):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGTERM) in (_leave, _stop):
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
