import zlib

import numpy as np
import pytest

from wss.errors import StoreError
from wss.store.codec import encode
from wss.store.journal import Journal


def _payloads(seed, deflate=True):
    rng = np.random.default_rng(seed)
    return {"labels": encode(rng.integers(0, 5, (7, 9)).astype(np.uint8), deflate), "x": encode(rng.random(3), deflate)}


def _write(path, names):
    with Journal(path) as journal:
        for seed, name in enumerate(names):
            journal.append(name, _payloads(seed))


def test_records_come_back_in_order(tmp_path):
    path = tmp_path / "a.partial"
    _write(path, ["b", "a", "c"])
    with Journal(path) as journal:
        assert journal.names == ["b", "a", "c"]
        for seed, name in enumerate(journal.names):
            for item, payload in _payloads(seed).items():
                np.testing.assert_array_equal(journal.read(name)[item].array, payload.array)


def test_cut_at_every_byte_loses_only_the_record_in_flight(tmp_path):
    path = tmp_path / "a.partial"
    _write(path, ["a", "b"])
    two = path.read_bytes()
    with Journal(path) as journal:
        journal.append("c", _payloads(2))
    three = path.read_bytes()
    for end in range(len(two), len(three)):
        path.write_bytes(three[:end])
        with Journal(path) as journal:
            assert journal.names == ["a", "b"]
            journal.append("c", _payloads(2))
        assert path.read_bytes() == three


@pytest.mark.parametrize("end", range(0, 15))
def test_cut_in_the_first_line(tmp_path, end):
    path = tmp_path / "a.partial"
    _write(path, ["a"])
    path.write_bytes(path.read_bytes()[:end])
    with Journal(path) as journal:
        assert len(journal) == 0
        journal.append("a", _payloads(0))
    with Journal(path) as journal:
        assert journal.names == ["a"]


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.partial"
    _write(path, ["a", "b"])
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with Journal(path) as journal:
        assert journal.names == ["a"]


def test_a_foreign_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.partial"
    path.write_bytes(b"something else entirely")
    with pytest.raises(StoreError, match="not a partial result"):
        Journal(path)
    assert path.read_bytes() == b"something else entirely"


def test_disk_full_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.partial"
    journal = Journal(path)
    journal.append("a", _payloads(0))

    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            self._file.write(data[:5])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self._file, name)

    journal._file = Full(journal._file)
    with pytest.raises(StoreError, match=r"disk is full.*wss gc"):
        journal.append("b", _payloads(1))
    with Journal(path) as again:
        assert again.names == ["a"]
        again.append("b", _payloads(1))
    with Journal(path) as again:
        assert again.names == ["a", "b"]


def test_payload_is_what_hdf5_expects():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    payload = encode(array, deflate=True)
    raw = np.frombuffer(zlib.decompress(payload.data), np.uint8).reshape(4, 12)
    assert (raw[0] == np.arange(12)).all()
    assert not raw[1:].any()
    np.testing.assert_array_equal(payload.array, array)


def test_same_name_twice_is_a_mistake(tmp_path):
    with Journal(tmp_path / "a.partial") as journal:
        journal.append("a", _payloads(0))
        with pytest.raises(ValueError, match="already"):
            journal.append("a", _payloads(0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]
