"""Batches that several processes share: losses, gradients and statistics are those of one process with the whole batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import parts_of_batches
import pytest
import torch
from parts_of_batches import CASES, METHOD_CASES

from wss import distributed
from wss.errors import UsageError
from wss.losses import mean_over_batch

ALIKE = ("dense", "grabcut", "random-walk", "scribblesup")  # the loss of ``pce``
USUAL = [*(case for case in METHOD_CASES if case not in ALIKE), "unet"]
BEYOND = [case for case in CASES if case not in USUAL]


def _measured(path, cases, size):
    """What ``parts_of_batches`` finds in several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    command = [sys.executable, parts_of_batches.__file__, path, *cases]
    running = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return torch.load(path)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    return _measured(tmp_path_factory.mktemp("halves") / "found.pt", USUAL, 2)


def _assert_equal(found, case):
    expected = parts_of_batches.measure(case)
    assert found.keys() == expected.keys()
    assert any(name.startswith("1 ") and values.any() for name, values in expected.items())
    for name, values in expected.items():
        torch.testing.assert_close(
            found[name], values, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", USUAL)
def test_two_processes_equal_one(halves, case):
    _assert_equal(halves[case], case)


@pytest.mark.slow
def test_other_settings_and_networks(tmp_path):
    found = _measured(tmp_path / "found.pt", BEYOND, 2)
    for case in BEYOND:
        _assert_equal(found[case], case)


@pytest.mark.slow
def test_four_processes_with_an_image_each(tmp_path):
    cases = ["pce", "spml", "unet", "rw-ss"]
    found = _measured(tmp_path / "found.pt", cases, 4)
    for case in cases:
        _assert_equal(found[case], case)


def test_a_mean_of_means_would_be_another_loss():
    """The check of the check: with these labels the order of averaging matters."""
    batch = parts_of_batches.batch(0)
    counts = (batch.labels != 255).flatten(1).sum(1)
    halves = counts[0::2].sum(), counts[1::2].sum()
    assert halves[0] > 20 * halves[1] > 0
    batch = parts_of_batches.batch(1)
    assert not (batch.labels[1::2] != 255).any()


def test_one_process_has_the_whole_batch():
    values = torch.arange(6.0).view(2, 3)
    assert distributed.world_size() == distributed.local_world_size() == 1
    assert not distributed.is_sharded()
    assert distributed.shard([3, 1, 2]) == [3, 1, 2]
    assert distributed.all_reduce_sum(values) is values
    assert torch.equal(distributed.all_gather(values), values[None])
    assert distributed.gather_rows_own_first(values) is values
    assert torch.equal(distributed.random_shard(torch.arange, 4), torch.arange(4))
    assert distributed.call_on_all(max, 3, 4) == 4
    assert list(distributed.map_over_processes(abs, [-1, 2])) == [(-1, 1), (2, 2)]
    distributed.check_parts(7)
    assert distributed.is_first_failure()


def test_parts_must_be_equal(monkeypatch):
    monkeypatch.setattr(distributed, "_team", distributed._Team(0, 4, None))
    distributed.check_parts(8)
    with pytest.raises(
        UsageError, match=r"a batch of 6 images has no equal parts for 4 processes; set batch_size to a mult"
    ):
        distributed.check_parts(6)


def test_mean_over_batch():
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    assert mean_over_batch(values) == 3
    assert mean_over_batch(values, torch.tensor([True, False, True])) == 3.5
    nothing = mean_over_batch(values, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert nothing == 0
    assert not values.grad.any()
