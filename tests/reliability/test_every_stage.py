"""Every stage ended at random moments, killed, interrupted or out of space: the same command goes on to the same result."""

import json
import random
import re
import signal
import subprocess
from pathlib import Path

import moments
import pytest
import yaml
from harness import Server, Witness, digests, leftovers, stores

from tests.small_backbone import weights_file
from wss.stages import STAGES

PIPELINE = Path(__file__).with_name("every_stage.yaml")
COMMAND = ["run", PIPELINE, "--jobs", "1", "--set", f"features.weights={weights_file()}"]
DATASET = "dataset: {kind: sample, options: {train: 4, val: 2, height: 32, width: 32}}\n"
NODES = {entry.get("id", entry["stage"]): entry["stage"] for entry in yaml.safe_load(PIPELINE.read_text())["stages"]}
MOMENTS = [*NODES, moments.STATE]
KILLED = {-signal.SIGKILL, -signal.SIGXFSZ}


def test_the_pipeline_has_every_stage():
    assert set(NODES.values()) == set(STAGES)


class Undisturbed:
    """One run without a fault: the moments there are in each node, the size of what it writes, and the results."""

    def __init__(self, server, workspace):
        (workspace / "wss.yaml").write_text(DATASET)
        record = workspace / "moments.json"
        assert server.run(workspace, COMMAND, record=str(record)) == 0, server.said
        self._calls = json.loads(record.read_text())
        assert list(self._calls) == MOMENTS
        self.results = _results(workspace)
        self.sizes = {}
        for path in stores(workspace):
            stage = path.parent.name
            self.sizes[stage] = min(path.stat().st_size, self.sizes.get(stage, path.stat().st_size))

    def call(self, rng, node, kind):
        """A random call of a node, among all or those of writers."""
        return {"node": node, kind: rng.randint(1, self._calls[node][kind == "disk_call"])}

    def size(self, rng, node):
        """A size that the node's store exceeds."""
        return {"node": node, "size": rng.randrange(self.sizes[NODES[node]])}

    def death(self, rng, node):
        """A random moment to be killed at."""
        kind = rng.choice(["call", "disk_call", "size"]) if node in NODES else "disk_call"
        return self.size(rng, node) if kind == "size" else self.call(rng, node, kind)


def _results(workspace):
    """Digests of all stores and the published scores; the report tells times."""
    found = {name: digest for name, digest in digests(workspace).items() if not name.startswith("report/")}
    return found, (workspace / "metrics.json").read_text(), (workspace / "report.html").exists()


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    return Undisturbed(server, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "wss.yaml").write_text(DATASET)
    return folder


def _sample(rng, names, count):
    return sorted(rng.sample(names, count), key=MOMENTS.index)


def _disturb(server, undisturbed, workspace, faults, expect):
    """Run the pipeline with each of these faults, whose nodes come in order, and then without; give the nodes that were hit."""
    witness, hit = Witness(workspace, workspace.parent), []
    for fault in faults:
        code = server.run(workspace, COMMAND, **fault)
        if code:
            expect(code, fault)
            hit.append(fault["node"])
        witness.look()
    assert server.run(workspace, COMMAND) == 0, server.said
    witness.look()
    _assert_as(undisturbed, server, workspace)
    return hit


def _assert_as(undisturbed, server, workspace):
    assert _results(workspace) == undisturbed.results
    assert server.run(workspace, ["gc"]) == 0
    assert leftovers(workspace) == []
    assert server.run(workspace, ["verify"]) == 0


def _expect_death(server):
    def expect(code, fault):
        assert code in KILLED, (code, fault, server.said)

    return expect


def test_a_dozen_kills(server, undisturbed, workspace):
    rng = random.Random(0)
    faults = [undisturbed.death(rng, node) for node in _sample(rng, MOMENTS, 12)]
    assert len(_disturb(server, undisturbed, workspace, faults, _expect_death(server))) == 12


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 8))
def test_two_hundred_kills(server, undisturbed, workspace, seed):
    """Seven times a random moment of every node, and one more."""
    rng = random.Random(seed)
    nodes = sorted([*MOMENTS, rng.choice(MOMENTS)], key=MOMENTS.index)
    faults = [undisturbed.death(rng, node) for node in nodes]
    hit = _disturb(server, undisturbed, workspace, faults, _expect_death(server))
    assert len(hit) == 30
    assert {NODES[node] for node in hit if node in NODES} == set(STAGES)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def _expect_stop(server):
    def expect(code, fault):
        assert code == 130, (code, fault, server.said)
        assert "run the same command again" in server.said.splitlines()[-1]
        assert "Traceback" not in server.said

    return expect


