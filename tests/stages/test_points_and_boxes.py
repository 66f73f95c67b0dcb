"""Points and boxes: where they come from, and what methods make of them."""

from dataclasses import replace

import numpy as np
import pytest

import wss.stages.samples
from wss.errors import DataError, UsageError
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.scribbles import Stroke, box_labels, boxes_of, click, image_seed, rasterise, scribbled_objects, unpack_strokes
from wss.scribbles.rasters import components
from wss.stages.stage import Context

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 48, "width": 64}}


def _prepare(folder, target="prepare", **params):
    pipeline = load_pipeline(shipped_pipelines()["pce"], {"prepare": params}, {"dataset": DATASET})
    outcomes = run_pipeline(pipeline.up_to(target), Workspace(folder), Context())
    return outcomes["samples"].store, outcomes["prepare"].store


def _change(monkeypatch, change):
    real = wss.stages.samples._read
    monkeypatch.setattr(wss.stages.samples, "_read", lambda source, i: change(real(source, i)))


def _without(*names, **values):
    return lambda sample: replace(sample, **dict.fromkeys(names), **values)


def test_points_of_strokes_are_what_points_says(tmp_path):
    samples, labels = _prepare(tmp_path, annotation="point")
    _, thinned = _prepare(tmp_path, points=True)
    assert labels.meta == {"annotation": "point", "simulated": False, "options": {}}
    for image_id in samples.ids:
        assert (labels.get("labels", image_id) == thinned.get("labels", image_id)).all()
        assert 0 < (labels.get("labels", image_id) != 255).mean() < 0.02


def test_clicks_of_the_data_set_stay_where_they_are(tmp_path, monkeypatch):
    clicks = (Stroke(3, np.array([[20.0, 10.0]]), 3), Stroke(0, np.array([[2.0, 40.0]]), 1))
    _change(monkeypatch, _without("mask", strokes=clicks))
    samples, labels = _prepare(tmp_path, annotation="point")
    assert all((labels.get("labels", i) == rasterise(clicks, (48, 64))).all() for i in samples.ids)


def test_points_of_scribble_images(tmp_path, monkeypatch):
    scribble = np.full((48, 64), 255, np.uint8)
    scribble[5:8, 10:50] = 2
    _change(monkeypatch, _without("mask", "strokes", scribble=scribble))
    _, labels = _prepare(tmp_path, annotation="point")
    _, halo = _prepare(tmp_path, annotation="point", halo=4)
    for image_id in labels.ids:
        found = labels.get("labels", image_id)
        assert set(np.unique(found)) == {2, 255}
        assert (found[scribble == 255] == 255).all() and 0 < (found == 2).sum() < 12
        around = halo.get("labels", image_id)
        assert set(np.unique(around)) == {0, 2, 255} and (around[found == 2] != 0).all()


@pytest.mark.parametrize("source", ["auto", "simulated"])
def test_clicks_are_drawn_from_masks(tmp_path, monkeypatch, source):
    if source == "auto":
        _change(monkeypatch, _without("strokes"))
    samples, labels = _prepare(tmp_path, annotation="point", source=source, seed=3)
    assert labels.meta["simulated"]
    for image_id in samples.ids:
        mask, found = samples.get("mask", image_id), labels.get("labels", image_id)
        assert (found == rasterise(click(mask, image_seed(3, image_id)), mask.shape)).all()
        assert (found == mask)[found != 255].all()


def test_a_halo_leaves_a_ring_open(tmp_path):
    samples, labels = _prepare(tmp_path, annotation="point", halo=6)
    assert labels.meta["options"] == {"halo": 6.0}
    _, points = _prepare(tmp_path, annotation="point")
    for image_id in samples.ids:
        found, bare = labels.get("labels", image_id), points.get("labels", image_id)
        assert (found[bare != 255] == bare[bare != 255]).all()
        assert (found == 255).any() and (found == 0).sum() > (bare == 0).sum()


def test_dropped_points_are_a_part_of_all(tmp_path):
    samples, whole = _prepare(tmp_path, annotation="point")
    _, fewer = _prepare(tmp_path, annotation="point", drop=0.5)
    kept = [
        (fewer.get("labels", i) == whole.get("labels", i))[whole.get("labels", i) != 255].mean() for i in samples.ids
    ]
    assert 0.1 < np.mean(kept) < 0.9


