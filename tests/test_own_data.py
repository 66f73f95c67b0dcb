"""Every shipped pipeline and study on a person's own data: a folder of few images, whatever of masks and scribbles there is.

Trainings have one step for each phase, and studies two levels of each factor.
"""

import html
import re

import numpy as np
import pytest
from PIL import Image

from tests.small_backbone import small_backbone
from tests.test_pipelines import STUDIES
from tests.told import Told
from wss.errors import DataError
from wss.pipeline.catalogues import catalogues
from wss.pipeline.changes import merge, parse_overrides
from wss.pipeline.held_out import adapted
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context

TRAIN, VAL = ("t0", "t1", "t2", "t3"), ("v0", "v1")
SIZES = ((32, 40), (40, 32), (35, 47), (48, 33), (32, 40), (37, 41))
KINDS = {
    "training masks": {"masks": (*TRAIN, *VAL), "scribbles": TRAIN},
    "val masks only": {"masks": VAL, "scribbles": TRAIN},
    "no masks": {"masks": (), "scribbles": TRAIN},  # and so, without lists, no images in val
    "some scribbles": {"masks": VAL, "scribbles": ("t0", "t3")},
    "odd": {"masks": (*TRAIN, *VAL), "scribbles": TRAIN, "grey": True, "sizes": SIZES, "never": 2},
}
"""Files of each kind of data set: masks, scribbles, grey images, sizes, and a class that no training image has."""
MASKS_ONLY = {"dense", "quickstart", "semi-supervised", "study-full-supervision", "study-semi-supervision"}
"""Pipelines that need masks of training images, with all their rows."""
BOXES = "spml-box"
FAMILIES = ("pce", "rawks", "rw-ss", "bpg", "spml-scribble", "sec", "scribblesup", "crf-rnn", "study-losses")
SLOW = {
    (name, kind) for name in shipped_pipelines() for kind in KINDS if kind != "val masks only" and name not in FAMILIES
}
EVERY = [
    pytest.param(name, kind, marks=[pytest.mark.slow] if (name, kind) in SLOW else [], id=f"{name}-{kind}")
    for name in shipped_pipelines()
    for kind in KINDS
]


def _scene(rng, height, width, never):
    """An image, its mask and a scribble: a disc's box (class 1) and a stripe (class 2) on background (class 0)."""
    image = np.full((height, width, 3), (60, 90, 60), float)
    mask, scribble = np.zeros((height, width), np.uint8), np.full((height, width), 255, np.uint8)
    scribble[2:4, 4 : width - 4] = 0
    if never != 1:
        image[8:20, 6:18], mask[8:20, 6:18], scribble[13:15, 8:16] = (200, 60, 40), 1, 1
    if never != 2:
        image[24:29], mask[24:29], scribble[26:28, 4 : width - 4] = (60, 80, 210), 2, 2
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8), mask, scribble


