"""Each command as a user meets it: what it prints, writes and remembers."""

import json

import h5py
import numpy as np
import pytest
import yaml
from commands import QUICK, artifact, assert_whole, stores, write_cells
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


# --- init and data ---------------------------------------------------------------------------------------------------


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


# --- prepare ---------------------------------------------------------------------------------------------------------


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


# --- cam -------------------------------------------------------------------------------------------------------------

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


# --- train, predict, evaluate, report --------------------------------------------------------------------------------


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


def test_predict_reads_every_kind_of_picture(work, wss):
    rng = np.random.default_rng(0)
    pictures = work / "pictures"
    (pictures / "deep" / "er").mkdir(parents=True)
    grey = rng.integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(grey).save(pictures / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 100).save(pictures / "deep16.png")
    Image.fromarray(rng.integers(0, 256, (1, 1, 3), np.uint8)).save(pictures / "tiny.png")
    Image.fromarray(rng.integers(0, 256, (1, 50, 3), np.uint8)).save(pictures / "line.png")
    Image.fromarray(rng.integers(0, 256, (33, 21, 3), np.uint8)).convert("P").save(pictures / "deep" / "palette.gif")
    Image.fromarray(rng.integers(0, 256, (20, 30, 4), np.uint8)).save(pictures / "deep" / "er" / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).convert("RGB").save(pictures / "turned.jpg", exif=exif)
    (pictures / "notes.txt").write_text("no picture")
    result = wss("predict", pictures, "--out", "masks", "--probs", "--json")
    assert result.code == 0, result.err
    assert result.json["images"] == 7
    sizes = {
        "grey": (20, 30),
        "deep16": (20, 30),
        "tiny": (1, 1),
        "line": (1, 50),
        "deep/palette": (33, 21),
        "deep/er/alpha": (20, 30),
        "turned": (30, 20),
    }
    store = Store(artifact(work, "samples"))
    for name, size in sizes.items():
        mask = Image.open(work / "masks" / f"{name}.png")
        labels = np.array(mask)
        assert mask.mode == "P", name
        assert labels.shape == size, name
        assert labels.max() < 7
        assert mask.getpalette()[: 7 * 3] == [v for colour in store.meta["palette"] for v in colour]
        probs = np.load(work / "masks" / f"{name}_probs.npy")
        assert probs.shape == (7, *size)
        assert probs.dtype == np.float16
        assert (probs.argmax(0) == labels).mean() > 0.95
        assert np.array(Image.open(work / "masks" / f"{name}_overlay.png")).shape == (*size, 3)
    assert len(result.json["files"]) == 21
    assert all((work / path).is_file() for path in result.json["files"])
    assert_whole(work)


def test_predict_of_the_split_equals_the_stored_predictions(work, wss):
    assert wss("predict", "--out", "masks", "--no-overlays").code == 0
    store = Store(artifact(work, "predict"))
    assert sorted(p.stem for p in (work / "masks").iterdir()) == sorted(store.ids)
    for image_id in store.ids:
        labels = np.array(Image.open(work / "masks" / f"{image_id}.png"))
        assert (labels == store.get("labels", image_id)).all()


def test_predict_goes_through_the_network_as_its_pipeline_does(work, wss):
    """The scales of a preset hold for `wss predict` too, and options of the command win over them."""
    (work / "mine.yaml").write_text("every: {predict: {test_time: {scales: [0.5, 1], flip: true}}}")
    said = "predicting as the network's pipeline does: scales [0.5, 1], flip yes"
    assert said not in wss("predict", "--out", "plain", "--no-overlays", "--probs").err
    assert wss("run", "pce", "--preset", "mine.yaml", *QUICK).code == 0
    result = wss("predict", "--out", "masks", "--no-overlays", "--probs")
    assert said in result.said
    for path in (work / "masks").glob("*_probs.npy"):
        assert np.abs(np.load(path).astype(float) - np.load(work / "plain" / path.name).astype(float)).max() > 1e-3
    assert wss("predict", "--out", "one", "--no-overlays", "--probs", "--scales", "1").code == 0
    one = {path.name: np.load(path) for path in (work / "one").glob("*_probs.npy")}
    assert any(np.abs(one[name] - np.load(work / "masks" / name)).max() > 1e-3 for name in one)


