"""Each command as a user meets it: what it prints, writes and remembers."""

import json

import numpy as np
import pytest
import yaml
from commands import QUICK, artifact, assert_whole, stores
from PIL import Image
from scipy import ndimage

from wss.store import Store

METRICS = {
    "split",
    "num_images",
    "num_classes",
    "classes",
    "miou",
    "iou_per_class",
    "pixel_accuracy",
    "mean_accuracy",
    "frequency_weighted_iou",
    "crf",
    "scales",
    "flip",
    "backbone",
    "initialisation",
    "method",
    "store_key",
}


def test_init_writes_what_data_info_reads(cells, wss, tmp_path):
    result = wss("init", "--kind", "folder", "--root", tmp_path / "cells", "--workspace", tmp_path / "new")
    assert result.code == 0
    assert "3 classes, images: train 4, val 2" in result.out
    config = yaml.safe_load((tmp_path / "new" / "wss.yaml").read_text())
    assert config == {"dataset": {"kind": "folder", "root": str(tmp_path / "cells")}}
    info = wss("data", "info", "--workspace", tmp_path / "new", "--json").json
    assert info["classes"] == ["background", "cell", "wall"]
    assert info["splits"]["val"] == {"images": 2, "with_mask": 2, "with_scribble": 2, "with_boxes": 0}
    assert info["sizes"] == {"distinct": 1, "smallest": [32, 40], "largest": [32, 40]}


def test_init_takes_options_and_says_json(cells, wss, tmp_path):
    (tmp_path / "cells" / "masks").rename(tmp_path / "cells" / "truth")
    new = tmp_path / "new"
    result = wss(
        "init", "-k", "folder", "-r", tmp_path / "cells", "-o", "masks=truth", "-o", "ignore=[9]", "-w", new, "--json"
    )
    assert result.json["splits"] == {"train": 4, "val": 2}
    assert wss("data", "info", "-w", new, "--json").json["splits"]["val"]["with_mask"] == 2


def test_init_replaces_only_when_forced(fresh, wss):
    before = (fresh / "wss.yaml").read_text()
    assert wss("init", "--kind", "sample").code == 2
    assert (fresh / "wss.yaml").read_text() == before
    assert wss("init", "--kind", "sample", "--force").code == 0
    assert (fresh / "wss.yaml").read_text() != before


def test_data_check_finds_nothing_in_a_good_data_set(cells, wss):
    result = wss("data", "check")
    assert result.code == 0
    assert "6 images checked" in result.out
    assert "error" not in result.out


def test_data_check_names_file_and_remedy_and_fails(cells, wss, tmp_path):
    bad = tmp_path / "cells" / "masks" / "c1.png"
    labels = np.array(Image.open(bad))
    labels[0, 0] = 7
    Image.fromarray(labels).save(bad)
    result = wss("data", "check", "--json")
    assert result.code == 1
    (found,) = [row for row in result.json if row["severity"] == "error"]
    assert found["code"] == "label-range"
    assert found["file"] == str(bad)
    assert "label 7" in found["message"]
    shown = wss("data", "check")
    assert shown.code == 1
    assert "c1.png" in shown.out
    assert "->" in shown.out


def test_data_simulate_draws_the_same_for_the_same_seed_and_convert_reads_it(cells, wss, tmp_path):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert wss("data", "simulate", "--out", tmp_path / out, "--split", "train", "--seed", seed).code == 0
    drawn = {out: [np.array(Image.open(p)) for p in sorted((tmp_path / out).iterdir())] for out in "abc"}
    assert len(drawn["a"]) == 4
    mask = np.array(Image.open(tmp_path / "cells" / "masks" / "c0.png"))
    labelled = drawn["a"][0] != 255
    assert labelled.any()
    assert (drawn["a"][0] == mask)[labelled].all()
    assert all((x == y).all() for x, y in zip(drawn["a"], drawn["b"], strict=True))
    assert any((x != y).any() for x, y in zip(drawn["a"], drawn["c"], strict=True))


