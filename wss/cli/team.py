"""A command in several processes started by ``torchrun``: the leader runs the command, the others follow its calls."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


def several() -> bool:
    """True if this process was started as one of several."""
    size = os.environ.get("WORLD_SIZE", "")
    return size.isdigit() and int(size) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)


def speaks_first() -> bool:
    """True if this process should report a failure: False if the failure only follows from that of another process."""
    if not several():
        return True
    from wss import distributed

    return distributed.is_first_failure()


def run(command: Callable[[], None]) -> None:
    """Run a command in the leader process, or follow the leader's calls in another process."""
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
        if distributed.is_first_failure():
            raise
        sys.exit(1)
    finally:
        distributed.leave()


def _follow() -> None:
    from wss import distributed
    from wss.cli import failure

    # The leader handles Ctrl-C. This process writes nothing, and may end at any moment.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        distributed.follow()
        distributed.leave()
    except distributed.LostProcessError:  # the leader reports it
        sys.exit(1)
    except Exception as error:
        said = failure.message(error)
        if said is not None:
            failure.complain(said)
        elif distributed.is_first_failure():
            traceback.print_exc()
        sys.exit(1)