def _interruption(undisturbed, rng, node):
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    return {**undisturbed.call(rng, node, rng.choice(["call", "disk_call"])), "with_signal": number}


def test_interrupted_training_continues_to_the_same_network(server, undisturbed, workspace):
    rng = random.Random(0)
    faults = [_interruption(undisturbed, rng, node) for node in ("train-classifier", "train-walk", "predict", "report")]
    assert len(_disturb(server, undisturbed, workspace, faults, _expect_stop(server))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_interrupted_in_every_stage(server, undisturbed, workspace, seed):
    rng = random.Random(seed)
    faults = [_interruption(undisturbed, rng, node) for node in MOMENTS]
    assert len(_disturb(server, undisturbed, workspace, faults, _expect_stop(server))) == len(MOMENTS)


# --- no space left ---------------------------------------------------------------------------------------------------


def _expect_complaint(server, *texts):
    def expect(code, fault):
        assert code == 1, (code, fault, server.said)
        message = server.said.splitlines()[-1]
        for text in (*texts, "/"):  # a path
            assert text in message, (fault, server.said)
        assert "Traceback" not in server.said
        assert "Exception ignored" not in server.said

    return expect


def test_writes_that_fail_in_a_few_stages(server, undisturbed, workspace):
    rng = random.Random(0)
    faults = [{**undisturbed.size(rng, node), "survive": True} for node in _sample(rng, list(NODES), 4)]
    hit = _disturb(
        server, undisturbed, workspace, faults, _expect_complaint(server, "larger than allowed", "same command again")
    )
    assert len(hit) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_writes_that_fail_in_every_stage(server, undisturbed, workspace, seed):
    rng = random.Random(seed)
    faults = [{**undisturbed.size(rng, node), "survive": True} for node in NODES]
    hit = _disturb(
        server, undisturbed, workspace, faults, _expect_complaint(server, "larger than allowed", "same command again")
    )
    assert len(hit) >= 27


def _may_mount():
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def mounting_server():
    if not _may_mount():
        pytest.skip("disks cannot be mounted here")
    server = Server(own_mounts=True)
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_disk_that_is_full_again_and_again(mounting_server, undisturbed, workspace, seed):
    """The workspace has a disk of its own that grows a little whenever a command ends for want of space."""
    server, rng = mounting_server, random.Random(seed)
    size, full, seen = 8192, 0, server.seen(workspace)
    server.run(workspace, ["--version"], mount=[str(workspace), size])
    (seen / "wss.yaml").write_text(DATASET)
    witness = Witness(seen, workspace.parent)
    while code := server.run(workspace, COMMAND, mount=[str(workspace), size]):
        _expect_complaint(server, "the disk is full", "wss gc", "same command again")(code, size)
        witness.look()
        node = re.findall(r"^([\w-]+)(?: \([\w-]+\))?: (?:running|resuming)", server.said, re.MULTILINE)[-1]
        size += rng.randrange(4096, 8192 + undisturbed.sizes[NODES[node]])
        full += 1
    assert full >= 25
    witness.look()
    _assert_as(undisturbed, server, seen)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(mounting_server, undisturbed, workspace):
    server, seen = mounting_server, mounting_server.seen(workspace)
    server.run(workspace, ["--version"], mount=[str(workspace), 1 << 28])
    (seen / "wss.yaml").write_text(DATASET)
    assert server.run(workspace, COMMAND, node="predict", disk_call=500) == -signal.SIGKILL
    code = server.run(workspace, COMMAND, mount=[str(workspace), 1 << 28, "ro"])
    _expect_complaint(server, "not writable", "--workspace")(code, "ro")
    assert server.run(workspace, ["status"]) == 0, server.said  # reading goes on
    assert server.run(workspace, COMMAND, mount=[str(workspace), 1 << 28, "rw"]) == 0, server.said
    _assert_as(undisturbed, server, seen)


# --- two at once -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_at_once_make_everything_once(server, undisturbed, workspace):
    other = Server()
    both = (server, other)
    for one in both:
        one.start(workspace, COMMAND)
    codes = [one.wait() for one in both]
    said = [one.said for one in both]
    other.stop()
    assert codes == [0, 0], said
    assert sum(text.count(": running") for text in said) == len(NODES), said
    _assert_as(undisturbed, server, workspace)
