"""`wss edges`, `wss train-edges` and `wss bench edges`."""

import json
import shutil

import numpy as np
import pytest
import torch
from commands import artifact
from PIL import Image
from scipy.io import savemat

from tests.datasets.bsds_files import write_bsds
from wss.datasets.bsds import read_ground_truth
from wss.edges.build import EMBEDDED
from wss.metrics.thinning import thin
from wss.store import EDGES, Store
from wss.store.checkpoint import read_checkpoint


@pytest.fixture
def bsds(tmp_path):
    return write_bsds(tmp_path / "bsds", {"train": 4, "val": 3})


def test_edges_of_a_data_set(fresh, wss):
    first = wss("edges", "--out", "maps", "--json").json
    assert first["images"] == 6
    store = Store(artifact(fresh, "edges"), EDGES)
    edges = store.get("edges", store.ids[0])
    assert edges.dtype == np.uint8
    assert edges.shape == (32, 32)
    assert edges.max() > 0
    assert store.meta["detector"] == "embedded"
    assert store.meta["weights"]["file"] == "embedded.pt"
    assert np.array_equal(np.array(Image.open(fresh / "maps" / f"{store.ids[0]}.png")), edges)
    assert wss("edges", "--json").json["key"] == first["key"]


def test_settings_and_weights_decide_the_store(fresh, wss, tmp_path):
    torch.save({}, tmp_path / "empty.pt")
    maps = {}
    for option in ("", "--nms", "--flip", "--scales=0.5,1"):
        result = wss("edges", "--weights", EMBEDDED, *filter(None, [option]), "--json").json
        maps[option] = Store(result["store"]).get("edges", "train-0000").astype(float)
    whole, ridges, flipped, scaled = maps.values()
    assert len({values.tobytes() for values in maps.values()}) == 4
    assert 0 < (ridges > 0).mean() < 0.5 * (whole > 0).mean()
    assert np.corrcoef(flipped.ravel(), whole.ravel())[0, 1] > 0.9
    assert np.corrcoef(scaled.ravel(), whole.ravel())[0, 1] > 0.5
    failed = wss("edges", "--weights", tmp_path / "empty.pt")
    assert failed.code == 1
    assert "expected a state dict" in failed.said


def test_the_choice_is_remembered(fresh, wss, tmp_path):
    quick = ["--set", "train.phases.0.epochs=1", "--set", "train.validation_split=null"]
    chosen = wss("edges", "--detector", "gradient", "--nms", "--json").json["key"]
    trained = wss("train", "--method", "bpg", *quick, "--json")
    assert "using the edges of `wss edges` (detector gradient, nms True)" in trained.said
    store = Store(trained.json["store"])
    assert [source["key"] for source in store.inputs["edges"]] == [chosen]
    assert "detector': 'gradient'" in wss("status").out
    assert wss("gc", "--all").code == 0
    assert artifact(fresh, "edges").stem == chosen
    assert "using the edges" not in wss("train", "--method", "pce", *quick).said
    walk = ["propagate", "--method", "random-walk", "--json"]
    assert wss(*walk, "--edges", "embedded").code == 0
    assert len(list((fresh / "artifacts" / "edges").glob("*.h5"))) == 2
    assert wss("edges").code == 0
    again = wss("train", "--method", "bpg", *quick, "--json")
    assert "using the edges of `wss edges` (detector embedded)" in again.said
    assert again.json["key"] != trained.json["key"]


def test_wrong_usage(fresh, wss):
    assert wss("edges", "--detector", "canny").code == 2
    hed = wss("edges", "--detector", "hed")
    assert hed.code == 2
    assert "--weights FILE" in hed.said
    assert wss("edges", "--scales", "0").code == 2


def test_train_bench_and_use(fresh, wss, bsds, tmp_path):
    weights = tmp_path / "edges.pt"
    trained = wss(
        "train-edges", "--root", bsds, "--out", weights, "--epochs", 2, "--batch-size", 2, "--crop", 32,
        "--rotate", 180, "--scale", 0.5, 1.6, "--json",
    ).json  # fmt: skip
    assert trained["images"] == 4
    assert trained["step"] == 4
    recipe = json.loads((tmp_path / "edges.pt.json").read_text())
    assert recipe["network"] == "small"
    augment = {name: recipe["augment"][name] for name in ("crop", "rotate_deg", "scale", "hue_deg")}
    assert augment == {"crop": 32, "rotate_deg": 180, "scale": [0.5, 1.6], "hue_deg": 10}
    assert len(recipe["log"]) == 2
    assert not list(tmp_path.glob("*.partial"))
    scores = wss(
        "bench", "edges", "-r", bsds, "--weights", weights, "--thresholds", 9, "--out", "b.json", "--json"
    ).json
    assert scores == json.loads((fresh / "b.json").read_text())
    assert scores["images"] == 3
    assert all(0 < scores[name] <= 1 for name in ("ods", "ois", "ap"))
    assert wss("edges", "--weights", weights, "--json").json["images"] == 6


