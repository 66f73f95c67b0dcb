"""Work on many images in several processes. Ctrl-C stops the workers without tracebacks."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from multiprocessing import resource_tracker
from typing import TypeVar

# joblib is imported where it is used: its import takes longer than a command whose stages are all done
Result = TypeVar("Result")

ROUND = 8
"""Number of calls per job in one round, for joblib back ends that return results round by round."""


def each(
    function: Callable[..., Result], calls: Iterable[tuple[object, ...]], jobs: int, batch: int = 1
) -> Iterator[Result]:
    """Call a function with each tuple of arguments, in several processes, and yield the results in order.

    Args:
        function: The function; must be picklable if there are several jobs.
        calls: Arguments of each call.
        jobs: Number of processes. 1 calls the function in this process.
        batch: Number of calls sent to a process at a time. More than one is faster if calls take only a few milliseconds.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.backend import resource_tracker as loky_tracker
    from joblib.parallel import get_active_backend

    if jobs > 1 and not get_active_backend()[0].supports_return_generator:
        return _in_rounds(function, calls, jobs, batch)
    parallel = Parallel(n_jobs=jobs, return_as="generator", batch_size=batch)
    if jobs > 1:  # starting these two helpers unblocks signals
        loky_tracker.ensure_running()
        resource_tracker.ensure_running()
    # Ctrl-C reaches every process of the terminal; SIGTERM often reaches a whole group. If a worker dies halfway through
    # sending a result, this process waits for the rest forever. Processes inherit the signals that are blocked while they
    # start. So the workers never see these signals; this process sees them a moment later and stops the workers.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        results: Generator[Result, None, None] = parallel(delayed(function)(*arguments) for arguments in calls)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return _until_abandoned(results)


def _in_rounds(
    function: Callable[..., Result], calls: Iterable[tuple[object, ...]], jobs: int, batch: int
) -> Iterator[Result]:
    """Like ``each``, for joblib back ends that return all results at once, such as Ray's. Rounds limit the memory for results."""
    from joblib import Parallel, delayed

    todo = iter(calls)
    with Parallel(n_jobs=jobs, batch_size=batch) as parallel:
        while part := [delayed(function)(*arguments) for arguments in islice(todo, ROUND * jobs * batch)]:
            yield from parallel(part)


def _until_abandoned(results: Generator[Result, None, None]) -> Iterator[Result]:
    try:
        for result in results:  # noqa: UP028, because `yield from` would close them before the warning is turned off
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib warns of results that an interruption leaves unused
            results.close()
