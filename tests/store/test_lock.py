import os
import threading

import pytest

from wss.errors import StoreError
from wss.store import exclusive


def test_one_at_a_time_and_no_file_left(tmp_path):
    inside, most, waited = [], [], []

    def work():
        for _ in range(50):
            with exclusive(tmp_path / "x.lock", lambda: waited.append(1)):
                inside.append(1)
                most.append(len(inside))
                os.sched_yield()
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 200
    assert max(most) == 1
    assert not list(tmp_path.iterdir())


def test_an_error_gives_the_lock_back(tmp_path):
    with pytest.raises(ValueError, match="x"), exclusive(tmp_path / "x.lock"):
        raise ValueError("x")
    with exclusive(tmp_path / "x.lock", lambda: pytest.fail("still held")):
        pass


def test_the_file_of_another_holder_is_not_removed(tmp_path):
    lock = tmp_path / "x.lock"
    with exclusive(lock):
        lock.unlink()
        lock.touch()
    assert lock.exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"), exclusive(tmp_path / "file" / "x.lock"):
        pass
