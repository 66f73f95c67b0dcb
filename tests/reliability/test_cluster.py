"""Work on the CPU sent to a Dask cluster: the same stores as here, whatever happens to a worker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from wss.cli.workers import workers
from wss.errors import UsageError, WssError
from wss.stages.parallel import each
from wss.store import Store

distributed = pytest.importorskip("distributed")

SAMPLE = "dataset: {kind: sample, options: {train: 6, val: 2, height: 32, width: 32}}\n"


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def _square_or_die(number, grave):
    """The square; the first process that gets a 3 dies of it."""
    if number == 3 and not grave.exists():
        grave.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2, os.getpid()


def test_a_dying_worker_loses_nothing(address, tmp_path):
    grave = tmp_path / "grave"
    with workers("dask", address, 0) as jobs:
        assert jobs == 2
        found = list(each(_square_or_die, ((n, grave) for n in range(12)), jobs))
    assert [square for square, _ in found] == [n**2 for n in range(12)]
    assert grave.exists()
    assert os.getpid() not in {pid for _, pid in found}
    assert joblib.parallel.get_active_backend()[0].__class__.__name__ == "LokyBackend"  # as it was before


@pytest.mark.slow
def test_stages_make_the_same_stores_as_without_a_cluster(address, tmp_path):
    digests = []
    for name, options in (("here", ()), ("there", ("--backend", "dask", "--address", address))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wss.yaml").write_text(SAMPLE)
        command = [sys.executable, "-m", "wss", "superpixels", "-w", tmp_path / name, "--method", "slic", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (path,) = Path(tmp_path / name / "artifacts" / "superpixels").glob("*.h5")
        digests.append((path.name, Store(path).digest))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("backend", "address", "message"),
    [
        ("dusk", None, "did you mean 'dask'"),
        ("dask", None, "--address"),
        ("loky", "tcp://here:1", "--backend dask"),
    ],
)
def test_wrong_requests_are_explained(backend, address, message):
    with pytest.raises(UsageError, match=message), workers(backend, address, 0):
        pass


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("wss.cli.workers.CONNECT_S", 1)
    with pytest.raises(WssError, match=r"tcp://127\.0\.0\.1:9"), workers("dask", "tcp://127.0.0.1:9", 0):
        pass


def test_a_missing_package_is_named(monkeypatch):
    for backend, module in (("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UsageError, match=rf"wss\[{backend}\]"), workers(backend, "tcp://x:1", 0):
            pass
