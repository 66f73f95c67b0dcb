"""Many calls in several processes: in order, whatever the back end can do."""

import os
import warnings

import pytest
from joblib import parallel_config

from wss.stages.parallel import ROUND, each


def _square(number):
    return number**2, os.getpid()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])  # the latter gives results all at once, as Ray's does
def test_results_are_in_order_and_from_other_processes(backend):
    with parallel_config(backend=backend):
        found = list(each(_square, ((n,) for n in range(2 * ROUND + 3)), 2))
    assert [square for square, _ in found] == [n**2 for n in range(2 * ROUND + 3)]
    assert os.getpid() not in {pid for _, pid in found}


def test_back_ends_without_a_stream_get_calls_in_rounds():
    asked = []

    def calls():
        for n in range(10 * ROUND):
            asked.append(n)
            yield (n,)

    with parallel_config(backend="multiprocessing"), warnings.catch_warnings():
        warnings.simplefilter("error")
        results = each(_square, calls(), 2)
        assert next(results)[0] == 0
        assert len(asked) == 2 * ROUND
        results.close()


def test_one_job_calls_here():
    assert [pid for _, pid in each(_square, ((n,) for n in range(3)), 1)] == [os.getpid()] * 3
