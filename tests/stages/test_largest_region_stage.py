"""The stage ``largest-region`` on volumes of three slices whose predictions are made by hand."""

import numpy as np
import pytest

from tests.stages.stores import written
from tests.told import Told
from wss.datasets.source import Catalogue
from wss.errors import UsageError
from wss.pipeline.spec import load_pipeline
from wss.stages.largest_region import STAGE, LargestRegionParams
from wss.stages.stage import Context, Inputs
from wss.store import LABELS, PREDICTIONS, SAMPLES, Store, StoreWriter

VOLUMES = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]}
IDS = [i for ids in VOLUMES.values() for i in ids]


def _image(*boxes):
    """Label 1 in boxes (top, left, height, width)."""
    labels = np.zeros((12, 16), np.uint8)
    for top, left, height, width in boxes:
        labels[top : top + height, left : left + width] = 1
    return labels


def _run(tmp_path, predicted, scribbles, background=0, valid=None, **params):
    samples = written(
        tmp_path / "samples.h5",
        SAMPLES,
        {i: {"image": np.zeros((12, 16, 3), np.uint8), **({} if valid is None else {"valid": valid})} for i in IDS},
        background=background,
        volumes={name: {"ids": ids, "spacing_mm": None} for name, ids in VOLUMES.items()},
    )
    predictions = written(
        tmp_path / "predict.h5", PREDICTIONS, {i: {"labels": p} for i, p in predicted.items()}, split="val", crf=None
    )
    stores = {"samples": (samples,), "predictions": (predictions,)}
    if scribbles is not None:
        labels = written(
            tmp_path / "labels.h5", LABELS, {i: {"labels": s} for i, s in scribbles.items()}, annotation="scribble"
        )
        stores |= {"trained": (predictions,), "labels": (labels,)}
    told = Told()
    output = StoreWriter(tmp_path / "out.h5", PREDICTIONS, {"key": "out"})
    STAGE.run(LargestRegionParams(**params), Inputs(stores), output, Context(progress=told))
    output.finish({})
    return Store(tmp_path / "out.h5", PREDICTIONS), told.lines


def _scribbles(*places):
    """Label 1 at places (row, column) of every image, the background in its upper left corner."""
    labels = np.full((12, 16), 255, np.uint8)
    labels[0, 0] = 0
    for row, column in places:
        labels[row, column] = 1
    return dict.fromkeys(IDS, labels)


ISLANDS = {i: _image((2, 2, 4, 4), (9, 12, 2, 2)) for i in IDS}


def test_islands_that_no_label_touches_go(tmp_path):
    out, told = _run(tmp_path, ISLANDS, _scribbles((3, 3)))
    for image_id in IDS:
        np.testing.assert_array_equal(out.get("labels", image_id), _image((2, 2, 4, 4)))
    assert out.meta["largest_region"]["applied"] is True
    assert out.meta["largest_region"]["with_it"] == 1
    assert out.meta["largest_region"]["without"] == pytest.approx(2 * 16 / (20 + 16))
    assert out.meta["split"] == "val" and "applied" in told[0]


def test_objects_that_labels_touch_stay(tmp_path):
    out, told = _run(tmp_path, ISLANDS, _scribbles((3, 3), (9, 12)))
    for image_id in IDS:
        np.testing.assert_array_equal(out.get("labels", image_id), ISLANDS[image_id])
    assert out.meta["largest_region"]["applied"] is False
    assert "not applied" in told[0]


def test_the_largest_is_that_of_the_volume(tmp_path):
    """The largest region of one slice is not that of the volume; slices of other volumes do not count."""
    predicted = dict(ISLANDS)
    predicted["a2"] = _image((2, 2, 2, 2), (6, 8, 5, 8))
    out, _ = _run(tmp_path, predicted, None, when="always")
    np.testing.assert_array_equal(out.get("labels", "a2"), _image((6, 8, 5, 8)))  # 48 voxels with those above and below
    np.testing.assert_array_equal(out.get("labels", "a1"), _image((9, 12, 2, 2)))
    np.testing.assert_array_equal(out.get("labels", "b1"), _image((2, 2, 4, 4)))
    assert out.meta["largest_region"] == {"applied": True}


def test_slices_of_a_part_of_a_volume_and_single_images_count_too(tmp_path):
    out, _ = _run(tmp_path, {i: ISLANDS[i] for i in ("a3", "a1")}, None, when="always")
    np.testing.assert_array_equal(out.get("labels", "a3"), _image((2, 2, 4, 4)))
    assert out.ids == ["a1", "a3"]


def test_pixels_without_data_connect_nothing_and_count_nowhere(tmp_path):
    """They keep their labels, and where they are the largest region the largest one with data stays."""
    valid = np.ones((12, 16), np.uint8)
    valid[:, 8:] = 0
    predicted = dict.fromkeys(IDS, _image((2, 2, 4, 4), (9, 2, 2, 2), (0, 8, 12, 8)))
    out, _ = _run(tmp_path, predicted, None, valid=valid, when="always")
    np.testing.assert_array_equal(out.get("labels", "a1"), _image((2, 2, 4, 4), (0, 8, 12, 8)))
    predicted = dict.fromkeys(IDS, _image((2, 2, 4, 6), (9, 2, 2, 6), (0, 8, 12, 8)))
    (tmp_path / "joined").mkdir()
    out, _ = _run(tmp_path / "joined", predicted, _scribbles((3, 3)), valid=valid)
    np.testing.assert_array_equal(out.get("labels", "a1"), _image((2, 2, 4, 6), (0, 8, 12, 8)))
    assert out.meta["largest_region"]["without"] == pytest.approx(2 * 24 / (24 + 24 + 12))


def test_nothing_labelled_is_predicted(tmp_path):
    out, told = _run(tmp_path, ISLANDS, _scribbles((0, 15)))
    assert out.meta["largest_region"] == {"applied": False} and "no predicted training image" in told[0]
    np.testing.assert_array_equal(out.get("labels", "a1"), ISLANDS["a1"])


def test_what_it_cannot_decide_is_refused(tmp_path):
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text("extends: dmpls-scans\nstages:\n  - id: largest-region\n    inputs: {trained: null}\n")
    with pytest.raises(UsageError, match="when: auto needs the input 'trained'"):
        load_pipeline(pipeline)
    with pytest.raises(UsageError, match="this data set has none"):
        STAGE.check(LargestRegionParams(), Catalogue("folder", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {}, {}, None))