def _write(root, kind):
    what = KINDS[kind]
    for folder in ("images", "masks", "scribbles"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate((*TRAIN, *VAL)):
        never = what.get("never") if name in TRAIN else None
        size = what.get("sizes", (SIZES[0],) * 6)[number]
        image, mask, scribble = _scene(np.random.default_rng(number), *size, never)
        picture = Image.fromarray(image)
        (picture.convert("L") if what.get("grey") else picture).save(root / f"images/{name}.png")
        if name in what["masks"]:
            Image.fromarray(mask).save(root / f"masks/{name}.png")
        if name in what["scribbles"]:
            Image.fromarray(scribble).save(root / f"scribbles/{name}.png")
    (root / "classes.txt").write_text("background\ndisc\nstripe\n")
    if what["masks"]:
        (root / "train.txt").write_text("\n".join(TRAIN))
        (root / "val.txt").write_text("\n".join(VAL))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of each kind, written once."""
    folders = {}

    def folder(kind):
        if kind not in folders:
            folders[kind] = _write(tmp_path_factory.mktemp("data") / "own", kind)
        return folders[kind]

    return folder


def _small(name, root, *settings):
    """A pipeline with one step for each phase, and two levels of each factor."""
    dataset = {"kind": "folder", "root": str(root)}
    factors = {"factors": STUDIES[name]} if name in STUDIES else {}
    changes = merge(merge(factors, parse_overrides(settings)), small_backbone(name))
    ids = load_pipeline(shipped_pipelines()[name], changes, {"dataset": dataset}).nodes
    smaller = {"train*": {"phases": {"*": {"steps": 1}}, "batch_size": 2}}
    smaller |= {"crf*": {"iterations": 1}} if any(i.startswith("crf") for i in ids) else {}
    return load_pipeline(shipped_pipelines()[name], {**changes, **smaller}, {"dataset": dataset})


def _refused(pipeline, folder):
    with pytest.raises(DataError) as error:
        run_pipeline(pipeline, Workspace(folder), Context())
    assert not list(folder.glob("artifacts/train/*.h5"))
    return str(error.value)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_runs_to_its_report_or_is_refused_before_training(name, kind, data, tmp_path):
    root, told = data(kind), Told()
    pipeline = _small(name, root)
    masked = set(TRAIN) <= set(KINDS[kind]["masks"])
    if name in MASKS_ONLY and not masked:
        reason = _refused(pipeline, tmp_path)
        assert "on masks, and no image of split 'train' has a file with its labels (mask)" in reason
        assert "add masks of images of split 'train'" in reason
        assert not list(tmp_path.iterdir())
        return
    if name == BOXES and not masked:
        reason = _refused(pipeline, tmp_path)
        assert "boxes" in reason
        return
    if _without_masks(pipeline, kind):
        reason = _refused(pipeline, tmp_path)
        assert not list(tmp_path.iterdir())
        pipeline = _small(name, root, _remedy(reason))
    outcomes = run_pipeline(pipeline, Workspace(tmp_path), Context(progress=told))
    _check(outcomes, (tmp_path / "report.html").read_text(), kind, told.lines)
    again = run_pipeline(pipeline, Workspace(tmp_path), Context())
    assert all(outcome.skipped for outcome in again.values())


def _without_masks(pipeline, kind):
    """True if a row of a study is trained on masks, and there are none."""
    made = {n for n, node in pipeline.nodes.items() if getattr(node.params, "annotation", "") == "mask"}
    made |= {n for n, node in pipeline.nodes.items() if node.stage.name == "superpixel-bound"}
    trained = [node for node in pipeline.nodes.values() if node.stage.name == "train"]
    return "t0" not in KINDS[kind]["masks"] and any(made & set(node.inputs["labels"]) for node in trained)


def _remedy(reason):
    (setting,) = re.findall(r"`--set (factors\.\w+=\[[^`]+\])`", reason)
    return setting


def _check(outcomes, page, kind, told):
    stages = {}
    for name, outcome in outcomes.items():
        stages.setdefault(outcome.node.stage.name, {})[name] = outcome.store
    held_out = VAL if KINDS[kind]["masks"] else (*TRAIN, *VAL)
    finals = [store for name, store in stages["predict"].items() if store.meta["split"] != "train" or held_out != VAL]
    assert finals
    assert all(set(store.ids) == set(held_out) for store in finals)
    for store in stages["evaluate"].values():
        record = store.meta["record"]
        assert (record["miou"] is None) == (not KINDS[kind]["masks"])
        assert record["num_images"] == (2 if KINDS[kind]["masks"] else 0)
    if not KINDS[kind]["masks"]:
        assert "nothing is scored" in page
        assert "scored on nothing" in page
        assert any("are used instead (" in line and "predict" in line for line in told)
        assert "<h3>Not scored</h3>" in page
        assert page.count("<figcaption>Prediction</figcaption>") >= 3
    else:
        assert "scored on 2 images" in page
        assert "nothing is scored" not in page
    for name, store in stages.get("label-quality", {}).items():
        assert ("record" in store.meta) == ("t0" in KINDS[kind]["masks"])
        if "record" not in store.meta:
            assert f"{name}: left out: no image of split 'train' has both labels and a mask" in "\n".join(told)
            title = store.params["name"] or "label-quality"
            assert f"<strong>{title}</strong> is left out: no image of split" in page


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_the_remedy_leaves_out_the_rows_that_need_masks_and_no_others(name, data):
    """With all levels, as people run them."""
    root = data("val masks only")
    dataset = {"kind": "folder", "root": str(root)}
    pipeline = load_pipeline(shipped_pipelines()[name], {}, {"dataset": dataset})
    if not _without_masks(pipeline, "val masks only") or name in MASKS_ONLY:
        return
    with pytest.raises(DataError) as error:
        run_pipeline(pipeline, Workspace(root / "w"), Context())
    less = load_pipeline(shipped_pipelines()[name], parse_overrides([_remedy(str(error.value))]), {"dataset": dataset})
    needing = [n for n in _runs(pipeline) if _on_masks(pipeline, n)]
    assert needing
    assert set(_runs(less)) == set(_runs(pipeline)) - set(needing)
    assert not any(getattr(node.params, "annotation", "") == "mask" for node in less.nodes.values())


def _runs(pipeline):
    return [name for name, node in pipeline.nodes.items() if node.stage.name == "evaluate"]


def _on_masks(pipeline, name):
    """True if what a stage scores was trained on masks, by the stages behind it."""
    node = pipeline.nodes[name]
    while node.stage.name != "train":
        node = pipeline.nodes[(node.inputs.get("predictions") or node.inputs["model"])[0]]
    labels = pipeline.nodes[node.inputs["labels"][0]]
    return labels.stage.name == "superpixel-bound" or getattr(labels.params, "annotation", "") == "mask"


def test_masks_of_some_val_images_score_these(data, tmp_path):
    root = _write(tmp_path / "own", "val masks only")
    (root / "masks/v1.png").unlink()
    told = Told()
    outcomes = run_pipeline(_small("pce", root), Workspace(tmp_path / "w"), Context(progress=told))
    record = outcomes["evaluate"].store.meta["record"]
    assert outcomes["evaluate"].store.ids == ["v0"]
    assert (record["num_images"], record["left_out"]) == (
        1,
        "1 of 2 images of split 'val' have no mask and are not scored",
    )
    assert record["miou"] is not None
    assert "1 of 2 images of split 'val' have no mask, 'v1' first: left out are these images in scores" in told.lines[0]
    assert record["left_out"] in html.unescape((tmp_path / "w/report.html").read_text())


def test_training_images_that_could_be_scored_do_not_take_the_place_of_held_out_ones(data, tmp_path):
    root = _write(tmp_path / "own", "training masks")
    (root / "val.txt").write_text("")
    for name in VAL:
        (root / f"masks/{name}.png").unlink()
    pipeline = _small("pce", root)
    assert adapted(pipeline, catalogues(pipeline)) == (pipeline, [])
    assert "split 'val' of the data set is empty" in _refused(pipeline, tmp_path / "w")
    run_pipeline(_small("pce", root, "predict.split=train"), Workspace(tmp_path / "w"), Context())  # the remedy


def test_a_chosen_split_stays(data):
    pipeline = _small("pce", data("no masks"), "predict.split=train")
    assert adapted(pipeline, catalogues(pipeline)) == (pipeline, [])
