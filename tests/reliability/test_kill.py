"""Commands killed at random moments: the same command goes on, nothing finished is made again, and the result is the same."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wss.store import Journal, Store

DATASET = "dataset: {kind: sample, options: {train: 12, val: 6, height: 64, width: 64}}\n"
CHANGES = [
    "--set",
    "train.phases=[{epochs: 1, terms: {pce: 1}, lr: 0.01}, {epochs: 1, terms: {pce: 1}, lr: 0.01, optimiser: adamw}]",
    "--set",
    "train.batch_size=3",
]
COMMANDS = {
    "prepare": ["prepare", "--shrink", "0.5", "--jobs", "1"],
    "train": ["train", *CHANGES, "--jobs", "1"],
    "predict": ["predict", "--out", "masks", "--jobs", "1"],
    "evaluate": ["evaluate", "--crf", "--flip", "--jobs", "1"],
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


class Server:
    """The other end of ``command_server.py``."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("command_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._read() == "ready"

    def _read(self):
        return self._process.stdout.readline().strip()

    def start(self, workspace, command):
        job = {"argv": command, "cwd": str(workspace), "err": str(workspace / "err.txt")}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self):
        return int(self._read())

    def run(self, workspace, command):
        self.start(workspace, command)
        return self.wait()

    def stop(self):
        self._process.stdin.close()
        self._process.wait(20)


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """All commands without any interruption; seconds each took, digests of all stores, and the masks."""
    workspace = tmp_path_factory.mktemp("undisturbed")
    (workspace / "wss.yaml").write_text(DATASET)
    seconds = {}
    for name, command in COMMANDS.items():
        begun = time.monotonic()
        assert server.run(workspace, command) == 0, _said(workspace)
        seconds[name] = time.monotonic() - begun
    return seconds, _digests(workspace), _masks(workspace)


def _said(workspace):
    return (workspace / "err.txt").read_text()


def _stores(workspace):
    return sorted((workspace / "artifacts").glob("*/*.h5"))


def _digests(workspace):
    return {f"{p.parent.name}/{p.stem}": Store(p).digest for p in _stores(workspace)}


def _masks(workspace):
    return {p.name: p.read_bytes() for p in (workspace / "masks").glob("*.png")}


def _intact(path, scratch):
    """The bytes of a journal up to its last intact record."""
    copy = scratch / "copy.partial"
    shutil.copy(path, copy)
    Journal(copy).close()
    return copy.read_bytes()


class Witness:
    """Sees to it that nothing finished is made again: stores stay untouched, journals only grow."""

    def __init__(self, workspace, scratch):
        self._workspace, self._scratch = workspace, scratch
        self._finished, self._partial = {}, {}

    def look(self):
        for path, stamp in self._finished.items():
            assert path.stat().st_mtime_ns == stamp, f"{path} was made again"
        for path, content in self._partial.items():
            assert path.exists() or path.with_suffix(".h5").exists(), f"{path} was thrown away"
            if path.exists() and not path.with_suffix(".h5").exists():
                assert _intact(path, self._scratch).startswith(content), f"{path} was begun anew"
        self._finished = {path: path.stat().st_mtime_ns for path in _stores(self._workspace)}
        journals = [p for p in (self._workspace / "artifacts").glob("*/*.partial") if "checkpoint" not in p.name]
        self._partial = {path: _intact(path, self._scratch) for path in journals}
        return len(self._finished), sum(map(len, self._partial.values()))


def _torture(server, undisturbed, tmp_path, kills, seed):
    """Run all commands, killing each so many times at random moments; say how often a kill hit."""
    seconds, digests, masks = undisturbed
    workspace, scratch = tmp_path / "work", tmp_path / "scratch"
    workspace.mkdir()
    scratch.mkdir()
    (workspace / "wss.yaml").write_text(DATASET)
    rng, hits = random.Random(seed), 0
    witness = Witness(workspace, scratch)
    for name, command in COMMANDS.items():
        for _ in range(kills[name]):
            pid = server.start(workspace, command)
            time.sleep(rng.uniform(0, seconds[name]))
            with contextlib.suppress(ProcessLookupError):  # done before
                os.killpg(pid, signal.SIGKILL)
            hits += server.wait() == -signal.SIGKILL
            witness.look()
        assert server.run(workspace, command) == 0, _said(workspace)
        witness.look()
        for key, digest in _digests(workspace).items():
            assert digest == digests[key], f"{key} differs from the undisturbed run"
    assert server.run(workspace, ["verify"]) == 0
    assert _digests(workspace) == digests
    assert _masks(workspace) == masks
    assert server.run(workspace, ["gc"]) == 0
    assert [
        p.name for p in (workspace / "artifacts").glob("*/*") if p.suffix != ".h5" and p.parent.name != "cache"
    ] == []
    assert _digests(workspace) == digests
    return hits