def _twice(sample):
    """A second stroke on every object, and one that continues it off the object."""
    more = [Stroke(s.label, s.points[:1] + (0.0, 1.0), s.width) for s in sample.strokes]
    return replace(sample, strokes=(*sample.strokes, *more))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("raster", [True, False])
def test_objects_lose_all_scribbles_or_none(tmp_path, monkeypatch, masked, raster):
    def change(sample):
        sample = _twice(sample)
        if raster:
            sample = replace(sample, strokes=None, scribble=rasterise(sample.strokes, (48, 64)))
        return sample if masked else replace(sample, mask=None)

    _change(monkeypatch, change)
    samples, whole = _prepare(tmp_path)
    _, fewer = _prepare(tmp_path, drop=0.5)
    assert whole.meta == {"annotation": "scribble", "simulated": False, "options": {}}
    assert fewer.meta["options"] == {"drop": 0.5}
    known = "one connected region of their class in the mask" if masked else "contact with each other"
    assert fewer.meta["objects"] == known
    lost = total = several = 0
    for image_id in samples.ids:
        scribble, rest = whole.get("labels", image_id), fewer.get("labels", image_id)
        mask = samples.get("mask", image_id) if masked else None
        objects = scribbled_objects(scribble, (48, 64), mask)
        for number in range(objects.max() + 1):
            mine = objects == number
            several += len(list(components(np.where(mine, scribble, 255)))) > 1
            gone = rest[mine] != scribble[mine]  # unlabelled, or what lay below
            assert gone.all() or not gone.any()
            lost, total = lost + bool(gone.all()), total + 1
    assert 0.2 < lost / total < 0.8
    assert bool(several) == masked


def test_one_click_on_every_object(tmp_path, monkeypatch):
    _change(monkeypatch, _twice)
    samples, every = _prepare(tmp_path, points=True)
    _, one = _prepare(tmp_path, points=True, clicks="object")
    _, same = _prepare(tmp_path, annotation="point", clicks="object")
    assert one.meta["options"] == {"points": True, "clicks": "object"}
    assert "mask" in one.meta["objects"] and "objects" not in every.meta
    counts = []
    for image_id in samples.ids:
        strokes = list(unpack_strokes(samples.get("strokes", image_id)))
        objects = scribbled_objects(strokes, (48, 64), samples.get("mask", image_id))
        found = one.get("labels", image_id)
        assert (found == same.get("labels", image_id)).all()
        assert (
            found[found != 255] == every.get("labels", image_id)[found != 255]
        ).mean() > 0.9  # but for what lay on top
        counts.append((len(list(components(found))), objects.max() + 1, len(strokes)))
    assert all(clicks <= objects < strokes for clicks, objects, strokes in counts)
    assert sum(clicks == objects for clicks, objects, _ in counts) >= len(counts) - 1  # unless one covers another


def test_one_click_on_every_object_of_scribble_images(tmp_path, monkeypatch):
    mask, scribble = np.zeros((48, 64), np.uint8), np.full((48, 64), 255, np.uint8)
    mask[10:40, 5:30] = 2
    scribble[15, 8:28], scribble[30, 8:28], scribble[44, 8:60], scribble[4, 8:60] = 2, 2, 0, 0
    _change(monkeypatch, _without("strokes", scribble=scribble, mask=mask))
    _, every = _prepare(tmp_path, points=True)
    _, one = _prepare(tmp_path, points=True, clicks="object")
    for image_id in one.ids:
        assert [(every.get("labels", image_id) == k).sum() for k in (0, 2)] == [2, 2]
        assert [(one.get("labels", image_id) == k).sum() for k in (0, 2)] == [1, 1]


def test_boxes_of_the_data_set(tmp_path):
    samples, labels = _prepare(tmp_path, annotation="box")
    assert labels.meta == {"annotation": "box", "simulated": False, "options": {}}
    for image_id in samples.ids:
        boxes = samples.get("boxes", image_id)
        assert (labels.get("boxes", image_id) == boxes).all()
        assert (labels.get("labels", image_id) == box_labels(boxes, (48, 64), background=0)).all()
        assert set(np.flatnonzero(labels.get("tags", image_id))) == {0, *boxes[:, 0].tolist()}
    # true boxes hold all objects, so what they call background is
    wrong = [samples.get("mask", i)[labels.get("labels", i) == 0].any() for i in samples.ids]
    assert not any(wrong)


