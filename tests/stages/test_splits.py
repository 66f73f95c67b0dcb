"""Splits: the share of labelled images is one of the training split, and a split that is not there is refused at once."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from wss.datasets import open_source
from wss.errors import DataError, UsageError
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages import prepare
from wss.stages.report import _data
from wss.stages.splits import require_split, split_ids
from wss.stages.stage import Context

SHAPE = (12, 16)
AUGMENTED = [f"s{number:02}" for number in range(14)]


@pytest.fixture
def voc(tmp_path):
    """A VOC folder of two training and two validation images, and fourteen pictures that only SBD has masks of."""
    root = tmp_path / "VOC2012"
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in ("t0", "t1", "v0", "v1", *AUGMENTED):
        Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        if name not in AUGMENTED:
            Image.fromarray(rng.integers(0, 21, SHAPE).astype(np.uint8)).save(root / f"SegmentationClass/{name}.png")
    for split, names in {"train": ("t0", "t1"), "val": ("v0", "v1")}.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
    return root


def _add_sbd(folder):
    (folder / "cls").mkdir(parents=True)
    for number, name in enumerate(AUGMENTED):
        mask = np.random.default_rng(number).integers(0, 21, SHAPE).astype(np.uint8)
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask}})
    (folder / "train.txt").write_text("\n".join(AUGMENTED) + "\n")


def _prepared(folder, root, **params):
    dataset = {"kind": "voc", "root": str(root)}
    pipeline = load_pipeline(shipped_pipelines()["pce"], {"prepare": params}, {"dataset": dataset})
    return run_pipeline(pipeline.up_to("prepare"), Workspace(folder), Context())


def _labelled(outcomes, split):
    store = outcomes["prepare"].store
    return {i for i in split_ids(outcomes["samples"].store, split) if (store.get("labels", i) != 255).any()}


def test_a_fraction_is_one_of_the_training_split(voc, tmp_path):
    _add_sbd(voc / "benchmark_RELEASE/dataset")
    kept = []
    for fraction in (0.25, 0.5):
        outcomes = _prepared(tmp_path, voc, annotation="mask", fraction=fraction, split="trainaug")
        kept.append(_labelled(outcomes, "trainaug"))
        assert _labelled(outcomes, "val") == {"v0", "v1"}
    assert [len(k) for k in kept] == [4, 8]  # of 16 images, two of which are VOC's
    assert kept[0] < kept[1]
    outcomes = _prepared(tmp_path, voc, annotation="mask", fraction=0.5)
    assert len(_labelled(outcomes, "train")) == 1
    assert _labelled(outcomes, "trainaug") >= set(AUGMENTED)


def test_the_report_counts_the_labels_of_the_training_split(voc, tmp_path):
    _add_sbd(voc / "benchmark_RELEASE/dataset")
    outcomes = _prepared(tmp_path, voc, annotation="mask", fraction=0.25, split="trainaug")
    samples, labels = outcomes["samples"].store, outcomes["prepare"].store
    assert _data(samples, labels, "trainaug").coverage == 0.25
    assert _data(samples, labels, "val").coverage == 1
    assert sum(_data(samples, labels, "trainaug").truth_pixels.values()) == 16 * SHAPE[0] * SHAPE[1]


def test_without_sbd_the_message_says_what_trainaug_is(voc, tmp_path):
    splits = open_source("voc", voc).catalogue.splits
    with pytest.raises(UsageError) as caught:
        require_split(splits, "trainaug", "voc")
    for part in ("10,582", "benchmark_RELEASE/dataset", "wss init -o sbd=DIR", "split=train", "2 images here, 1,464"):
        assert part in str(caught.value)
    with pytest.raises(UsageError, match="10,582"):
        _prepared(tmp_path, voc, annotation="mask", fraction=0.5, split="trainaug")
    with pytest.raises(UsageError, match="no split 'trainaug'; did you mean 'train'"):
        require_split(splits, "trainaug", "folder")
    _add_sbd(voc / "benchmark_RELEASE/dataset")
    require_split(open_source("voc", voc).catalogue.splits, "trainaug", "voc")


def test_the_split_of_a_fraction_is_checked_before_anything_runs(voc):
    catalogue = open_source("voc", voc).catalogue
    prepare.STAGE.check(prepare.PrepareParams(), catalogue)
    for params in ({"split": "trainaug"}, {"split": "trainaug", "fraction": 0.5}):
        with pytest.raises(UsageError, match="10,582"):
            prepare.STAGE.check(prepare.PrepareParams(**params), catalogue)


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match=r"split 'val' .* is empty: train \(1\), val \(0\)"):
        require_split({"train": ["a"], "val": []}, "val", "folder")
