"""Commands in several processes: the same results as in one, written by the first alone, and one word when one fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import artifact, assert_whole, call
from test_predict_regions import write_slices

from wss.store import Store

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
DATASET = "dataset: {kind: sample, options: {train: 9, val: 5, height: 32, width: 32}}\n"
TRAIN = [
    "train",
    "--jobs",
    "1",
    "--batch-size",
    "4",
    "--set",
    "train.phases=[{epochs: 2, terms: {pce: 1}, lr: 0.0003, head_multiplier: 1},"
    " {steps: 3, terms: {pce: 1}, lr: 0.0002, head_multiplier: 1}]",
]


class Server:
    """The other end of ``team_server.py``."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("team_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._process.stdout.readline() == "ready\n"

    def run(self, folder, size, *arguments, **more):
        """Exit codes of a command in ``size`` processes, and what each of them said on stderr."""
        job = {"argv": [str(a) for a in arguments], "cwd": str(folder), "size": size, **more}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline())
        said = [(folder / f"err.{rank}").read_text() for rank in range(size)]
        assert not any((folder / f"out.{rank}").read_text() for rank in range(1, size))
        for rank in range(size):
            (folder / f"err.{rank}").unlink()
        return codes, said

    def stop(self):
        self._process.stdin.close()
        self._process.wait(120)


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def alone(server, tmp_path_factory):
    """A workspace in which one process has trained; not to be changed."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "wss.yaml").write_text(DATASET)
    assert server.run(folder, 1, *TRAIN) == ([0], [_any()])
    return folder


class _any:
    def __eq__(self, other):
        return True


@pytest.fixture
def prepared(alone, tmp_path):
    """A copy of that workspace without the network."""
    folder = tmp_path / "together"
    shutil.copytree(alone, folder)
    shutil.rmtree(folder / "artifacts" / "train")
    return folder


def _distance(one, other):
    """The largest difference of the weights and statistics of two workspaces, and of the losses in their logs."""
    first, second = (Store(artifact(folder, "train")) for folder in (one, other))
    assert first.key == second.key
    weights, others = first.tree("state"), second.tree("state")
    assert weights.keys() == others.keys()
    rows = zip(first.log["epochs"], second.log["epochs"], strict=True)
    return (
        max(float((value.double() - others[name].double()).abs().max()) for name, value in weights.items()),
        max(abs(row["loss"] - same["loss"]) for row, same in rows),
    )


@pytest.mark.slow
def test_torchrun_trains_what_one_process_trains(alone, prepared):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "wss", *TRAIN, "--json"]
    result = subprocess.run(command, cwd=prepared, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["images"] == 9
    assert result.stderr.count("train: running") == 1
    weights, losses = _distance(alone, prepared)
    assert weights < 1e-5
    assert losses < 1e-6
    assert Store(artifact(prepared, "train")).log["processes"] == 2
    assert Store(artifact(alone, "train")).log["processes"] == 1


def test_predictions_and_scores_are_those_of_one_process(server, alone, tmp_path):
    folders = []
    for size in (1, 3):
        folder = tmp_path / str(size)
        shutil.copytree(alone, folder)
        codes, said = server.run(folder, size, "evaluate", "--flip", "--jobs", "1")
        assert codes == [0] * size, said
        assert not any(said[1:])
        assert_whole(folder)
        folders.append(folder)
    one, three = folders
    for stage in ("predict", "evaluate"):
        assert artifact(one, stage).name == artifact(three, stage).name
        assert Store(artifact(one, stage)).digest == Store(artifact(three, stage)).digest
    assert json.loads((one / "metrics.json").read_text()) == json.loads((three / "metrics.json").read_text())


def test_files_are_segmented_by_all_and_written_by_one(server, alone, tmp_path):
    masks = []
    for size in (1, 2):
        folder = tmp_path / str(size)
        shutil.copytree(alone, folder)
        codes, said = server.run(folder, size, "predict", "--out", "masks", "--probs", "--json")
        assert codes == [0] * size, said
        assert not any(said[1:])
        assert len(json.loads((folder / "out.0").read_text())["files"]) == 15
        masks.append({path.name: path.read_bytes() for path in (folder / "masks").iterdir()})
    assert len(masks[0]) == 15
    assert masks[0] == masks[1]


def test_volumes_are_reduced_to_their_largest_region_by_one(server, alone, tmp_path):
    write_slices(tmp_path / "slices")
    (network,) = (alone / "artifacts" / "train").glob("*.h5")
    masks = []
    for size, option in ((1, "--all-regions"), (1, "--largest-region"), (3, "--largest-region")):
        folder = tmp_path / f"{size}{option}"
        folder.mkdir()
        (folder / "wss.yaml").write_text("dataset: {kind: folder, root: ../slices}\n")
        given = ("--checkpoint", network, "--out", "masks", option, "--jobs", "1", "--json")
        codes, said = server.run(folder, size, "predict", *given, bright=True)
        assert codes == [0] * size, said
        assert not any(said[1:])
        assert len(json.loads((folder / "out.0").read_text())["files"]) == 8
        masks.append({path.name: path.read_bytes() for path in (folder / "masks").iterdir()})
    changed = [name for name in masks[0] if masks[0][name] != masks[1][name]]
    assert sorted(changed) == sorted(
        f"patient002_frame01_slice_{n:02d}{e}.png" for n in (1, 2, 3) for e in ("", "_overlay")
    )
    assert masks[1] == masks[2]


@pytest.mark.parametrize(
    ("rank", "how"),
    [
        (1, "data"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(0, "data"), (1, "killed"), (1, "fault")]),
    ],
)
def test_one_failure_ends_all_and_training_goes_on_with_any_number(server, alone, prepared, rank, how):
    codes, said = server.run(prepared, 2, *TRAIN, fail={"rank": rank, "step": 4, "how": how})
    assert all(code not in (0, None) for code in codes), codes
    said = "".join(said)
    if how == "data":
        assert said.count("error:") == 1
        assert "scan.png: not what it was" in said
    elif how == "killed":
        assert said.count("error:") == 1
        assert "another process of this run has ended without a message" in said
    else:
        assert said.count("Traceback") == 1
        assert "ZeroDivisionError: a fault of wss" in said
    (checkpoint,) = (prepared / "artifacts" / "train").glob("*.checkpoint.partial")
    assert checkpoint.stat().st_size
    for size in (4,) if how == "data" else (1, 2):
        folder = prepared.with_name(f"resumed {size}")
        shutil.copytree(prepared, folder)
        codes, said = server.run(folder, size, *TRAIN)
        assert codes == [0] * size, said
        assert "train: resuming" in said[0]
        assert not any(said[1:])
        weights, _ = _distance(alone, folder)
        assert weights < 1e-5


def test_a_failure_before_the_training_is_told_once(server, prepared):
    codes, said = server.run(prepared, 3, *TRAIN)
    assert codes[0] == 2
    assert "a batch of 4 images has no equal parts for 3 processes; set batch_size to a multiple of 3" in said[0]
    assert not any(said[1:])
    codes, said = server.run(
        prepared, 2, *TRAIN, "--set", "train.compile=true", "--set", "train.network.deep_supervision=0"
    )
    assert codes[0] == 2
    assert "train.compile works in one process only, and this run has 2; leave it out" in said[0]


def test_commands_for_one_process_run_in_one(server, prepared):
    codes, said = server.run(prepared, 2, "status")
    assert codes == [0, 0], said
    codes, said = server.run(prepared, 2, "trian")
    assert codes == [2, 0]
    assert "No such command" in said[0]
    assert not said[1]


def test_without_the_others_a_command_is_as_ever(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert call("--version").code == 0