def test_settings_of_the_crf_without_it_are_refused(work, wss):
    for option in (("--crf-preset", "vgg16"), ("--crf-backend", "native")):
        result = wss("evaluate", *option)
        assert result.code == 2
        assert "give --crf as well" in result.said


def test_predict_with_a_checkpoint_needs_no_workspace(work, wss, tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    options = ("--scales", "0.5,1", "--flip", "--window", 16)
    assert wss("predict", "a.png", "--checkpoint", artifact(work, "train"), "--out", "o", *options).code == 0
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"a.png", "a_overlay.png"}
    assert not (tmp_path / "artifacts" / "train").exists()


def test_predict_leaves_out_what_cannot_be_read_and_says_so_at_the_end(work, wss):
    for name in "ac":
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(work / f"{name}.png")
    (work / "b.png").write_text("text")
    (work / "d.png").touch()
    result = wss("predict", "b.png", "a.png", "d.png", "c.png", "--out", "o", "--no-overlays", "--json")
    assert result.code == 1
    assert result.json["images"] == 2
    assert result.json["files"] == ["o/a.png", "o/c.png"]
    assert set(result.json["faults"]) == {"b", "d"}
    assert {path.name for path in (work / "o").iterdir()} == {"a.png", "c.png"}
    assert "2 of 4 images left out" in result.said
    assert "b.png: not an image" in result.said
    assert "d.png" in result.said.split("b.png")[1]


def test_predict_does_not_take_its_own_results_for_images(work, wss):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(work / "a.png")
    for _ in range(2):
        assert wss("predict", ".", "--out", "predictions", "--json").json["images"] == 1


def test_report_shows_every_evaluation(work, wss):
    assert wss("evaluate", "--flip").code == 0
    result = wss("report", "--title", "Cells, 2026", "--json")
    assert result.code == 0, result.err
    assert result.json["runs"] == 3  # plain, with CRF, and with the mirrored image
    page = (work / "report.html").read_text()
    assert "Cells, 2026" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert wss("report", "--title", "Cells, 2026").code == 0


# --- run and its pipelines -------------------------------------------------------------------------------------------


def test_run_prints_scores_of_networks_and_of_labels_alike(fresh, wss):
    phases = "train.phases=[{epochs: 1, terms: {rawks: 1}}]"
    result = wss("run", "rawks", "--set", "train.batch_size=2", "--set", phases)
    assert result.code == 0, result.err
    heads = [line.split() for line in result.out.splitlines() if line.endswith("mIoU %")]
    assert heads == [["evaluate", "method", "mIoU", "%"], ["label-quality", "name", "mIoU", "%"]]


def test_dry_run_says_what_would_happen_and_makes_nothing(fresh, wss):
    rows = wss("run", "pce", "--dry-run", "--json").json["stages"]
    assert [row["id"] for row in rows][:3] == ["samples", "prepare", "train"]
    assert rows[0]["state"] == "missing"
    assert {row["state"] for row in rows[1:]} == {"unknown"}
    assert not stores(fresh)
    assert "state.yaml" not in {p.name for p in fresh.iterdir()}


def test_second_run_skips_every_stage(work, wss):
    assert {row["state"] for row in wss("run", "pce", *QUICK, "--dry-run", "--json").json["stages"]} == {"done"}
    before = {p: p.stat().st_mtime_ns for p in stores(work)}
    rows = wss("run", "pce", *QUICK, "--json").json
    assert all(row["skipped"] for row in rows)
    assert {p: p.stat().st_mtime_ns for p in stores(work)} == before
    changed = wss("run", "pce", *QUICK, "--set", "crf.preset=vgg16", "--json").json
    assert [row["id"] for row in changed if not row["skipped"]] == ["crf", "evaluate-crf", "report"]


