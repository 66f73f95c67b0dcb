"""The script for machines with a GPU runs on one without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    done = run()
    assert done.returncode == 1
    assert "no GPU is available" in done.stderr


def test_times_of_operators_and_of_the_loader(tmp_path):
    out = tmp_path / "gpu.json"
    done = run("--device", "cpu", "--tiny", "--parts", "mean_field", "walks", "loading", "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["tiny"]
    assert {"device", "date", "versions", "seconds", "command"} <= set(record)
    assert record["results"]["walks"]["12x16"]["ms_per_image"] > 0
    assert record["results"]["mean_field"]["24x24, 2"]["ms_per_image"] > 0
    assert record["results"]["loading"]["0 processes"]["ms_per_batch"] > 0


@pytest.mark.slow
def test_parity_and_steps_of_everything(tmp_path):
    from wss import losses, ops
    from wss.methods import METHODS

    out = tmp_path / "gpu.json"
    done = run("--device", "cpu", "--tiny", "--parts", "parity", "steps", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(out.read_text())["results"]
    names = [kind.model_fields["name"].default for kind in METHODS]
    assert all(results["steps"][name]["ms"] > 0 for name in names)
    cases = set(results["parity"]["cases"])
    assert {f"method {name}" for name in names} <= cases
    computed = {part for case in cases for part in case.split(" ", 1)[1].split(", ")}
    inside = {"tree_targets"}  # part of another case
    assert set(losses.__all__) - inside <= computed
    host = {"leading_eigenvectors", "draw_transform", "transform_transition", "Transform", "Segments", "SpanningTree"}
    assert set(ops.__all__) - host <= computed


@pytest.mark.slow
def test_a_difference_is_told(tmp_path):
    wrong = (
        "import sys; sys.argv = ['gpu.py', '--device', 'cpu', '--tiny', '--parts', 'parity'];"
        "sys.path.insert(0, 'benchmarks'); import gpu;"
        "gpu.OPERATORS = {'colour_gradient': gpu.OPERATORS['colour_gradient']}; gpu.LOSSES = {}; gpu.METHODS = ();"
        "numbers = iter((1.0, 1.1)); before = gpu.run_case;"
        "gpu.run_case = lambda *case: tuple(next(numbers) * before(*case)[0] for _ in range(1)) + (before(*case)[1],);"
        "sys.exit(gpu.main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", wrong], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "differ from the CPU: operator colour_gradient" in done.stdout