def test_data_simulate_and_convert_do_not_replace_scribbles_of_the_data_set(cells, wss, tmp_path):
    folder = tmp_path / "cells" / "scribbles"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for command in (("simulate",), ("convert", "--to", "png")):
        result = wss("data", *command, "--out", folder)
        assert result.code == 2
        assert f"{folder / 'c0.png'} is a file of the data set, and would be replaced (6 such files)" in result.said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("ending", ["png", "xml", "txt"])
def test_data_convert_writes_a_file_per_scribble(cells, wss, tmp_path, ending):
    result = wss("data", "convert", "--to", ending, "--out", tmp_path / "out", "--json")
    assert [tmp_path / "out" / f"c{n}.{ending}" for n in range(6)] == [type(tmp_path)(p) for p in result.json]
    assert all(path.stat().st_size for path in (tmp_path / "out").iterdir())


def _prepared(wss, *arguments):
    result = wss("prepare", "--json", *arguments)
    assert result.code == 0, result.err
    return result.json, Store(result.json["store"])


def _labelled(store):
    return {i: store.get("labels", i) for i in store.ids}


def test_prepare_options_thin_out_and_are_remembered(fresh, wss):
    whole, store = _prepared(wss)
    labels = _labelled(store)
    assert whole["with_labels"] == whole["images"] == 6
    assert not whole["simulated"]

    def thinned(*arguments):
        summary, other = _prepared(wss, *arguments)
        for image_id, values in _labelled(other).items():
            near = ndimage.binary_dilation(labels[image_id] != 255)  # ends are rounded to whole pixels
            assert near[values != 255].all(), f"{arguments} labelled more of {image_id}"
        return summary

    half = thinned("--shrink", 0.5)
    assert 0 < half["coverage"] < whole["coverage"]
    assert thinned("--length", 0.5) == half
    assert thinned("--shrink", 1)["coverage"] < half["coverage"]
    assert thinned("--points")["coverage"] < half["coverage"]
    assert thinned("--drop", 1)["with_labels"] == 0
    assert thinned("--fraction", 0.5)["with_labels"] == 4  # half of the training images, and all of val
    assert thinned("--shrink", 0.5, "--seed", 3)["key"] != half["key"]
    assert yaml.safe_load((fresh / "state.yaml").read_text())["prepare"] == {"shrink": 0.5, "seed": 3}
    assert _prepared(wss)[0] == whole
    assert yaml.safe_load((fresh / "state.yaml").read_text())["prepare"] == {"seed": 0}


def test_prepare_simulates_where_there_are_only_masks_and_says_so(cells, wss, tmp_path):
    (tmp_path / "cells" / "scribbles").rename(tmp_path / "aside")
    summary, _ = _prepared(wss)
    assert summary["simulated"]
    assert "simulated" in wss("prepare").out
    (tmp_path / "aside").rename(tmp_path / "cells" / "scribbles")
    given, _ = _prepared(wss, "--source", "given")
    drawn, _ = _prepared(wss, "--source", "simulated")
    assert not given["simulated"]
    assert drawn["simulated"]
    assert drawn["key"] == summary["key"] or drawn["coverage"] == summary["coverage"]


def test_prepare_takes_image_tags(fresh, wss):
    summary, store = _prepared(wss, "--annotation", "tag")
    assert summary["with_tags"] == summary["images"] == 6
    assert 1 < summary["tags_per_image"] < 7
    assert summary["tags_per_image"] == pytest.approx(np.mean([store.get("tags", i).sum() for i in store.ids]))
    assert "classes each (simulated from masks)" in wss("prepare", "--annotation", "tag").out
    assert yaml.safe_load((fresh / "state.yaml").read_text())["prepare"] == {"annotation": "tag", "seed": 0}
    refused = wss("train", *QUICK)
    assert refused.code == 1
    assert "no image of split 'train' has a labelled pixel" in refused.said
    for arguments in (("--annotation", "tags"), ("--annotation", "tag", "--shrink", 0.5)):
        assert wss("prepare", *arguments).code == 2


