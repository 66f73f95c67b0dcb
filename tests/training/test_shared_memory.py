"""Loader processes with little shared memory: as many as fit, the same batches, and no endless wait."""

import os
import signal
import time

import numpy as np
import pytest
import torch

from wss.errors import WssError
from wss.training import batches as module
from wss.training import shared_memory
from wss.training.augment import AugmentParams
from wss.training.batches import EpochBatches, TrainingSet, batches
from wss.training.shared_memory import fitting, nbytes, needed

MB = 1 << 20
SIZE = (24, 32)


def _read(image_id):
    return np.full((*SIZE, 3), int(image_id), np.uint8), {"labels": np.full(SIZE, int(image_id), np.uint8)}


class Reader:
    """Reads as ``_read``, and does something first in loader processes."""

    def __init__(self, act):
        self.act, self.main = act, os.getpid()

    def __call__(self, image_id):
        if os.getpid() != self.main:
            self.act()
        return _read(image_id)


def _data(read=_read):
    return TrainingSet([str(n) for n in range(12)], read, AugmentParams(crop=None, scale=(0.8, 1.25)), 0)


def _all(workers, read=_read, start=0):
    said = []
    sampler = EpochBatches(12, 4, 2, 0, start)
    found = batches(
        _data(read), sampler, device=torch.device("cpu"), workers=workers, channels_last=True, say=said.append
    )
    return [(batch.rgb.clone(), batch.labels.clone()) for batch in found], said


def _same(found, expected):
    assert len(found) == len(expected)
    assert all(
        torch.equal(a, b) for pair, other in zip(found, expected, strict=True) for a, b in zip(pair, other, strict=True)
    )


@pytest.mark.parametrize(
    ("free", "fit"),
    [(1000 * MB, 4), (needed(4, 10 * MB), 4), (needed(4, 10 * MB) - 1, 3), (64 * MB, 2), (30 * MB, 0), (0, 0)],
)
def test_as_many_processes_as_fit(free, fit):
    said = []
    assert fitting(4, 10 * MB, said.append, free) == fit
    assert len(said) == (fit < 4)
    if said:
        assert "--shm-size 1g" in said[0]
        assert "4 loader processes need 109 MB" in said[0]
        assert ("images are loaded without loader processes" if fit == 0 else f"{fit} are started") in said[0]


def test_the_size_that_is_named_is_enough():
    said = []
    fitting(8, 200 * MB, said.append, 0)
    (size,) = [
        word.removesuffix("g") for word in said[0].replace("`", " ").split() if word.endswith("g") and word[0].isdigit()
    ]
    assert fitting(8, 200 * MB, said.append, int(0.8 * int(size) * 1024 * MB)) == 8


def test_free_memory_is_that_of_the_folder(tmp_path):
    found = os.statvfs(tmp_path)
    assert shared_memory.free_bytes(tmp_path) == pytest.approx(0.8 * found.f_bavail * found.f_frsize, rel=0.2)
    assert shared_memory.free_bytes(tmp_path / "none") is None


def test_bytes_of_a_sample():
    sample = _data()[0, 0]
    assert nbytes(sample) == SIZE[0] * SIZE[1] * (3 + 1 + 1)


@pytest.mark.parametrize("free", [0, 3 * MB // 2, 1000 * MB])
def test_batches_are_the_same_whatever_fits(monkeypatch, free):
    expected, _ = _all(0)
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: free)
    found, said = _all(2)
    _same(found, expected)
    assert len(said) == (free < 1000 * MB)


@pytest.mark.parametrize("start", [0, 2])
def test_full_shared_memory_ends_the_processes_and_not_the_training(monkeypatch, start):
    expected, _ = _all(0, start=start)
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: None)
    main, share, count = os.getpid(), module._Collated.share, [0]

    def full(self):
        assert os.getpid() != main
        count[0] += 1
        if count[0] > 1:
            raise RuntimeError(
                "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
            )
        share(self)

    monkeypatch.setattr(module._Collated, "share", full)
    found, said = _all(2, start=start)
    _same(found, expected)
    assert said == [
        "/dev/shm is full: the remaining images are loaded without loader processes. A container gets more shared memory "
        "with `docker run --shm-size 1g`"
    ]


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_told(monkeypatch):
    begun = time.monotonic()
    with pytest.raises(WssError, match=r"use fewer --jobs .*--shm-size"):
        _all(2, Reader(_die))
    assert time.monotonic() - begun < 60


def test_a_process_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    with pytest.raises(WssError, match=r"do not answer.*timed out after 1"):
        _all(1, Reader(lambda: time.sleep(5)))


def test_errors_of_reading_stay_what_they_are():
    def broken():
        raise ValueError("no such label")

    with pytest.raises(ValueError, match="no such label"):
        _all(2, Reader(broken))