def test_killed_at_random_moments(server, undisturbed, tmp_path):
    kills = {"prepare": 1, "train": 2, "predict": 1, "evaluate": 2}
    assert _torture(server, undisturbed, tmp_path, kills, seed=1) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_many_times_at_random_moments(server, undisturbed, tmp_path, seed):
    kills = {"prepare": 3, "train": 6, "predict": 2, "evaluate": 4}
    assert _torture(server, undisturbed, tmp_path, kills, seed=seed + 100) >= 4


@pytest.mark.slow
def test_two_processes_at_once_make_everything_once(undisturbed, tmp_path):
    (tmp_path / "wss.yaml").write_text(DATASET)
    command = [sys.executable, "-m", "wss", *COMMANDS["train"]]
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count(": running") == 3, said
    assert len(_stores(tmp_path)) == 3


# --- Ctrl-C and SIGTERM ----------------------------------------------------------------------------------------------


def _hear_signals():
    """A shell has what it starts in the background ignore SIGINT, these tests and what they start included."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(workspace, number, when, jobs):
    """Start a long ``wss train`` as a process of its own, and signal its whole group once ``when`` appears on stderr."""
    err = workspace / "err.txt"
    with err.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "wss", *COMMANDS["train"][:-1], str(jobs), "--epochs", "400"],
            cwd=workspace,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
            preexec_fn=_hear_signals,
        )
    try:
        deadline = time.monotonic() + 60
        while when not in err.read_text():
            assert process.poll() is None, err.read_text()
            assert time.monotonic() < deadline, err.read_text()
            time.sleep(0.02)
        time.sleep(0.2)
        os.killpg(process.pid, number)
        out, _ = process.communicate(timeout=60)
        return process.returncode, out, err.read_text(), process.pid
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _living(session):
    """Processes of a session that still run (and are not merely waiting to be buried)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def _assert_stopped_in_order(workspace, result):
    code, out, err, session = result
    assert code == 130, err
    assert out == b""
    assert "run the same command again" in err.splitlines()[-1]
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while _living(session):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.1)
    assert not list(workspace.rglob("*.tmp"))


@pytest.mark.parametrize(("number", "when"), [(signal.SIGINT, "train: running"), (signal.SIGTERM, "samples: running")])
def test_interrupted_and_continued(server, undisturbed, tmp_path, number, when):
    (tmp_path / "wss.yaml").write_text(DATASET.replace("train: 12", "train: 400") if "samples" in when else DATASET)
    _assert_stopped_in_order(tmp_path, _interrupt(tmp_path, number, when, jobs=1))
    if "samples" not in when:
        assert server.run(tmp_path, COMMANDS["train"]) == 0
        assert "done already" in _said(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["samples: running", "prepare: running", "train: running"])
def test_interrupted_with_worker_processes(tmp_path, number, when):
    (tmp_path / "wss.yaml").write_text(DATASET.replace("train: 12", "train: 200"))
    _assert_stopped_in_order(tmp_path, _interrupt(tmp_path, number, when, jobs=3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_interrupted_at_any_moment(tmp_path, seed):
    """From the start of the program on: exit code 130 (or death by the signal while Python itself starts)."""
    (tmp_path / "wss.yaml").write_text(DATASET)
    with (tmp_path / "err.txt").open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "wss", *COMMANDS["train"]],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stderr=stream,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_hear_signals,
        )
    time.sleep(random.Random(seed).uniform(0.3, 6))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, -signal.SIGINT, 0)
    assert "Traceback" not in _said(tmp_path) or process.returncode == -signal.SIGINT