def test_prepare_takes_points_and_boxes(fresh, wss):
    summary, _ = _prepared(wss, "--annotation", "point")
    thinned, _ = _prepared(wss, "--points")
    assert summary["coverage"] == thinned["coverage"] > 0
    around, _ = _prepared(wss, "--annotation", "point", "--halo", 3)
    assert around["coverage"] > 5 * summary["coverage"]
    summary, store = _prepared(wss, "--annotation", "box")
    boxes = [len(store.get("boxes", i)) for i in store.ids]
    assert (summary["with_boxes"], summary["boxes_per_image"]) == (len(boxes), pytest.approx(np.mean(boxes)))
    assert "boxes each" in wss("prepare", "--annotation", "box").out
    refused = wss("train", "--method", "pce")
    assert refused.code == 1
    assert "boxes label nothing but the background" in refused.err
    assert wss("prepare", "--annotation", "box", "--points").code == 2


def test_dense_training_follows_what_prepare_chose_of_masks(fresh, wss):
    _prepared(wss, "--annotation", "mask", "--fraction", 0.5)
    phases = "train.phases=[{epochs: 1, terms: {ce: 1}, lr: 0.01, head_multiplier: 1}]"
    assert wss("train", "--method", "dense", "--set", phases, "--json").json["images"] == 2


def test_prepare_is_done_once(fresh, wss):
    first = wss("prepare", "--shrink", 0.5)
    assert "prepare: running" in first.err
    second = wss("prepare", "--shrink", 0.5)
    assert "prepare: done already" in second.err
    assert second.out == first.out


QUICK_CAM = ["--set", "train.phases.0.epochs=1", "--set", "train.validation_split=null", "--set", "cam.scales=[1]"]


def test_cam_trains_a_classifier_and_writes_pictures(fresh, wss):
    result = wss("cam", "--out", "maps", "--json", *QUICK_CAM)
    assert result.code == 0, result.err
    summary = result.json
    assert summary["images"] == 4
    assert set(summary["average_precision"]) == {"water", "tree", "house", "car", "person", "ball"}
    assert sorted(p.name for p in (fresh / "maps").iterdir()) == sorted(p.split("/")[-1] for p in summary["files"])
    store = Store(summary["store"])
    for path in (fresh / "maps").iterdir():
        image_id, _, name = path.stem.rpartition("_")
        assert store.get("cam", image_id)[store.meta["classes"].index(name)].any()
        assert Image.open(path).size == (32, 32)
    again = wss("cam", *QUICK_CAM)
    assert "cam: done already" in again.err
    assert "mean average precision" in again.out
    assert wss("cam", "--split", "val", "--json", *QUICK_CAM).json["images"] == 2


def test_cam_follows_what_prepare_and_train_chose(fresh, wss):
    _prepared(wss, "--annotation", "tag", "--fraction", 0.5)
    assert wss("cam", "--json", *QUICK_CAM).json["images"] == 2
    quick = ["--epochs", 1, "--set", "train*.validation_split=null", "--set", "cam.scales=[1]", "--seed", 3]
    trained = wss("train", "--method", "sec", "--json", *quick)
    assert trained.code == 0, trained.err
    assert trained.json["images"] == 2
    shown = wss("cam", "--json")
    assert "train-classifier" in shown.err
    assert "cam: done already" in shown.err
    assert shown.json["images"] == 2


def test_train_options_count_more_than_settings(fresh, wss):
    phases = "train.phases=[{epochs: 9, terms: {pce: 1}}, {epochs: 9, terms: {pce: 1}}]"
    result = wss("train", "--set", phases, "--set", "train.batch_size=9", "--epochs", 1, "--batch-size", 2, "--json")
    assert result.code == 0, result.err
    store = Store(result.json["store"])
    assert [phase["epochs"] for phase in store.params["phases"]] == [1, 1]
    assert store.params["batch_size"] == 2


