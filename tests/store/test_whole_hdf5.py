"""Writes of HDF5 files that fail at any byte: the old file stays, one error tells of it, and nothing is printed."""

import resource
import signal
import sys
import time

import h5py
import numpy as np
import pytest

from wss.errors import StoreError
from wss.store import LABELS, Store, StoreWriter
from wss.store import whole_hdf5 as module
from wss.store.whole_hdf5 import CACHE_BYTES, whole_hdf5

ROWS = np.random.default_rng(0).integers(0, 256, (40, 30, 20), dtype=np.uint8)


def _fill(file):
    file.attrs["name"] = "x" * 500
    file.create_dataset("ids", data=[f"id{n}" for n in range(40)], dtype=h5py.string_dtype())
    for number, row in enumerate(ROWS):
        file.create_dataset(f"deflated/{number}", data=row, chunks=row.shape, compression="gzip")
    flat = file.create_dataset("flat", ROWS.shape, np.uint8)
    for number, row in enumerate(ROWS):
        flat[number] = row


def _limited(path, size):
    """Write with a limit for the size of files, beyond which writes fail."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with whole_hdf5(path) as file:
            _fill(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_what_is_written_is_read(tmp_path):
    with whole_hdf5(tmp_path / "x.h5") as file:
        _fill(file)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["flat"][()], ROWS)
        np.testing.assert_array_equal(file["deflated/7"][()], ROWS[7])


@pytest.mark.parametrize("start", range(0, 4000, 400))
def test_a_write_that_fails_anywhere(tmp_path, start, capfd):
    path = tmp_path / "x.h5"
    path.write_text("old")
    for size in range(start, 60000, 4000):
        with pytest.raises(StoreError, match=r"larger than allowed.*same command again"):
            _limited(path, size)
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]
    assert capfd.readouterr() == ("", "")


def test_much_that_cannot_be_written_ends_early(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(module, "PATIENCE_BYTES", 10_000)
    written = []

    def endless(file):
        for number in range(1000):
            file[f"flat/{number}"] = ROWS
            written.append(number)

    monkeypatch.setattr(sys.modules[__name__], "_fill", endless)
    with pytest.raises(StoreError, match="larger than allowed"):
        _limited(tmp_path / "x.h5", 2000)
    assert len(written) < 3
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_writer_s_own(tmp_path):
    with pytest.raises(ValueError, match="mine"), whole_hdf5(tmp_path / "x.h5") as file:
        _fill(file)
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())


def test_interruptions_wait_for_the_file(tmp_path):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), whole_hdf5(tmp_path / "x.h5") as file:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            _fill(file)
            time.sleep(0.05)
            file["after"] = 1
        assert signal.getsignal(signal.SIGALRM) is interrupt
    finally:
        signal.signal(signal.SIGALRM, before)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["after"][()] == 1


def test_memory_does_not_grow_with_the_number_of_arrays(tmp_path):
    """HDF5 would keep the header of every array that was opened, of some kilobytes each."""
    names = [f"i{n}" for n in range(1500)]
    writer = StoreWriter(tmp_path / "x.h5", LABELS, {"key": "k", "params": "{}", "inputs": "{}"})
    for name in names:
        writer.append(name, {"labels": np.zeros((2, 2), np.uint8)})
    writer.finish({})
    store = Store(tmp_path / "x.h5", LABELS)
    for name in names:
        store.get("labels", name)
    assert store._file.id.get_mdc_size()[2] <= CACHE_BYTES
    with whole_hdf5(tmp_path / "y.h5") as file:
        for name in names:
            file[name] = np.zeros((2, 2), np.uint8)
        assert file.id.get_mdc_size()[2] <= CACHE_BYTES
