"""Pixels without data are unlabelled, and outside every loss, filter and score."""

import numpy as np
import pytest
import tifffile
import torch

from wss.datasets import open_source
from wss.metrics import confusion_matrix
from wss.ops import mean_field
from wss.pipeline.changes import parse_overrides
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.crf_kernels import CrfParams, refine
from wss.stages.stage import Context
from wss.training.augment import AugmentParams, augment
from wss.training.batches import TrainingSet
from wss.training.reader import SampleReader

SIZE = (32, 40)
NODATA = -9999.0
SHORT = ["train.phases=[{epochs: 1, terms: {pce: 1}, lr: 0.01, head_multiplier: 1}]", "train.batch_size=2"]


@pytest.fixture
def scenes(tmp_path):
    """Float TIFFs of which the first rows hold no data, with masks and scribbles everywhere."""
    rng = np.random.default_rng(0)
    root = tmp_path / "scenes"
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    for number in range(5):
        mask = np.zeros(SIZE, np.uint8)
        mask[16:] = 1
        image = np.where(mask == 1, 900.0, 300.0) + rng.normal(0, 30, SIZE)
        if number:
            image[: 4 + number] = NODATA
        tifffile.imwrite(root / f"images/a{number}.tif", image.astype(np.float32))
        tifffile.imwrite(root / f"masks/a{number}.tif", mask)
        scribble = np.full(SIZE, 255, np.uint8)
        scribble[2], scribble[12], scribble[25] = 0, 0, 1
        tifffile.imwrite(root / f"scribbles/a{number}.tif", scribble)
    (root / "classes.txt").write_text("water\nland\n")
    (root / "val.txt").write_text("a3\na4\n")
    return root


def _run(folder, root, target, *settings, name="pce"):
    dataset = {"kind": "folder", "root": str(root), "options": {"nodata": NODATA}}
    pipeline = load_pipeline(find_pipeline(name), parse_overrides(settings), {"dataset": dataset})
    return {n: o.store for n, o in run_pipeline(pipeline.up_to(target), Workspace(folder), Context()).items()}


def test_samples_know_where_there_is_no_data(scenes, tmp_path):
    samples = _run(tmp_path / "w", scenes, "samples")["samples"]
    assert not samples.has("valid", "a0")
    for number in range(1, 5):
        valid = samples.get("valid", f"a{number}")
        assert (valid == (np.arange(SIZE[0]) >= 4 + number)[:, None]).all()
        for name in ("mask", "scribble"):
            assert (samples.get(name, f"a{number}")[valid == 0] == 255).all()
        assert not samples.get("image", f"a{number}")[valid == 0].any()
    assert samples.meta["pixels"] == {"stretch": "auto", "bands": None, "nodata": NODATA, "page": None}
    source = open_source("folder", scenes)
    assert source.read("a1").valid is None  # the value is not named


def test_losses_leave_them_out(scenes, tmp_path):
    stores = _run(tmp_path / "w", scenes, "train", *SHORT)
    reader = SampleReader(stores["samples"], stores["prepare"], {})
    data = TrainingSet(["a2"], reader, AugmentParams(flip=0, crop=None, scale=(1, 1)), 0)
    sample = data[0, 0]
    valid = stores["samples"].get("valid", "a2") > 0
    assert (sample["valid"] == valid).all()
    assert (sample["maps"]["labels"][~valid] == 255).all()
    assert "valid" not in sample["maps"]
    assert stores["train"].meta["pixels"]["nodata"] == NODATA


def test_augmentation_carries_them(scenes):
    image = np.full((20, 30, 3), 200, np.uint8)
    inside = np.ones((20, 30), np.uint8)
    inside[:, :10] = 0
    ids = np.arange(600, dtype=np.int32).reshape(20, 30)
    params = AugmentParams(flip=1, crop=None, scale=(1, 1), fill_rgb=(1, 2, 3))
    mirrored, maps, valid = augment(image, {"ids": ids}, params, np.random.default_rng(0), inside=inside)
    assert (valid == (inside[:, ::-1] > 0)).all()
    assert (maps["ids"][~valid] == -1).all()
    assert (maps["ids"][valid] == ids[:, ::-1][valid]).all()
    assert (mirrored[~valid] == (1, 2, 3)).all()


def test_the_crf_leaves_them_out():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (12, 14, 3), dtype=np.uint8)
    probs = torch.softmax(torch.from_numpy(rng.normal(size=(3, 12, 14)).astype(np.float32)), 0)
    valid = np.ones((12, 14), bool)
    valid[:, :6] = False
    params = CrfParams(pos_weight=3, pos_xy_std=3, bi_weight=5, bi_xy_std=10, bi_rgb_std=20, iterations=3)
    found = refine(params, image, probs, valid)
    assert torch.allclose(found[:, :, :6], probs[:, :, :6], atol=1e-5)
    other = image.copy()
    other[:, :6] = 7
    assert torch.allclose(refine(params, other, probs, valid), found, atol=1e-4)
    everywhere = refine(params, image, probs, np.ones((12, 14), bool))
    kernels = params.kernels()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    assert torch.allclose(everywhere, mean_field(probs.log()[None], pixels, iterations=3, **kernels)[0], atol=1e-3)
    assert (found - everywhere)[:, :, 6:].abs().max() > 1e-3


def test_scores_and_proposals_leave_them_out(scenes, tmp_path):
    stores = _run(tmp_path / "w", scenes, "evaluate-crf", *SHORT)
    total = np.zeros((2, 2), np.int64)
    for image_id in ("a3", "a4"):
        valid = stores["samples"].get("valid", image_id) > 0
        truth = (np.indices(SIZE)[0] >= 16)[valid].astype(np.uint8)
        total += confusion_matrix(truth, stores["crf"].get("labels", image_id)[valid], 2)
    assert stores["evaluate-crf"].meta["record"]["pixel_accuracy"] == pytest.approx(np.trace(total) / total.sum())
    proposals = _run(tmp_path / "w", scenes, "propagate", name="grabcut")["propagate"]
    samples = stores["samples"]
    for image_id in ("a1", "a2"):
        labels = proposals.get("labels", image_id)
        assert (labels[samples.get("valid", image_id) == 0] == 255).all()
        assert (labels[samples.get("valid", image_id) > 0] != 255).all()