def test_train_sets_the_length_of_every_phase(fresh, wss):
    phases = "train.phases=[{epochs: 9, terms: {pce: 1}}, {steps: 9, terms: {pce: 1}}]"
    common = ("train", "--set", phases, "--set", "train.batch_size=2", "--json")
    for option, other in (("steps", "epochs"), ("epochs", "steps")):
        result = wss(*common, f"--{option}", 1)
        assert result.code == 0, result.err
        lengths = [(phase[option], phase[other]) for phase in Store(result.json["store"]).params["phases"]]
        assert lengths == [(1, None), (1, None)]
    both = wss(*common, "--epochs", 1, "--steps", 1)
    assert both.code == 2
    assert "--epochs and --steps both set the length of every phase; give only one of them" in both.err


def test_train_uses_what_prepare_chose_and_skips_the_second_time(fresh, wss):
    prepared, _ = _prepared(wss, "--shrink", 0.5)
    arguments = ("train", "--epochs", 1, "--batch-size", 2, "--lr", 0.001, "--json")
    first = wss(*arguments)
    assert first.code == 0, first.err
    assert "shrink 0.5" in first.err
    store = Store(first.json["store"])
    assert store.inputs["labels"][0]["key"] == prepared["key"]
    assert store.params["phases"][0]["epochs"] == 1
    assert store.params["phases"][0]["lr"] == 0.001
    assert first.json["step"] == 2
    log = next((fresh / "logs").glob("*/log.csv")).read_text().splitlines()
    assert len(log) == 2
    assert "loss" in log[0]
    written = artifact(fresh, "train").stat().st_mtime_ns
    second = wss(*arguments)
    assert "train: done already" in second.err
    assert second.json == first.json
    assert artifact(fresh, "train").stat().st_mtime_ns == written
    third = wss(*arguments, "--restart")
    assert "train: running" in third.err
    assert Store(third.json["store"]).digest == store.digest  # and gives the same network
    assert artifact(fresh, "train").stat().st_mtime_ns != written


def test_evaluate_follows_the_network_that_was_trained_last(work, wss):
    assert wss("prepare", "--shrink", 0.9).code == 0  # for later; does not change what is evaluated
    record = wss("evaluate", "--json").json
    assert "train: running" not in wss("evaluate").err
    assert record == json.loads((work / "metrics.json").read_text())


def test_commands_go_on_from_wss_run(work, wss):
    before = stores(work)
    result = wss("predict", "--out", "masks")
    assert result.code == 0
    assert stores(work) == before
    result = wss("evaluate")
    assert "evaluate: done already" in result.err
    assert stores(work) == before


