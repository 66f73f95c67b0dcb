"""A command in several processes, as ``torchrun`` starts them: the first runs it, the others do what it calls for."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


def several() -> bool:
    """Whether this process was started as one of several."""
    size = os.environ.get("WORLD_SIZE", "")
    return size.isdigit() and int(size) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)


def speaks_first() -> bool:
    """Whether to tell of a failure: what follows from that of another process is not worth telling."""
    if not several():
        return True
    from wss import distributed

    return distributed.speaks_first()


def run(command: Callable[[], None]) -> None:
    """Run a command, or help another process to run it."""
    if not several():
        command()
        return
    from wss import distributed

    if not distributed.join():
        _follow()
        return
    try:
        command()
    except Exception:
        if distributed.speaks_first():
            raise
        sys.exit(1)
    finally:
        distributed.leave()


def _follow() -> None:
    from wss import distributed
    from wss.cli import failure

    # Ctrl-C is for the leader. This process writes nothing, and may go at any moment.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        distributed.follow()
        distributed.leave()
    except distributed.LostProcessError:  # the leader tells
        sys.exit(1)
    except Exception as error:
        said = failure.message(error)
        if said is not None:
            failure.complain(said)
        elif distributed.speaks_first():
            traceback.print_exc()
        sys.exit(1)
