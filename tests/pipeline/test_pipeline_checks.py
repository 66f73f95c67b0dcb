"""What is known to fail is refused before any stage runs, with the name of the stage."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from wss.errors import DataError, UsageError
from wss.params import Params
from wss.pipeline.catalogues import catalogues, check_pipeline
from wss.pipeline.changes import parse_overrides
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import Node, Pipeline, find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Input, Stage
from wss.store import LABELS, SAMPLES

SAMPLE = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}


class Toy(Params):
    pass


def _load(name, changes=None, dataset=SAMPLE):
    return load_pipeline(find_pipeline(name), changes, {"dataset": dataset})


def test_every_stage_that_reads_samples_has_a_catalogue():
    pipeline = _load("pce")
    known = catalogues(pipeline)
    assert set(known) == set(pipeline.nodes)
    assert {len(catalogue.splits["train"]) for catalogue in known.values()} == {4}


def test_each_stage_has_the_catalogue_of_its_own_samples(tmp_path):
    (tmp_path / "mine.yaml").write_text("""
stages:
  - {stage: samples}
  - {id: other, stage: samples, params: {dataset: {kind: sample, options: {train: 7, val: 2, height: 32, width: 32}}}}
  - {stage: prepare, inputs: {samples: samples}}
  - {id: more, stage: prepare, inputs: {samples: other}}
""")
    known = catalogues(load_pipeline(tmp_path / "mine.yaml", everywhere={"dataset": SAMPLE}))
    sizes = {name: len(catalogue.splits["train"]) for name, catalogue in known.items()}
    assert sizes == {"samples": 4, "other": 7, "prepare": 4, "more": 7}


@pytest.mark.parametrize(
    ("pipeline", "changes", "message"),
    [
        ("pce", {"train": {"split": "trian"}}, r"stage 'train': .*no split 'trian'; did you mean 'train'"),
        ("pce", {"predict": {"split": "test"}}, r"stage 'predict': .*no split 'test'"),
        ("pce", {"split": {"train": "trainaug"}}, r"stage 'prepare': .*no split 'trainaug'; did you mean 'train'"),
        ("study-losses", {"train-pce-*": {"weights": "no.pth"}}, r"stage 'train-pce-unet-0' \(train\): .*no.pth"),
        ("bpg", {"edges": {"detector": "hed", "weights": "no.pt"}}, r"stage 'edges': weights no.pt: cannot be read"),
        ("pce", {"train": {"augment": {"sides": [[1, 99]]}}}, "stage 'train': .*class 99"),
    ],
)
def test_refuses_with_the_name_of_the_stage(pipeline, changes, message):
    loaded = _load(pipeline, changes)
    with pytest.raises((UsageError, DataError), match=message):
        check_pipeline(loaded, catalogues(loaded))


def test_a_split_without_any_label_is_refused(tmp_path):
    for part in ("images", "scribbles"):
        (tmp_path / part).mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(tmp_path / "scribbles/b.png")
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / "val.txt").write_text("b")
    loaded = _load("pce", dataset={"kind": "folder", "root": str(tmp_path)}).up_to("train")
    with pytest.raises(DataError, match=r"stage 'train': no image of split 'train' has a file with its labels"):
        check_pipeline(loaded, catalogues(loaded))


SECOND = """
stages:
  - {stage: samples}
  - {stage: prepare, inputs: {samples: samples}}
  - id: train-first
    stage: train
    inputs: {samples: samples, labels: prepare}
    params: {network: {name: unet}, method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}]}
  - id: train
    stage: train
    inputs: {samples: samples, labels: prepare, initial: train-first}
    params: {network: {name: unet}, method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}]}
"""
MIT = "{name: segformer, backbone: mit_b0}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], None),
        (["train.method={name: bpg}", "train.phases.0.terms={pce: 1, boundary: 1}"], None),  # it adds parts
        ([f"train*.network={MIT}"], None),
        (
            [f"train.network={MIT}"],
            "stage 'train': train: the network of train-first does not fit this stage's network",
        ),
        ([f"train*.network={MIT}", "train.network.backbone=mit_b1"], "the network of train-first does not fit"),
        (["train-first.method={name: bpg}"], "the network of train-first does not fit .* which this one lacks"),
        (["train.fresh=[haed]"], "no weight begins with 'haed'"),
        (["prepare.fraction=0.5"], None),
        (["prepare.fraction=0.5", "split=val"], None),
        (
            ["prepare.fraction=0.5", "train.split=val"],
            "stage 'train': trains on split 'val', but `prepare` keeps labels for the fraction 0.5 of split 'train'",
        ),
    ],
)
def test_a_training_goes_on_from_the_same_network_and_split(tmp_path, settings, message):
    (tmp_path / "mine.yaml").write_text(SECOND)
    loaded = load_pipeline(tmp_path / "mine.yaml", parse_overrides(settings), {"dataset": SAMPLE})
    if message is None:
        check_pipeline(loaded, catalogues(loaded))
        return
    with pytest.raises(UsageError, match=message):
        check_pipeline(loaded, catalogues(loaded))


def test_nothing_runs_if_a_later_stage_is_refused(tmp_path):
    loaded = _load("pce", {"predict": {"split": "test"}})
    with pytest.raises(UsageError, match="stage 'predict'"):
        run_pipeline(loaded, Workspace(tmp_path), Context())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [UsageError, DataError])
def test_the_kind_of_error_stays_and_parameters_reach_the_check(kind):
    seen = []

    def check(params, catalogue):
        seen.append((params, catalogue.kind))
        raise kind("no good")

    samples = _load("pce").nodes["samples"]
    stage = Stage("toy", 1, Toy, {"samples": Input(SAMPLES)}, LABELS, lambda *_: None, check=check)
    params = Toy()
    nodes = {"samples": samples, "mine": Node("mine", stage, params, {"samples": ("samples",)})}
    pipeline = Pipeline("test", "", "", nodes)
    with pytest.raises(kind, match=r"^stage 'mine' \(toy\): no good$"):
        check_pipeline(pipeline, catalogues(pipeline))
    assert seen == [(params, "sample")]
    named = replace(pipeline, nodes={"samples": samples, "toy": Node("toy", stage, params, {"samples": ("samples",)})})
    with pytest.raises(kind, match=r"^stage 'toy': no good$"):
        check_pipeline(named, catalogues(named))


def test_stages_without_samples_are_not_checked():
    def check(params, catalogue):
        raise UsageError("no catalogue")

    stage = Stage("toy", 1, Toy, {}, LABELS, lambda *_: np.zeros(1), check=check)
    pipeline = Pipeline("test", "", "", {"toy": Node("toy", stage, Toy(), {})})
    check_pipeline(pipeline, catalogues(pipeline))
