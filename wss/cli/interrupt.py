"""Ctrl-C and SIGTERM: while modules load the process leaves at once, later it stops in good order.

An exception out of a half-done import can be swallowed there and leave modules that fail in odd ways; nothing needs tidying
up at that time. Later there are workers to stop and temporary files to remove, which ``KeyboardInterrupt`` lets happen.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

MESSAGE = "interrupted; run the same command again to go on from here"
EXIT_CODE = 130

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_at_once() -> None:
    """From now on, both signals end the process. Signals that the caller's shell ignores stay ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def stop_in_order() -> None:
    """From now on, both signals raise ``KeyboardInterrupt``; does nothing unless ``leave_at_once`` came first."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, _raise)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"stopped: {MESSAGE}\n".encode())
    os._exit(EXIT_CODE)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
