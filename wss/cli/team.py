"""A command in several processes started by ``torchrun``: the leader runs the command, the others follow its calls."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def several() -> bool:
    """True if this process was started as one of several."""
    size = os.environ.get("WORLD_SIZE", "")
    return size.isdigit() and int(size) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)


def is_first_failure() -> bool:
    """True if this process should report a failure: False if the failure only follows from that of another process."""
    if not several():
        return True
    from wss import distributed

    return distributed.is_first_failure()


def run(command: Callable[[], None], report: Callable[[Exception], None]) -> None:
    """Run a command in the leader process, or follow the leader's calls in another process.

    Args:
        command: The command.
        report: Prints an error that ends a follower, unless another process has already reported the failure.
    """
    if not several():
        command()
        return
    from wss import distributed

    if not distributed.join():
        _follow(report)
        return
    try:
        command()
    except Exception:
        if distributed.is_first_failure():
            raise
        sys.exit(1)
    finally:
        distributed.leave()


def _follow(report: Callable[[Exception], None]) -> None:
    from wss import distributed

    # The leader handles Ctrl-C. This process writes nothing, and may end at any moment.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        distributed.follow()
        distributed.leave()
    except distributed.LostProcessError:  # the leader reports it
        sys.exit(1)
    except Exception as error:
        report(error)
        sys.exit(1)
