"""Commands killed at random moments: the same command goes on, nothing finished is made again, and the result is the same."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import ENVIRONMENT, Witness, digests, hear_signals, leftovers

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


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """All commands without any interruption; seconds each took, digests of all stores, and the masks."""
    workspace = tmp_path_factory.mktemp("undisturbed")
    (workspace / "wss.yaml").write_text(DATASET)
    seconds = {}
    for name, command in COMMANDS.items():
        begun = time.monotonic()
        assert server.run(workspace, command) == 0, server.said
        seconds[name] = time.monotonic() - begun
    return seconds, digests(workspace), _masks(workspace)


def _masks(workspace):
    return {p.name: p.read_bytes() for p in (workspace / "masks").glob("*.png")}


def _torture(server, undisturbed, tmp_path, kills, seed):
    """Run all commands, killing each so many times at random moments; say how often a kill hit."""
    seconds, expected, masks = undisturbed
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
        assert server.run(workspace, command) == 0, server.said
        witness.look()
        for key, digest in digests(workspace).items():
            assert digest == expected[key], f"{key} differs from the undisturbed run"
    assert server.run(workspace, ["verify"]) == 0
    assert digests(workspace) == expected
    assert _masks(workspace) == masks
    assert server.run(workspace, ["gc"]) == 0
    assert leftovers(workspace) == []
    assert digests(workspace) == expected
    return hits


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_many_times_at_random_moments(server, undisturbed, tmp_path, seed):
    kills = {"prepare": 3, "train": 6, "predict": 2, "evaluate": 4}
    assert _torture(server, undisturbed, tmp_path, kills, seed=seed + 100) >= 4


# --- Ctrl-C and SIGTERM ----------------------------------------------------------------------------------------------


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
            preexec_fn=hear_signals,
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
def test_interrupted_and_continued(server, tmp_path, number, when):
    (tmp_path / "wss.yaml").write_text(DATASET.replace("train: 12", "train: 400") if "samples" in when else DATASET)
    _assert_stopped_in_order(tmp_path, _interrupt(tmp_path, number, when, jobs=1))
    if "samples" not in when:
        assert server.run(tmp_path, COMMANDS["train"]) == 0
        assert "done already" in server.said


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
            preexec_fn=hear_signals,
        )
    time.sleep(random.Random(seed).uniform(0.3, 6))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, -signal.SIGINT, 0)
    assert "Traceback" not in (tmp_path / "err.txt").read_text() or process.returncode == -signal.SIGINT
