"""`wss run auto` chooses a pipeline by the data."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from wss.datasets import DatasetSpec
from wss.errors import DataError
from wss.pipeline.auto import RULES, Facts, choose, document, look
from wss.pipeline.spec import load_pipeline, shipped_pipelines

PHOTOGRAPHS = Facts(200, "scribbles", 1.0, grey=False, volumes=False, size=(300, 400), weights="dinov2.pth")


@pytest.mark.parametrize(
    ("change", "pipeline"),
    [
        ({}, "pce-features"),
        ({"weights": None}, "pce"),
        ({"size": (96, 400)}, "pce"),
        ({"grey": True}, "dmpls"),
        ({"volumes": True}, "dmpls-scans"),
        ({"annotation": "masks", "grey": True}, "dense"),
        ({"annotation": "boxes"}, "spml-box"),
        ({"annotation": "tags", "volumes": True}, "spml-tag"),
    ],
)
def test_the_first_rule_that_fits_decides(change, pipeline):
    rule, _ = choose(dataclasses.replace(PHOTOGRAPHS, **change))
    assert rule.pipeline == pipeline


def test_every_rule_names_a_shipped_pipeline_and_can_be_reached():
    assert {rule.pipeline for rule in RULES} <= set(shipped_pipelines())
    assert RULES[-1].fits(PHOTOGRAPHS)


@pytest.mark.parametrize(("size", "crop"), [((300, 400), 256), ((200, 170), 192), ((160, 161), 160)])
def test_features_are_cropped_along_their_grid(size, crop):
    _, changes = choose(dataclasses.replace(PHOTOGRAPHS, size=size))
    assert changes == {"features": {"weights": "dinov2.pth"}, "train": {"augment": {"crop": crop}}}


@pytest.mark.parametrize(("size", "crop"), [((256, 216), 192), ((512, 600), 256), ((30, 40), 32)])
def test_slices_are_cropped_to_most_of_their_shorter_side(size, crop):
    _, changes = choose(dataclasses.replace(PHOTOGRAPHS, size=size, volumes=True, grey=True))
    assert changes == {"train": {"augment": {"crop": crop}}}


@pytest.mark.parametrize("change", [{}, {"weights": None}, {"grey": True}, {"volumes": True}, {"annotation": "boxes"}])
def test_the_choice_is_a_pipeline_that_runs(tmp_path, change):
    import yaml

    facts = dataclasses.replace(PHOTOGRAPHS, **change)
    rule, changes = choose(facts)
    path = tmp_path / "auto.yaml"
    path.write_text(yaml.safe_dump(document(rule, facts, changes, "30m")))
    loaded = load_pipeline(path, everywhere={"dataset": {"kind": "sample"}})
    usual = load_pipeline(shipped_pipelines()[rule.pipeline], changes, {"dataset": {"kind": "sample"}})
    assert loaded.nodes == usual.nodes
    assert rule.why in " ".join(loaded.description.split())
    assert "The number of steps fits into 30m" in " ".join(loaded.description.split())


def _folder(root, scribbles=True, masks=(), grey=False):
    rng = np.random.default_rng(0)
    for number in range(5):
        image = rng.integers(0, 255, (50, 40, 1 if grey else 3), dtype=np.uint8)
        label = np.full((50, 40), 255, np.uint8)
        label[5, 2:30], label[40, 2:30] = 0, 1
        parts = {"images": np.repeat(image, 3, 2) if grey else image}
        parts |= {"scribbles": label} if scribbles else {}
        parts |= {"masks": np.zeros((50, 40), np.uint8)} if number in masks else {}
        for part, values in parts.items():
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / part / f"{number}.png")
    (root / "classes.txt").write_text("ground\nthing\n")
    (root / "val.txt").write_text("4\n")
    return DatasetSpec(kind="folder", root=root)


def test_facts_are_those_of_the_files(tmp_path):
    facts = look(_folder(tmp_path, masks=(4,)), None)
    assert facts == Facts(4, "scribbles", 1.0, grey=False, volumes=False, size=(50, 40), weights=None)
    grey = look(_folder(tmp_path / "grey", scribbles=False, masks=range(5), grey=True), "file")
    assert grey == Facts(4, "masks", 1.0, grey=True, volumes=False, size=(50, 40), weights="file")


def test_data_without_annotation_is_refused(tmp_path):
    dataset = _folder(tmp_path, scribbles=False, masks=(4,))
    with pytest.raises(DataError, match=r"none of 4 training images has scribbles, masks, boxes or tags"):
        look(dataset, None)
