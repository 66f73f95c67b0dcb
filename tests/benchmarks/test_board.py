"""The board's table: means over seeds, paired differences with a sign test over images, the closed gap, equal lengths."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def board():
    sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("board_benchmark", SCRIPTS / "board.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPTS))


def one(method, seed, miou, images, stage="evaluate"):
    scores = {f"i{n}": score for n, score in enumerate(images)}
    record = {"miou": miou, "trimap_miou": {"3": miou / 2}}
    case = {"set": "sample", "annotation": "scribbles", "method": method, "seed": seed, "length": 10}
    return {"case": case, "records": {stage: record}, "images": {stage: scores}}


def test_means_differences_and_the_closed_gap(board):
    runs = [
        *(one("pce", 0, 0.40, [0.4, 0.4, 0.4, 0.4]), one("pce", 1, 0.44, [0.4, 0.4, 0.4, 0.4])),
        *(one("dense", 0, 0.60, [0.6] * 4), one("dense", 1, 0.64, [0.6] * 4)),
        *(one("new", 0, 0.50, [0.5, 0.5, 0.3, 0.4]), one("new", 1, 0.50, [0.5, 0.5, 0.4, 0.4])),
    ]
    rows = {row["method"]: row for row in board.table(runs)}
    new = rows["new"]
    assert new["miou"] == pytest.approx(0.50) and new["std"] == pytest.approx(0.0) and new["seeds"] == 2
    assert new["difference"] == pytest.approx(0.08) and new["gap_closed"] == pytest.approx(0.4)
    assert (new["images_better"], new["images_worse"]) == (2, 1)
    assert new["p"] == pytest.approx(binomtest(2, 3).pvalue)
    assert new["near_boundaries"] == pytest.approx(0.25) and new["dice"] is None
    assert rows["pce"]["difference"] is None and rows["pce"]["std"] == pytest.approx(0.04 / 2**0.5)
    assert rows["dense"]["gap_closed"] == pytest.approx(1)


def test_pairs_are_of_one_seed(board):
    """A seed that pce lacks counts for the mean, and not for the difference."""
    rows = board.table([one("pce", 0, 0.4, [0.4]), one("new", 0, 0.5, [0.5]), one("new", 1, 0.9, [0.9])])
    new = next(row for row in rows if row["method"] == "new")
    assert new["miou"] == pytest.approx(0.7) and new["difference"] == pytest.approx(0.1) and new["gap_closed"] is None


def test_after_a_crf_the_reference_is_pce_after_a_crf(board):
    runs = [
        one("pce", 0, 0.4, [0.4]),
        one("pce", 0, 0.6, [0.6], "evaluate-crf"),
        one("new", 0, 0.5, [0.5], "evaluate-crf"),
    ]
    runs.append(one("new", 0, 0.55, [0.55], "evaluate-walk"))
    found = {row["stage"]: row["difference"] for row in board.table(runs) if row["method"] == "new"}
    assert found == {"evaluate-crf": pytest.approx(-0.1), "evaluate-walk": pytest.approx(0.15)}


def test_trainings_keep_their_share_of_the_steps(board):
    def stage(name, *steps):
        return {"id": name, "protocol": {"phases": [{"steps": n} for n in steps]}}

    plan = {"stages": [{"id": "samples"}, stage("train-1", 300, 100), stage("train", 1)]}
    assert board.equal_steps(plan, 40) == [
        *("train-1.phases.0.epochs=null", "train-1.phases.0.steps=30"),
        *("train-1.phases.1.epochs=null", "train-1.phases.1.steps=10"),
        *("train.phases.0.epochs=null", "train.phases.0.steps=1"),
    ]


def test_images_count_the_classes_that_they_have(board):
    assert board.image_score(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])) == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert board.image_score(np.zeros((3, 3), int)) is None


def test_finished_runs_survive_an_interruption(board, tmp_path, capsys):
    kept = tmp_path / "board.jsonl"
    assert board.read(kept) == []
    kept.write_text(json.dumps(one("pce", 0, 0.4, [0.4])) + '\n{"case": {"se')
    assert [run["case"]["method"] for run in board.read(kept)] == ["pce"]
    assert "incomplete" in capsys.readouterr().out


def test_the_page_has_a_table_for_each_data_set(board):
    rows = board.table([one("pce", 0, 0.4, [0.4, 0.4]), one("new", 0, 0.5, [0.5, 0.3])])
    text = board.page(rows)
    assert "## sample, scribbles" in text
    assert "| new | - | 50.0 | 25.0 |  | +10.0 | 1 : 1 | 1 |  |" in text
