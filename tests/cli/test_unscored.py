"""Commands on a data set whose held-out images have no masks."""

import pytest
from commands import QUICK, call


@pytest.fixture
def unmasked(cells, tmp_path):
    """The workspace on a data set without any mask."""
    for mask in (tmp_path / "cells/masks").iterdir():
        mask.unlink()
    return cells


def test_a_pipeline_trains_and_predicts_and_says_before_that_nothing_can_be_scored(unmasked):
    result = call("run", "pce", "--jobs", 1, *QUICK)
    assert result.code == 0, result.err
    told = result.err.index("no image of split 'val' has a mask: left out are scores (evaluate, evaluate-crf)")
    assert told < result.err.index("samples: running")
    assert len(list((unmasked / "artifacts/predict").glob("*.h5"))) == 1
    assert "nothing is scored" in (unmasked / "report.html").read_text()
    report = call("report")
    assert report.code == 0, report.err


def test_evaluate_fails_before_it_trains_and_its_remedy_works(unmasked):
    result = call("evaluate", *QUICK)
    assert result.code == 1
    assert "2 of 2 images of split 'val' have no mask" in result.said
    assert not (unmasked / "artifacts").exists()
    assert call("train", "--jobs", 1, *QUICK).code == 0
    assert call("predict").code == 0
    assert call("evaluate").code == 1


def test_a_dry_run_says_so_too(unmasked):
    result = call("run", "rawks", "--dry-run")
    assert result.code == 0, result.err
    assert "no image of split 'train' has a mask: left out are scores of labels (label-quality)" in result.said


def test_without_held_out_images_those_of_training_are_predicted(unmasked, tmp_path):
    (tmp_path / "cells/train.txt").unlink()
    (tmp_path / "cells/val.txt").unlink()
    result = call("run", "pce", "--jobs", 1, "--json", *QUICK)
    assert result.code == 0, result.err
    assert "no images in split 'val'" in result.said
    (row,) = [row for row in result.json if row["id"] == "evaluate"]
    assert (row["record"]["split"], row["record"]["num_images"], row["record"]["miou"]) == ("train", 0, None)
    report = call("report", "--json")
    assert (report.code, report.json["runs"]) == (0, 2), report.err
    alone = call("evaluate", "--jobs", 1)
    assert alone.code == 1
    assert "split 'val' has no images to compare with masks" in alone.said