def test_boxes_of_masks_where_there_are_none(tmp_path, monkeypatch):
    _change(monkeypatch, _without("boxes"))
    samples, labels = _prepare(tmp_path, annotation="box")
    assert labels.meta["simulated"]
    for image_id in samples.ids:
        assert (labels.get("boxes", image_id) == boxes_of(samples.get("mask", image_id), background=0)).all()


def test_an_image_without_objects_is_all_background_and_one_without_boxes_is_open(tmp_path, monkeypatch):
    def change(sample):
        boxes = None if sample.id == "train-0001" else np.zeros((0, 5), np.int32)
        return replace(sample, boxes=boxes)

    _change(monkeypatch, change)
    _, labels = _prepare(tmp_path, annotation="box")
    assert (labels.get("labels", "train-0000") == 0).all() and labels.get("boxes", "train-0000").shape == (0, 5)
    assert (labels.get("labels", "train-0001") == 255).all()
    assert not labels.has("boxes", "train-0001") and not labels.has("tags", "train-0001")


def test_without_background_class_boxes_label_no_pixel(tmp_path, monkeypatch):
    from wss.datasets.sample import SampleSource

    real = SampleSource.__init__

    def unfounded(self, *arguments, **options):
        real(self, *arguments, **options)
        self.catalogue = replace(self.catalogue, background=None)

    monkeypatch.setattr(SampleSource, "__init__", unfounded)
    _, labels = _prepare(tmp_path, annotation="box")
    assert all((labels.get("labels", i) == 255).all() and len(labels.get("boxes", i)) for i in labels.ids)
    with pytest.raises(DataError, match="no background class"):
        _prepare(tmp_path, annotation="point", halo=2)


def test_what_is_not_there_is_an_error(tmp_path, monkeypatch):
    _change(monkeypatch, _without("boxes", "mask", "strokes"))
    with pytest.raises(DataError, match="neither boxes nor masks"):
        _prepare(tmp_path, annotation="box")
    with pytest.raises(DataError, match=r"neither boxes nor masks .* boxes\.csv"):
        _prepare(tmp_path, annotation="box", source="given")
    with pytest.raises(DataError, match="neither scribbles nor masks"):
        _prepare(tmp_path, annotation="point")


def test_masks_may_stand_in_for_boxes_that_were_asked_for(tmp_path, monkeypatch):
    _change(monkeypatch, _without("boxes"))
    with pytest.raises(DataError, match="has no boxes; source 'simulated'"):
        _prepare(tmp_path, annotation="box", source="given")


@pytest.mark.parametrize(
    ("row", "message"), [([9, 1, 1, 4, 4], "class 9"), ([1, 8, 1, 4, 4], r"corners \(8, 1\) and \(4, 4\)")]
)
def test_impossible_boxes_are_refused(tmp_path, monkeypatch, row, message):
    _change(monkeypatch, _without(boxes=np.array([row], np.int32)))
    with pytest.raises(DataError, match=message):
        _prepare(tmp_path, annotation="box")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"annotation": "box", "drop": 0.5}, "takes no scribble options"),
        ({"annotation": "box", "points": True}, "takes no scribble options"),
        ({"annotation": "point", "shrink": 0.5}, "takes no scribble options"),
        ({"annotation": "box", "halo": 2}, "halo applies to points only"),
        ({"halo": 2}, "halo applies to points only"),
        ({"annotation": "point", "halo": 0.5}, "greater than or equal to 1"),
        ({"clicks": "object"}, "clicks applies to points only"),
        ({"shrink": 1.0, "clicks": "object"}, "clicks applies to points only"),
    ],
    ids=str,
)
def test_options_of_other_annotations_are_refused(tmp_path, params, message):
    with pytest.raises(UsageError, match=message):
        _prepare(tmp_path, **params)


def test_boxes_alone_train_no_method_of_pixels(tmp_path):
    with pytest.raises(DataError, match=r"boxes label nothing but the background.*seeds"):
        _prepare(tmp_path, "train", annotation="box")


def test_sides_that_are_no_classes_are_refused(tmp_path):
    changes = {"train": {"augment": {"sides": [[2, 7]]}}}
    pipeline = load_pipeline(shipped_pipelines()["pce"], changes, {"dataset": DATASET})
    with pytest.raises(UsageError, match="names class 7, but the classes are 0 to 6"):
        run_pipeline(pipeline.up_to("train"), Workspace(tmp_path), Context())