def test_metrics_are_exactly_the_promised_ones(work, wss):
    result = wss("evaluate", "--json")
    assert set(result.json) == METRICS
    written = json.loads((work / "metrics.json").read_text())
    assert written == result.json
    assert written["num_classes"] == len(written["classes"]) == len(written["iou_per_class"]) == 7
    assert list(written["iou_per_class"]) == written["classes"]
    assert written["num_images"] == 2
    assert (written["crf"], written["scales"], written["flip"]) == (False, [1.0], False)
    assert (written["split"], written["method"], written["backbone"]) == ("val", "pce", "unet")
    numbers = [written[n] for n in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")]
    assert all(0 <= n <= 1 for n in numbers)
    assert all(v is None or 0 <= v <= 1 for v in written["iou_per_class"].values())
    scored = [v for v in written["iou_per_class"].values() if v is not None]
    assert written["miou"] == pytest.approx(sum(scored) / len(scored))


def test_evaluate_options_are_recorded_and_kept_apart(work, wss):
    plain = wss("evaluate", "--json").json
    record = wss("evaluate", "--crf", "--scales", "0.5,1", "--flip", "--split", "train", "--json").json
    assert (record["crf"], record["scales"], record["flip"]) == (True, [0.5, 1.0], True)
    assert (record["split"], record["num_images"]) == ("train", 4)
    assert record["store_key"] != plain["store_key"]
    assert json.loads((work / "metrics.json").read_text()) == record
    assert wss("evaluate", "--json").json == plain
    assert json.loads((work / "metrics.json").read_text()) == plain
    assert_whole(work)


def test_evaluate_with_a_walk_at_test_time(work, wss):
    plain = wss("evaluate", "--json").json
    assert "walk" not in plain
    record = wss("evaluate", "--walk", "--json").json
    assert record["walk"] == {"stride": 8, "scale": 5.0, "alpha": 0.5}
    assert record["store_key"] != plain["store_key"]
    again = wss("evaluate", "--set", "predict.test_time.walk=true", "--json").json
    assert again == record
    other = wss("evaluate", "--walk", "--crf", "--set", "predict.test_time.walk.alpha=0.3", "--json").json
    assert other["walk"] == {"stride": 8, "scale": 5.0, "alpha": 0.3}
    assert other["crf"]
    out = wss("evaluate", "--walk").out
    assert "pce + walk on 2 images" in out
    assert "walk (stride 8, scale 5, alpha 0.5)" in out
    result = wss("evaluate", "--walk", "--set", "predict.test_time.walk.stride=6")
    assert result.code == 2
    assert "test_time.walk.stride" in result.said
    assert wss("evaluate", "--json").json == plain


def test_predict_with_a_walk_at_test_time(work, wss):
    for out, options in (("plain", ()), ("walked", ("--walk",))):
        assert wss("predict", "--out", out, "--probs", "--no-overlays", *options).code == 0
    first = min(path.name for path in (work / "plain").glob("*.npy"))
    probs = [np.load(work / folder / first) for folder in ("plain", "walked")]
    assert not np.array_equal(*probs)


def test_evaluate_prints_a_table(work, wss):
    out = wss("evaluate").out
    for text in ("background", "mIoU", "pixel accuracy", "metrics.json"):
        assert text in out


def test_evaluate_scores_bands_along_boundaries(work, wss):
    plain = wss("evaluate", "--json").json
    result = wss("evaluate", "--trimap", "2,8", "--json")
    assert set(result.json) == METRICS | {"trimap_miou", "trimap_accuracy"}
    assert set(result.json["trimap_miou"]) == set(result.json["trimap_accuracy"]) == {"2", "8"}
    assert {name: result.json[name] for name in METRICS} == plain
    assert "within 8 px of a boundary: mIoU" in wss("evaluate", "--trimap", "2,8").out
    for text in ("0", "2,2", "1.5", "near"):
        refused = wss("evaluate", "--trimap", text)
        assert refused.code == 2
        assert f"--trimap {text}: expected different whole numbers" in refused.err
    assert wss("evaluate", "--json").json == plain


def test_volumes_add_two_entries_to_the_metrics(cells, wss):
    root = cells.parent / "cells"
    for part in ("images", "masks", "scribbles"):
        for n in range(6):
            (root / part / f"c{n}.png").rename(root / part / f"patient{n // 4}_slice_{n}.png")
    (root / "train.txt").write_text("".join(f"patient0_slice_{n}\n" for n in range(4)))
    (root / "val.txt").write_text("patient1_slice_4\npatient1_slice_5\n")
    (cells / "wss.yaml").write_text(
        "dataset: {kind: folder, root: ../cells, volume_pattern: '(?P<volume>patient\\d+)_slice_(?P<slice>\\d+)'}\n"
    )
    assert wss("run", "pce", *QUICK).code == 0
    record = wss("evaluate", "--json").json
    assert set(record) == METRICS | {"dice_per_class", "hd95_per_class"}
    assert set(record["dice_per_class"]) == {"cell", "wall"}