def test_run_takes_a_file_and_later_commands_find_it_from_anywhere(fresh, wss, tmp_path, monkeypatch):
    (fresh / "mine.yaml").write_text(
        "title: Mine\n"
        "stages:\n"
        "  - stage: samples\n"
        "  - {stage: prepare, inputs: {samples: samples}}\n"
        "  - stage: train\n"
        "    inputs: {samples: samples, labels: prepare}\n"
        "    params: {method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}], batch_size: 2}\n"
        "  - {stage: predict, inputs: {samples: samples, model: train}}\n"
        "  - {stage: evaluate, inputs: {samples: samples, predictions: predict}}\n"
    )
    assert wss("run", "mine.yaml").code == 0
    before = stores(fresh)
    monkeypatch.chdir(tmp_path)
    result = wss("evaluate", "--workspace", fresh)
    assert result.code == 0, result.err
    assert stores(fresh) == before


def test_workspace_comes_from_the_environment(fresh, wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSS_WORKSPACE", str(fresh))
    assert wss("prepare").code == 0
    assert stores(fresh)
    assert not (tmp_path / "artifacts").exists()


def test_without_a_configuration_the_sample_data_set_is_used_and_named(tmp_path, wss, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = wss("run", "pce", "--dry-run")
    assert result.code == 0
    assert "embedded sample data set" in result.err
    assert "wss init" in result.err


# --- looking and tidying up ------------------------------------------------------------------------------------------


def test_status_lists_artifacts_and_choices(work, wss):
    facts = wss("status", "--json").json
    assert facts["dataset"]["kind"] == "sample"
    assert facts["state"]["train"]["pipeline"] == "pce"
    assert {row["stage"] for row in facts["artifacts"]} == {p.parent.name for p in stores(work)}
    assert {row["state"] for row in facts["artifacts"]} == {"whole"}
    assert "last train" in wss("status").out


def _damage(path, dataset):
    with h5py.File(path, "r+") as file:
        values = file[dataset]
        values[...] = values[()] ^ 1


def test_verify_finds_one_changed_byte(work, wss):
    assert wss("verify").code == 0
    assert all(row["whole"] for row in wss("verify", "--json").json)
    path = artifact(work, "samples")
    _damage(path, "image/data")
    result = wss("verify", "--json")
    assert result.code == 1
    assert [row["stage"] for row in result.json if not row["whole"]] == ["samples"]
    shown = wss("verify")
    assert shown.code == 1
    assert "remove" in shown.out
    path.unlink()
    assert wss("run", "pce", *QUICK).code == 0
    assert wss("verify").code == 0


def test_gc_removes_leftovers_and_keeps_results(work, wss):
    before = stores(work)
    folder = work / "artifacts" / "predict"
    key = "0" * 64
    dead = 2**22 + 1  # no such process
    leftovers = [folder / f"{key}.h5.{dead}.tmp", folder / f"{key}.lock", work / f"metrics.json.{dead}.tmp"]
    done = [before[0].with_suffix(".partial")]
    partial = folder / f"{key}.partial"
    for path in (*leftovers, *done, partial):
        path.write_bytes(b"x")
    listed = wss("gc", "--dry-run", "--json").json
    assert {*map(str, leftovers + done)} == {str(work / p) for p in listed["files"]}
    assert all(path.exists() for path in leftovers)
    assert wss("gc").code == 0
    assert not any(path.exists() for path in leftovers + done)
    assert partial.exists()
    assert wss("gc", "--days", 1, "--partials").code == 0
    assert partial.exists()
    assert wss("gc", "--partials").code == 0
    assert not partial.exists()
    assert stores(work) == before


def test_gc_all_keeps_what_the_last_runs_used(work, wss):
    before = stores(work)
    assert wss("gc", "--all").code == 0
    assert stores(work) == before
    assert wss("prepare", "--shrink", 0.5).code == 0
    assert wss("prepare", "--shrink", 0.7).code == 0
    assert wss("gc", "--all").code == 0
    (last,) = [p for p in stores(work) if p.parent.name == "prepare" and p not in before]
    assert Store(last).params["shrink"] == 0.7
    assert_whole(work)


def test_gc_all_keeps_the_network_when_other_labels_were_prepared(work, wss):
    before = stores(work)
    assert wss("prepare", "--shrink", 0.5).code == 0
    assert wss("gc", "--all").code == 0
    assert set(before) < set(stores(work))


def test_gc_all_removes_a_data_set_that_was_read_again(tmp_path, wss):
    """As ``keep: encoded`` does, although the records of other commands name the former store."""
    write_cells(tmp_path / "cells")
    place = ("-w", tmp_path / "w")
    assert wss("init", "-k", "folder", "-r", tmp_path / "cells", *place).code == 0
    assert wss("superpixels", *place).code == 0
    (before,) = (tmp_path / "w/artifacts/samples").glob("*.h5")
    assert wss("init", "-o", "keep=encoded", *place).code == 0
    assert wss("prepare", *place).code == 0
    assert len(list(before.parent.glob("*.h5"))) == 2
    assert wss("gc", "--all", "--json", *place).json["files"] == [str(before)]
    assert "superpixels: done already" in wss("superpixels", *place).said


def test_gc_leaves_files_of_living_processes_alone(work, wss):
    import fcntl
    import os

    folder = work / "artifacts" / "predict"
    key = "0" * 64
    mine = folder / f"{key}.h5.{os.getppid()}.tmp"
    for path in (mine, folder / f"{key}.partial", folder / f"{key}.lock"):
        path.write_bytes(b"")
    with (folder / f"{key}.lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert wss("gc", "--partials", "--json").json["files"] == []
    assert mine.exists()


def test_methods_pipelines_and_doctor(wss, fresh):
    methods = {row["name"]: row for row in wss("methods", "--json").json}
    assert methods["pce"]["terms"] == ["absent", "pce"]
    pipelines = {row["name"]: row for row in wss("pipelines", "--json").json}
    assert all(any(p == m or p.startswith(f"{m}-") for p in pipelines) for m in methods)
    assert "train" in pipelines["pce"]["stages"]
    facts = wss("doctor", "--json").json
    assert facts["cores"] == 1
    assert facts["writable"] is True
    for command in ("methods", "pipelines", "doctor"):
        assert len(wss(command).out.splitlines()) > 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "info"),
        ("data", "check"),
        ("prepare",),
        ("run", "pce", *QUICK),
        ("run", "pce", "--dry-run"),
        ("predict", "--out", "o"),
        ("evaluate",),
        ("report",),
        ("status",),
        ("verify",),
        ("gc",),
        ("methods",),
        ("pipelines",),
        ("doctor",),
    ],
    ids=lambda a: " ".join(a[:2]),
)
def test_json_is_one_line_and_all_of_stdout(work, wss, arguments):
    result = wss(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.out.endswith("\n")
    assert result.out.count("\n") == 1
    json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "running" not in result.out


def test_quiet_says_nothing_and_verbose_shows_parameters(fresh, wss):
    result = wss("prepare", "--quiet")
    assert result.err == ""
    assert result.out
    assert "'shrink': 0.0" in wss("prepare", "--verbose").err


def test_drawings_are_converted_without_a_workspace(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cells(tmp_path / "cells")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "wss.yaml").write_text("dataset: {kind: folder, root: ../cells}\n")
    written = wss("data", "convert", "--to", "painted", "--out", "tifs", "-w", "work", "--json").json
    assert len(written) == 6
    arguments = ("--classes", "cells/classes.txt", "--to", "png", "--out", "back", "--json")
    assert len(wss("data", "convert", "tifs", "--from", "painted", *arguments).json) == 6
    for name in ("c0", "c5"):
        wanted, found = (np.array(Image.open(f"{folder}/{name}.png")) for folder in ("cells/scribbles", "back"))
        np.testing.assert_array_equal(found, wanted)
    for wrong, hint in ((("--from", "paint"), "painted"), ((), "which program")):
        result = wss("data", "convert", "tifs", *wrong, *arguments)
        assert result.code == 2
        assert hint in result.said
    result = wss("data", "convert", "tifs", "--from", "painted", "--to", "png", "--out", "back")
    assert result.code == 2
    assert "--classes" in result.said
    result = wss("data", "convert", "--from", "painted", *arguments, "-w", "work")
    assert result.code == 2
