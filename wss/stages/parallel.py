"""Work on many images in several processes, which Ctrl-C stops without a word from them."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from multiprocessing import resource_tracker
from typing import TypeVar

# joblib is imported where it is used: it takes longer than a command whose stages are all done
Result = TypeVar("Result")

ROUND = 8
"""Calls that a job gets in one round, where results come round by round."""


def each(
    function: Callable[..., Result], calls: Iterable[tuple[object, ...]], jobs: int, batch: int = 1
) -> Iterator[Result]:
    """Call a function with each tuple of arguments, in several processes, and give the results in order.

    Args:
        function: Picklable when there are several jobs.
        calls: Arguments of each call.
        jobs: Processes; 1 calls the function in this one.
        batch: Calls sent to a process at a time; more than one pays for calls of a few milliseconds.
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
    # Ctrl-C reaches every process of the terminal, SIGTERM often a whole group. A worker that dies halfway through sending a
    # result leaves this process waiting for the rest. Processes inherit what is blocked while they start: so the workers
    # never see these signals, and this process sees them a moment later and stops the workers.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        results: Generator[Result, None, None] = parallel(delayed(function)(*arguments) for arguments in calls)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return _until_abandoned(results)


def _in_rounds(
    function: Callable[..., Result], calls: Iterable[tuple[object, ...]], jobs: int, batch: int
) -> Iterator[Result]:
    """For back ends of joblib that give results all at once, such as Ray's: not all of a data set may be in memory."""
    from joblib import Parallel, delayed

    todo = iter(calls)
    with Parallel(n_jobs=jobs, batch_size=batch) as parallel:
        while part := [delayed(function)(*arguments) for arguments in islice(todo, ROUND * jobs * batch)]:
            yield from parallel(part)


def _until_abandoned(results: Generator[Result, None, None]) -> Iterator[Result]:
    try:
        for result in results:  # noqa: UP028, which would close them before the warning is turned off
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib regrets results that an interruption leaves unused
            results.close()