def test_the_gradient_scores_well_on_blocks(fresh, wss, tmp_path):
    """At this size the tolerance is 1.5 pixels."""
    root = write_bsds(tmp_path / "large", {"val": 3}, size=(120, 160))
    result = wss("bench", "edges", "-r", root, "--detector", "gradient", "--thresholds", 19, "--limit", 2)
    assert result.code == 0
    assert "ODS" in result.out
    scores = wss("bench", "edges", "-r", root, "-d", "gradient", "--thresholds", 19, "--json").json
    assert scores["ods"] > 0.6
    assert scores["weights"] is None


def test_maps_of_a_folder_are_scored(fresh, wss, tmp_path):
    """The boundaries themselves as contour maps of double size, and as PNG; photographs are not needed."""
    root = write_bsds(tmp_path / "bsds", {"test": 2}, size=(120, 160))
    shutil.rmtree(root / "images")
    for folder in ("contours/test", "pictures"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(2):
        boundaries, _ = read_ground_truth(root / "groundTruth" / "test" / f"test{number}.mat")
        contours = np.zeros((241, 321))
        contours[2::2, 2::2] = thin(boundaries[0])
        savemat(tmp_path / "contours" / "test" / f"test{number}.mat", {"ucm2": contours})
        Image.fromarray(boundaries[0]).save(tmp_path / "pictures" / f"test{number}.png")
    common = ["bench", "edges", "-r", root, "--split", "test", "--thresholds", 3, "--json"]
    scores = wss(*common, "--maps", tmp_path / "contours").json
    assert scores["images"] == 2
    assert scores["detector"] is None
    assert scores["maps"] == str(tmp_path / "contours")
    assert scores["weights"] is None
    assert scores["thinned"] == "at every threshold"
    assert scores["ods_precision"] == 1
    assert scores["ods"] > 0.95
    assert wss(*common, "--maps", tmp_path / "pictures").json["ods"] == scores["ods"]
    assert wss(*common[:-1], "--maps", tmp_path / "pictures", "--nms", "--limit", 1).code == 0
    (root / "groundTruth" / "val").mkdir()
    missing = wss(*common[:4], "--split", "val", "--maps", tmp_path / "pictures")
    assert missing.code == 1
    assert missing.said.rstrip().endswith("no annotations of split 'val'; splits here: test")
    (tmp_path / "pictures" / "test1.png").unlink()
    assert "no map of 1 of the 2 images" in wss(*common, "--maps", tmp_path / "pictures").said
    for options in (["--detector", "gradient"], ["--scales", "1"], ["--flip"], ["--weights", EMBEDDED]):
        refused = wss(*common, "--maps", tmp_path / "contours", *options)
        assert refused.code == 2
        assert "leave out --detector and its options" in refused.said
    assert wss(*common, "--nms").code == 2


def test_an_interrupted_training_goes_on(fresh, wss, bsds, tmp_path, monkeypatch):
    monkeypatch.setattr("wss.training.edges.CHECKPOINT_INTERVAL_S", 0.0)
    common = ["train-edges", "--root", bsds, "--epochs", 2, "--batch-size", 2, "--crop", 32]
    assert wss(*common, "--out", "whole.pt").code == 0

    from wss.training import edges as module

    update, calls = module._update, []

    def fail(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        update(*arguments)

    monkeypatch.setattr(module, "_update", fail)
    assert wss(*common, "--out", "part.pt").code == 130
    assert read_checkpoint(fresh / "part.pt.checkpoint.partial")["step"] == 3
    other = wss(*common, "--out", "part.pt", "--seed", 5)
    assert other.code == 2
    assert "other settings (seed)" in other.said
    assert wss(*common, "--out", "part.pt").code == 0
    assert (fresh / "part.pt").read_bytes() == (fresh / "whole.pt").read_bytes()


def test_hed_trains_from_vgg_weights(fresh, wss, bsds, tmp_path):
    failed = wss("train-edges", "--root", bsds, "--out", "h.pt", "--network", "vgg")
    assert failed.code == 2
    assert "small or hed" in failed.said
    swapped = wss("train-edges", "--root", bsds, "--out", "h.pt", "--scale", 1.4, 0.6)
    assert swapped.code == 2
    assert "augment.scale: expected two positive numbers, the smaller one first" in swapped.said
    missing = wss("train-edges", "--root", tmp_path, "--out", "h.pt")
    assert missing.code == 1
    assert "groundTruth" in missing.said
    trained = wss(
        "train-edges", "-r", bsds, "-o", "h.pt", "--network", "hed", "--epochs", 1, "--batch-size", 4, "--crop", 32
    )
    assert trained.code == 0
    scores = wss(
        "bench", "edges", "-r", bsds, "-d", "hed", "--weights", "h.pt", "--thresholds", 3, "--limit", 1, "--json"
    )
    assert scores.json["alignment"] == "caffe"
