"""The disk of stores is estimated before a run, and a run that cannot fit is refused."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from wss.datasets import DatasetSpec
from wss.errors import StoreError
from wss.pipeline import disk
from wss.pipeline.catalogues import catalogues
from wss.pipeline.disk import free_bytes, needs, require_space, total
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context

Usage = namedtuple("Usage", "total used free")
STEP = {
    "method": {"name": "pce"},
    "network": {"name": "unet"},
    "batch_size": 4,
    "phases": [{"steps": 4, "terms": {"pce": 1}, "lr": 0.004, "optimiser": "adamw"}],
}
STAGES = [
    {"stage": "samples"},
    {"stage": "prepare", "inputs": {"samples": "samples"}},
    {"stage": "train", "inputs": {"samples": "samples", "labels": "prepare"}, "params": STEP},
    {"stage": "predict", "inputs": {"samples": "samples", "model": "train"}},
    {"stage": "crf", "inputs": {"samples": "samples", "predictions": "predict"}},
    {"stage": "evaluate", "inputs": {"samples": "samples", "predictions": "crf"}},
]
SAMPLE = DatasetSpec(kind="sample", options={"train": 8, "val": 12, "height": 48, "width": 64})


def _pipeline(tmp_path, dataset=SAMPLE, changes=None, stages=STAGES):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"title": "p", "stages": stages}))
    return load_pipeline(path, changes, {"dataset": dataset.model_dump()})


def _needs(pipeline, done=None):
    return needs(pipeline, catalogues(pipeline), done or {})


@pytest.fixture
def disk_of(monkeypatch):
    """Pretend that the disk has so many bytes free."""

    def pretend(free):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: Usage(10**12, 0, free))

    return pretend


def test_estimates_are_near_the_stores(tmp_path):
    pipeline = _pipeline(tmp_path)
    wanted = _needs(pipeline)
    outcomes = run_pipeline(pipeline, Workspace(tmp_path), Context())
    assert set(wanted) == set(outcomes)
    for name, factor in (("samples", 1.5), ("train", 1.2), ("prepare", 3), ("predict", 3), ("crf", 3)):
        real = outcomes[name].store.path.stat().st_size
        assert real / factor < wanted[name].store < factor * real, (name, wanted[name].store, real)
    assert not _needs(pipeline, {name: o.store for name, o in outcomes.items()})


def test_an_estimate_grows_with_what_is_kept(tmp_path):
    many = _needs(_pipeline(tmp_path, SAMPLE.model_copy(update={"options": {**SAMPLE.options, "val": 120}})))
    few = _needs(_pipeline(tmp_path))
    assert many["predict"].store > 9 * few["predict"].store
    assert many["train"] == few["train"]
    bare = _needs(_pipeline(tmp_path, stages=STAGES[:4]))
    assert bare["predict"].store < 0.2 * few["predict"].store
    limited = _needs(_pipeline(tmp_path, changes={"predict": {"limit": 6}}))
    for name in ("predict", "crf", "evaluate"):
        assert limited[name].store < few[name].store


def test_images_are_counted_as_they_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("images", "scribbles"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for number in range(6):
        ramp = np.add.outer(np.arange(60), np.arange(80)) + rng.integers(0, 30)
        Image.fromarray(np.stack([ramp] * 3, -1).astype(np.uint8)).save(tmp_path / f"data/images/{number}.jpg")
        Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / f"data/scribbles/{number}.png")
    (tmp_path / "data/classes.txt").write_text("a\nb\n")
    found = {}
    for keep in ("pixels", "encoded"):
        dataset = DatasetSpec(kind="folder", root=tmp_path / "data", keep=keep)
        found[keep] = _needs(_pipeline(tmp_path, dataset, stages=STAGES[:1]))["samples"].store
    assert found["pixels"] - found["encoded"] > 6 * (60 * 80 * 3 - 3000)


@pytest.mark.parametrize(
    "kind", ["turned.jpg", "cmyk.jpg", "a.webp", "a.tif", "a.gif", "a.jpg", "a.png", "deep.png", "bands.jpg"]
)
def test_files_that_become_png_are_counted_as_png(tmp_path, kind):
    """Pixels of which no JPEG or PNG file exists take more bytes than the file that they come from."""
    rng = np.random.default_rng(0)
    for part in ("images", "scribbles"):
        (tmp_path / "data" / part).mkdir(parents=True)
    turned = Image.Exif()
    turned[274] = 6
    ending = kind.split(".")[1]
    for number in range(4):
        coarse = Image.fromarray(rng.integers(0, 255, (20, 26, 3), dtype=np.uint8)).resize((416, 320), 2)
        image = np.clip(coarse + rng.normal(0, 6, (320, 416, 3)), 0, 255).astype(np.uint8)
        labels = np.full(image.shape[:2], 255, np.uint8)
        labels[:4, :9] = 1
        path = tmp_path / f"data/images/{number}.{ending}"
        if kind == "turned.jpg":
            Image.fromarray(image).save(path, exif=turned, quality=80)
            labels = labels.T
        elif kind == "cmyk.jpg":
            Image.fromarray(image).convert("CMYK").save(path)
        elif kind == "deep.png":
            Image.fromarray(image[..., 0].astype(np.uint16) * 200).save(path)
        elif ending == "gif":
            Image.fromarray(image).quantize(16).save(path)
        else:
            Image.fromarray(image).save(path, **({"compression": "jpeg"} if ending == "tif" else {}))
        Image.fromarray(labels).save(tmp_path / f"data/scribbles/{number}.png")
    (tmp_path / "data/classes.txt").write_text("a\nb\n")
    options = {"bands": [3, 2, 1]} if kind == "bands.jpg" else {}
    dataset = DatasetSpec(kind="folder", root=tmp_path / "data", keep="encoded", options=options)
    pipeline = _pipeline(tmp_path, dataset, stages=STAGES[:1])
    wanted = _needs(pipeline)["samples"].store
    real = run_pipeline(pipeline, Workspace(tmp_path), Context())["samples"].store.path.stat().st_size
    assert 0.8 * real < wanted < 3 * real


def test_a_run_that_cannot_fit_is_refused_before_anything_runs(tmp_path, disk_of):
    pipeline = _pipeline(tmp_path)
    needed = total(_needs(pipeline))
    disk_of(needed - 1)
    with pytest.raises(
        StoreError, match=rf"{tmp_path}: this run needs about 0\.0\d\d GB of disk \(.*GB\), but 0\.0"
    ) as caught:
        run_pipeline(pipeline, Workspace(tmp_path), Context())
    assert "`wss gc --all`" in str(caught.value)
    assert "--workspace" in str(caught.value)
    assert not list(tmp_path.glob("artifacts/*/*.h5"))
    disk_of(needed)
    run_pipeline(pipeline.up_to("prepare"), Workspace(tmp_path), Context())
    disk_of(needed // 4)  # enough for what is done, too little for the rest
    with pytest.raises(StoreError, match="train"):
        run_pipeline(pipeline, Workspace(tmp_path), Context())


def test_what_is_done_needs_nothing(tmp_path, disk_of):
    pipeline = _pipeline(tmp_path, stages=STAGES[:2])
    run_pipeline(pipeline, Workspace(tmp_path), Context())
    disk_of(0)
    assert all(o.skipped for o in run_pipeline(pipeline, Workspace(tmp_path), Context()).values())


def test_what_was_begun_counts(tmp_path, disk_of):
    pipeline = _pipeline(tmp_path)
    wanted = _needs(pipeline)
    disk_of(total(wanted) - 1000)
    require_space(wanted, pipeline, tmp_path, begun=1000)
    with pytest.raises(StoreError):
        require_space(wanted, pipeline, tmp_path, begun=999)
    (tmp_path / "artifacts/predict").mkdir(parents=True)
    (tmp_path / "artifacts/predict/x.partial").write_bytes(bytes(1000))
    assert Workspace(tmp_path).begun_bytes() == 1000


def test_remedies_are_those_that_help(tmp_path, disk_of):
    disk_of(0)
    (tmp_path / "data/images").mkdir(parents=True)
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "data/images/a.png")
    (tmp_path / "data/classes.txt").write_text("a\nb\n")

    def said(pipeline):
        with pytest.raises(StoreError) as caught:
            require_space(_needs(pipeline), pipeline, tmp_path)
        return str(caught.value)

    folder = DatasetSpec(kind="folder", root=tmp_path / "data")
    assert "`keep: encoded`" in said(_pipeline(tmp_path, folder))
    assert "keep: encoded" not in said(_pipeline(tmp_path, folder.model_copy(update={"keep": "encoded"})))
    assert "keep: encoded" not in said(_pipeline(tmp_path))
    assert "probs" not in said(_pipeline(tmp_path))  # the CRF needs them
    assert "`--set predict.probs=false`" in said(_pipeline(tmp_path).up_to("predict"))


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    assert abs(free_bytes(tmp_path / "a/b/c") - shutil.disk_usage(tmp_path).free) < 1e9
    assert free_bytes(Path("not/there")) > 0
