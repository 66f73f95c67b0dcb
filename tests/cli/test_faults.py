"""What goes wrong at users' desks: the exit code, a message with the remedy, no traceback, and nothing lost."""

import errno
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from commands import QUICK, artifact, assert_whole, call, stores
from PIL import Image

USAGE, FAILURE = 2, 1


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Of the test.
        command: Arguments of ``wss``.
        code: Exit code.
        says: Parts of the message: what is wrong, where, and the remedy.
        arrange: Makes the fault, given the workspace.
        damaged: Stages whose store is damaged by ``arrange``.
    """

    name: str
    command: tuple[object, ...]
    code: int
    says: tuple[str, ...]
    arrange: Callable[[Path], None] = lambda work: None
    damaged: tuple[str, ...] = ()


def _ids(faults):
    return [fault.name for fault in faults]


def _expect(fault, work):
    """Arrange the fault, run the command, and check what it says and leaves."""
    fault.arrange(work)
    damaged = [path for path in stores(work) if path.parent.name in fault.damaged]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in stores(work)}
    result = call(*fault.command)
    assert result.code == fault.code, result.err
    assert result.out == ""
    for text in fault.says:
        assert text in result.said
    assert len(result.said) < 1500
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in before} == before
    assert_whole(work, damaged)
    return result


# --- wrong requests --------------------------------------------------------------------------------------------------


def _write(name, text):
    def arrange(work):
        (work / name).write_text(text)

    return arrange


PIPELINE = "stages:\n  - stage: samples\n  - {stage: prepare, inputs: {samples: samples}}\n"

REQUESTS = [
    Fault("command", ("trian",), USAGE, ("trian", "Did you mean", "train")),
    Fault("option", ("train", "--epoch", 3), USAGE, ("--epoch", "--epochs")),
    Fault("method", ("train", "--method", "pcee"), USAGE, ("'pcee'", "did you mean 'pce'")),
    Fault("method that is a longer pipeline", ("train", "--method", "quickstart"), USAGE, ("quickstart", "train-pce")),
    Fault(
        "method in --set",
        ("train", "--set", "train.method.name=pcee"),
        USAGE,
        ("method", "'pcee'", "did you mean 'pce'"),
    ),
    Fault("pipeline", ("run", "pcee"), USAGE, ("'pcee'", "did you mean 'pce'")),
    Fault("pipeline file", ("run", "mine.yaml"), USAGE, ("mine.yaml", "no such pipeline file")),
    Fault("network", ("train", "--network", "unett"), USAGE, ("network.name", "'unet'", "'unett'")),
    Fault(
        "backbone",
        ("train", "--network", "deeplab-v2", "--backbone", "resnet19"),
        USAGE,
        ("backbone", "resnet18", "19"),
    ),
    Fault("no backbone", ("train", "--network", "deeplab-v2"), USAGE, ("deeplab-v2", "needs a backbone", "resnet18")),
    Fault(
        "backbone of a network without", ("train", "--backbone", "resnet18"), USAGE, ("unet has no backbone", "leave")
    ),
    Fault("evaluation split", ("evaluate", "--split", "vall"), USAGE, ("'vall'", "did you mean 'val'")),
    Fault("prediction split", ("predict", "--split", "tset"), USAGE, ("'tset'", "known: train, val")),
    Fault(
        "simulation split",
        ("data", "simulate", "-o", "s", "--split", "trian"),
        USAGE,
        ("trian", "did you mean 'train'"),
    ),
    Fault("scribble format", ("data", "convert", "-o", "s", "--to", "svg"), USAGE, ("svg", "png")),
    Fault(
        "parameter", ("run", "pce", "--set", "train.batchsize=4"), USAGE, ("'batchsize'", "did you mean 'batch_size'")
    ),
    Fault("nested parameter", ("train", "--set", "train.augment.flipp=true"), USAGE, ("flipp", "did you mean 'flip'")),
    Fault("stage in --set", ("run", "pce", "--set", "trian.batch_size=4"), USAGE, ("'trian'", "did you mean 'train'")),
    Fault("form of --set", ("run", "pce", "--set", "batch_size"), USAGE, ("--set batch_size", "stage.param=value")),
    Fault("value of --set", ("run", "pce", "--set", "train.batch_size=["), USAGE, ("train.batch_size", "YAML")),
    Fault(
        "type of a value", ("run", "pce", "--set", "train.batch_size=many"), USAGE, ("batch_size", "integer", "'many'")
    ),
    Fault("negative value", ("run", "pce", "--set", "train.batch_size=-1"), USAGE, ("batch_size", "greater", "-1")),
    Fault("infinite rate", ("run", "pce", "--set", "crf.bi_weight=.inf"), USAGE, ("bi_weight", "finite")),
    Fault("negative rate", ("train", "--lr", "-1"), USAGE, ("lr", "greater than 0", "-1")),
    Fault("no epochs", ("train", "--epochs", 0), USAGE, ("--epochs",)),
    Fault("loss term", ("train", "--set", "train.phases=[{epochs: 1, terms: {ce: 1}}]"), USAGE, ("'ce'", "pce")),
    Fault("shrink", ("prepare", "--shrink", 1.5), USAGE, ("--shrink", "1")),
    Fault("shrink is no number", ("prepare", "--shrink", "half"), USAGE, ("--shrink", "number")),
    Fault(
        "shrink and length", ("prepare", "--shrink", 0.5, "--length", 0.5), USAGE, ("--shrink", "--length", "one of")
    ),
    Fault(
        "points and shrink",
        ("prepare", "--points", "--shrink", 0.5),
        USAGE,
        ("points", "shrink", "set either points or shrink"),
    ),
    Fault("fraction", ("prepare", "--fraction", 0), USAGE, ("fraction", "greater than 0")),
    Fault("drop", ("prepare", "--drop", -0.1), USAGE, ("--drop", "0")),
    Fault("seed", ("prepare", "--seed", -1), USAGE, ("--seed", "0")),
    Fault("source of scribbles", ("prepare", "--source", "drawn"), USAGE, ("source", "'given'", "'drawn'")),
    Fault("scales are words", ("evaluate", "--scales", "a,b"), USAGE, ("--scales a,b", "0.5,0.75,1,1.25")),
    Fault("scale of zero", ("evaluate", "--scales", "1,0"), USAGE, ("--scales 1,0", "0.05")),
    Fault("scale of zero in --set", ("run", "pce", "--set", "predict.test_time.scales=[0]"), USAGE, ("scales", "0")),
    Fault("no scale", ("evaluate", "--scales", ""), USAGE, ("--scales", "numbers")),
    Fault("CRF preset", ("evaluate", "--crf", "--crf-preset", "vgg61"), USAGE, ("preset", "vgg16", "vgg61")),
    Fault("CRF engine", ("evaluate", "--crf", "--crf-backend", "gpu"), USAGE, ("backend", "native", "gpu")),
    Fault("CRF without probabilities", ("evaluate", "--crf", "--set", "predict.probs=false"), USAGE, ("probs: true",)),
    Fault("window", ("predict", "--window", 3), USAGE, ("--window", "16")),
    Fault("device", ("train", "--device", "tpu"), USAGE, ("--device tpu", "cpu")),
    Fault("no GPU", ("train", "--device", "cuda"), USAGE, ("--device cuda", "0 usable", "--device cpu")),
    Fault("no such GPU", ("evaluate", "--device", "cuda:7"), USAGE, ("cuda:7", "--device cpu")),
    Fault("jobs", ("train", "--jobs", -2), USAGE, ("--jobs", "0")),
    Fault("published weights", ("train", "--set", "train.weights=coco"), USAGE, ("coco", "--weights FILE")),
    Fault("published weights by name", ("train", "--weights", "coco"), USAGE, ("coco", "--weights FILE")),
    Fault(
        "steps outside of a phase",
        ("train", "--set", "train.steps=5"),
        USAGE,
        ("'steps'", "did you mean 'phases.*.steps'?"),
    ),
    Fault("crop outside of augment", ("train", "--set", "train.crop=64"), USAGE, ("did you mean 'augment.crop'?",)),
    Fault("kind", ("init", "--kind", "foldr", "-w", "new"), USAGE, ("'foldr'", "did you mean 'folder'")),
    Fault("no root", ("init", "--kind", "folder", "-w", "new"), USAGE, ("folder", "--root DIR")),
    Fault("missing root", ("init", "-k", "voc", "-r", "nowhere", "-w", "new"), FAILURE, ("nowhere", "no such folder")),
    Fault(
        "data option",
        ("init", "-k", "sample", "-o", "trian=3", "-w", "new"),
        USAGE,
        ("'trian'", "did you mean 'train'"),
    ),
    Fault(
        "form of a data option", ("init", "-k", "sample", "-o", "train", "-w", "new"), USAGE, ("train", "NAME=VALUE")
    ),
    Fault("value of a data option", ("init", "-k", "sample", "-o", "train=[", "-w", "new"), USAGE, ("train=[", "YAML")),
    Fault("size of the sample", ("init", "-k", "sample", "-o", "width=8", "-w", "new"), USAGE, ("32x32", "width 8")),
    *(
        Fault(f"{name} of no workspace", (name, "-w", "nowhere"), USAGE, ("nowhere", "no such folder", "--workspace"))
        for name in ("status", "verify", "gc")
    ),
    Fault("second init", ("init", "--kind", "sample"), USAGE, ("wss.yaml", "--force")),
    Fault("pipeline is no YAML", ("run", "p.yaml"), USAGE, ("p.yaml", "not valid YAML"), _write("p.yaml", "stages: [")),
    Fault("pipeline is a list", ("run", "p.yaml"), USAGE, ("p.yaml", "'stages'"), _write("p.yaml", "[1, 2]")),
    Fault(
        "unknown stage",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'trian'", "did you mean 'train'"),
        _write("p.yaml", PIPELINE + "  - stage: trian\n"),
    ),
    Fault(
        "input of another kind",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'samples'", "must be samples", "'prepare' makes labels"),
        _write("p.yaml", PIPELINE + "  - {id: again, stage: prepare, inputs: {samples: prepare}}\n"),
    ),
    Fault(
        "unknown input",
        ("run", "p.yaml"),
        USAGE,
        ("'sample'", "did you mean 'samples'"),
        _write("p.yaml", PIPELINE + "  - {id: again, stage: prepare, inputs: {sample: samples}}\n"),
    ),
    Fault(
        "missing input",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'again'", "'samples'", "is missing"),
        _write("p.yaml", PIPELINE + "  - {id: again, stage: prepare}\n"),
    ),
    Fault(
        "two stages of one name",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'prepare'", "'id'"),
        _write("p.yaml", PIPELINE + "  - {stage: prepare, inputs: {samples: samples}}\n"),
    ),
    Fault(
        "nothing to configure",
        ("prepare",),
        USAGE,
        ("wss.yaml", "'dataset'", "wss init"),
        _write("wss.yaml", "datset: {}"),
    ),
    Fault(
        "configuration is no YAML",
        ("prepare",),
        USAGE,
        ("wss.yaml", "not valid YAML"),
        _write("wss.yaml", "dataset: ["),
    ),
    Fault("no kind", ("prepare",), USAGE, ("wss.yaml", "'kind'", "required"), _write("wss.yaml", "dataset: {root: x}")),
    Fault("no root given", ("prepare",), USAGE, ("voc", "--root"), _write("wss.yaml", "dataset: {kind: voc}")),
    Fault(
        "root is gone",
        ("train",),
        FAILURE,
        ("gone", "no such folder"),
        _write("wss.yaml", "dataset: {kind: voc, root: gone}"),
    ),
    Fault(
        "unknown data option",
        ("status",),
        USAGE,
        ("'rooot'", "did you mean"),
        _write("wss.yaml", "dataset: {kind: sample, options: 3, rooot: x}"),
    ),
    Fault("state is no YAML", ("evaluate",), USAGE, ("state.yaml", "not valid YAML"), _write("state.yaml", "train: [")),
    Fault(
        "state of another shape", ("evaluate",), USAGE, ("state.yaml", "remove it"), _write("state.yaml", "train: 5")
    ),
]


@pytest.mark.parametrize("fault", REQUESTS, ids=_ids(REQUESTS))
def test_wrong_requests(fault, work, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    _expect(fault, work)
    assert not (work / "new").exists()
    assert not (work / "s").exists()


# --- images to predict, networks, stores -----------------------------------------------------------------------------


def _picture(path, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def _pictures(*names):
    def arrange(work):
        for name in names:
            _picture(work / name)

    return arrange


def _folder(name):
    return lambda work: (work / name).mkdir()


def _cut(stage, size):
    def arrange(work):
        path = artifact(work, stage)
        path.write_bytes(path.read_bytes()[:size])

    return arrange


def _of_another_version(work):
    with h5py.File(artifact(work, "train"), "r+") as file:
        file.attrs["schema_version"] = 99
    artifact(work, "train").rename(work / "old.h5")


def _save(name, value):
    return lambda work: torch.save(value, work / name)


def _pickled(work):
    (work / "weights.pth").write_bytes(pickle.dumps(Path))


def _cut_weights(work):
    torch.save({"a": torch.zeros(1000)}, work / "weights.pth")
    (work / "weights.pth").write_bytes((work / "weights.pth").read_bytes()[:500])


def _two_names(work):
    _picture(work / "a" / "x.png")
    _picture(work / "b" / "x.jpg")


FILES = [
    Fault("missing image", ("predict", "x.png"), FAILURE, ("x.png", "no such image")),
    Fault("text for an image", ("predict", "x.png"), FAILURE, ("x.png", "not an image"), _write("x.png", "text")),
    Fault("empty image", ("predict", "x.png"), FAILURE, ("x.png", "empty"), _write("x.png", "")),
    Fault("empty folder", ("predict", "pictures"), FAILURE, ("pictures", "no images", ".png"), _folder("pictures")),
    Fault("equal names", ("predict", "a/x.png", "b/x.jpg"), USAGE, ("a/x.png", "b/x.jpg", "separately"), _two_names),
    Fault(
        "name of an overlay",
        ("predict", "a", "-o", "o"),
        USAGE,
        ("x.png", "x_overlay.png", "separately"),
        _pictures("a/x.png", "a/x_overlay.png"),
    ),
    Fault(
        "into the images", ("predict", "a", "-o", "a"), USAGE, ("a/x.png", "overwritten", "--out"), _pictures("a/x.png")
    ),
    Fault("into a file", ("predict", "-o", "o"), FAILURE, ("o/", "cannot be written"), _write("o", "a file")),
    Fault("missing network", ("predict", "--checkpoint", "no.h5"), FAILURE, ("no.h5", "no such store", "wss train")),
    Fault("no network", ("predict", "--checkpoint", "n.h5"), FAILURE, ("n.h5", "not a readable"), _write("n.h5", "x")),
    Fault(
        "old network",
        ("predict", "--checkpoint", "old.h5"),
        FAILURE,
        ("old.h5", "version 99", "version 1", "wss train"),
        _of_another_version,
    ),
    Fault("missing weights", ("train", "--weights", "w.pth", *QUICK), FAILURE, ("w.pth", "no such file", "state dict")),
    Fault(
        "weights are text",
        ("train", "--weights", "w.pth", *QUICK),
        FAILURE,
        ("w.pth", "torch.save"),
        _write("w.pth", "hello"),
    ),
    Fault(
        "weights run code", ("train", "--weights", "weights.pth", *QUICK), FAILURE, ("weights.pth", "code"), _pickled
    ),
    Fault("weights are cut", ("train", "--weights", "weights.pth", *QUICK), FAILURE, ("weights.pth",), _cut_weights),
    Fault(
        "weights are a list",
        ("train", "--weights", "w.pth", *QUICK),
        FAILURE,
        ("w.pth", "state dict", "list"),
        _save("w.pth", [1, 2]),
    ),
    Fault(
        "weights of another network",
        ("train", "--weights", "w.pth", *QUICK),
        FAILURE,
        ("w.pth", "do not fit", "conv1.weight"),
        _save("w.pth", {"conv1.weight": torch.zeros(3)}),
    ),
    Fault("cut samples", ("evaluate",), FAILURE, ("samples", "remove it"), _cut("samples", 9000), ("samples",)),
    Fault("empty network", ("evaluate",), FAILURE, ("train/", "remove it"), _cut("train", 0), ("train",)),
    Fault(
        "cut predictions",
        ("evaluate", "--crf"),
        FAILURE,
        ("predict/", "remove it"),
        _cut("predict", 5000),
        ("predict",),
    ),
    Fault(
        "diverging loss",
        ("train", "--set", "train.phases=[{epochs: 3, terms: {pce: 1}, lr: 1e30}]", "--batch-size", 1),
        FAILURE,
        ("no longer finite", "lower the learning rate", "clip_norm"),
    ),
]


@pytest.mark.parametrize("fault", FILES, ids=_ids(FILES))
def test_bad_files(fault, work):
    pictures = {path: path.read_bytes() for path in work.glob("*/x*.png") if path.parent.name in "ab"}
    _expect(fault, work)
    assert {path: path.read_bytes() for path in pictures} == pictures


def test_a_store_for_another_purpose_is_refused(work):
    fault = Fault(
        "", ("predict", "--checkpoint", artifact(work, "samples")), FAILURE, ("holds samples", "model is needed")
    )
    _expect(fault, work)


def test_images_survive_when_they_would_be_overwritten(work):
    _picture(work / "a" / "x.png")
    before = (work / "a" / "x.png").read_bytes()
    assert call("predict", "a/x.png", "--out", "a").code == USAGE
    assert (work / "a" / "x.png").read_bytes() == before


def test_a_damaged_store_is_rebuilt_once_removed(work):
    path = artifact(work, "predict")
    miou = call("evaluate", "--json").json["miou"]
    path.write_bytes(path.read_bytes()[:4000])
    assert str(path.name) in call("evaluate").err
    assert call("gc").code == 0  # removes stores that cannot be opened
    assert not path.exists()
    assert call("evaluate", "--json").json["miou"] == miou
    assert_whole(work)


def _checkpoint_of_a_run_to_come(work, content):
    rows = call("run", "pce", *QUICK, "--set", "train.seed=5", "--dry-run", "--json").json["stages"]
    (key,) = [row["key"] for row in rows if row["id"] == "train"]
    path = work / "artifacts" / "train" / f"{key}.checkpoint.partial"
    path.write_bytes(content)
    return path


def test_a_cut_checkpoint_is_named_and_restart_goes_on_without(work):
    path = _checkpoint_of_a_run_to_come(work, b"\x89HDF\r\n\x1a\n" + b"x" * 50)
    command = ("train", *QUICK, "--set", "train.seed=5")
    result = _expect(Fault("", command, FAILURE, (path.name, "damaged checkpoint", "remove the file")), work)
    assert "resuming" in result.err
    assert path.exists()
    assert call(*command, "--restart").code == 0
    assert not path.exists()


def test_a_partial_result_that_is_none_is_named(work):
    checkpoint = _checkpoint_of_a_run_to_come(work, b"")
    path = checkpoint.with_name(checkpoint.name.replace(".checkpoint", ""))
    checkpoint.unlink()
    path.write_text("not a journal")
    command = ("train", *QUICK, "--set", "train.seed=5")
    _expect(Fault("", command, FAILURE, (path.name, "not a partial result", "remove the file")), work)
    path.unlink()
    assert call(*command).code == 0


# --- data sets -------------------------------------------------------------------------------------------------------


def _root(work):
    return work.parent / "cells"


def _label(part, value):
    """One pixel of c1 becomes ``value``."""

    def arrange(work):
        path = _root(work) / part / "c1.png"
        labels = np.array(Image.open(path))
        labels[0, 0] = value
        Image.fromarray(labels).save(path)

    return arrange


def _replaced(part, array):
    return lambda work: Image.fromarray(array).save(_root(work) / part / "c1.png")


def _truncated(name):
    def arrange(work):
        path = _root(work) / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return arrange


def _text(name, text):
    return lambda work: (_root(work) / name).write_text(text)


def _removed(*names):
    def arrange(work):
        for name in names:
            (_root(work) / name).rename(work.parent / name.replace("/", "_"))

    return arrange


def _unscribbled(work):
    for path in (_root(work) / "scribbles").iterdir():
        Image.fromarray(np.full((32, 40), 255, np.uint8)).save(path)


def _unmasked_val(work):
    for name in ("c4", "c5"):
        (_root(work) / "masks" / f"{name}.png").unlink(missing_ok=True)


DATA = [
    Fault(
        "listed image is missing", ("prepare",), FAILURE, ("c1.png", "no such file", "list"), _removed("images/c1.png")
    ),
    Fault("unlisted name", ("prepare",), FAILURE, ("zzz", "no such file"), _text("train.txt", "c0\nzzz\n")),
    Fault("truncated image", ("prepare",), FAILURE, ("images/c1.png", "again"), _truncated("images/c1.png")),
    Fault("truncated mask", ("prepare",), FAILURE, ("masks/c1.png", "again"), _truncated("masks/c1.png")),
    Fault("image is text", ("prepare",), FAILURE, ("images/c1.png", "not an image"), _text("images/c1.png", "hello")),
    Fault(
        "label of the mask", ("prepare",), FAILURE, ("masks/c1.png", "label 3", "3 classes", "255"), _label("masks", 3)
    ),
    Fault(
        "label of the scribble",
        ("prepare",),
        FAILURE,
        ("scribbles/c1.png", "label 9", "ignore"),
        _label("scribbles", 9),
    ),
    Fault(
        "254 for nothing", ("prepare",), FAILURE, ("scribbles/c1.png", "254", "ignore: [254]"), _label("scribbles", 254)
    ),
    Fault(
        "mask in colours",
        ("prepare",),
        FAILURE,
        ("masks/c1.png", "rgb_labels"),
        _replaced("masks", np.zeros((32, 40, 3), np.uint8)),
    ),
    Fault(
        "mask of another size",
        ("prepare",),
        FAILURE,
        ("masks/c1.png", "40x31", "40x32"),
        _replaced("masks", np.zeros((31, 40), np.uint8)),
    ),
    Fault(
        "way out of the folder",
        ("prepare",),
        FAILURE,
        ("train.txt", "../../x", "name"),
        _text("train.txt", "c0\n../../x\n"),
    ),
    Fault("absolute path", ("prepare",), FAILURE, ("train.txt", "/etc/x", "name"), _text("train.txt", "/etc/x\n")),
    Fault(
        "list is no text",
        ("prepare",),
        FAILURE,
        ("train.txt",),
        lambda w: (_root(w) / "train.txt").write_bytes(b"\xff\xfe\x00"),
    ),
    Fault("empty training list", ("train", *QUICK), FAILURE, ("'train'", "empty"), _text("train.txt", "\n")),
    Fault(
        "empty lists",
        ("prepare",),
        FAILURE,
        ("train.txt", "empty"),
        lambda w: [_text(n, "")(w) for n in ("train.txt", "val.txt")],
    ),
    Fault("no classes", ("prepare",), FAILURE, ("classes.txt",), _removed("classes.txt")),
    Fault("no class in the list", ("prepare",), FAILURE, ("classes.txt",), _text("classes.txt", "")),
    Fault("no images", ("prepare",), FAILURE, ("images", "no image files"), _removed("images")),
    Fault(
        "no annotation",
        ("prepare",),
        FAILURE,
        ("neither scribbles nor masks", "data check"),
        _removed("scribbles", "masks"),
    ),
    Fault(
        "no scribbles given",
        ("prepare", "--source", "given"),
        FAILURE,
        ("no scribbles", "simulated"),
        _removed("scribbles"),
    ),
    Fault(
        "no masks to draw from", ("data", "simulate", "-o", "s"), FAILURE, ("has no mask", "--split"), _removed("masks")
    ),
    Fault(
        "nothing to convert",
        ("data", "convert", "-o", "s", "--to", "xml"),
        FAILURE,
        ("has a scribble",),
        _removed("scribbles"),
    ),
    Fault("nothing is labelled", ("train", *QUICK), FAILURE, ("labelled pixel", "data info"), _unscribbled),
    Fault("everything dropped", ("train", *QUICK, "--set", "prepare.drop=1"), FAILURE, ("labelled pixel", "--drop")),
    Fault(
        "dense without masks",
        ("train", "--method", "dense"),
        FAILURE,
        ("has a file with its labels (mask)",),
        _removed("masks"),
    ),
    Fault("nothing to score", ("evaluate",), FAILURE, ("2 of 2", "'val'", "no mask", "--split"), _unmasked_val),
]


@pytest.mark.parametrize("fault", DATA, ids=_ids(DATA))
def test_bad_data_sets(fault, cells):
    if fault.name == "nothing to score":
        fault.arrange(cells)
        assert call("train", *QUICK).code == 0
    _expect(fault, cells)
    assert not (cells / "s").exists() or not list((cells / "s").iterdir())


def test_a_mended_data_set_goes_on(cells):
    path = _root(cells) / "images" / "c3.png"
    good = path.read_bytes()
    path.write_bytes(good[:100])
    assert call("prepare").code == FAILURE
    path.write_bytes(good)
    result = call("prepare")
    assert result.code == 0, result.err
    assert call("gc", "--partials").code == 0
    assert_whole(cells)
    assert len(stores(cells)) == 2


def test_void_masks_neither_stop_training_nor_score(cells):
    for name in ("c4", "c5"):
        Image.fromarray(np.full((32, 40), 255, np.uint8)).save(_root(cells) / "masks" / f"{name}.png")
    result = call("train", *QUICK, "--json")
    assert result.code == 0, result.err
    assert "val_miou" not in result.json
    record = call("evaluate", "--json").json
    assert record["miou"] is None
    assert set(record["iou_per_class"].values()) == {None}
    assert call("evaluate").code == 0
    assert call("report").code == 0


# --- the machine -----------------------------------------------------------------------------------------------------


def test_a_file_where_the_workspace_should_be(fresh):
    (fresh / "taken").write_text("a file")
    _expect(Fault("", ("prepare", "-w", "taken"), USAGE, ("taken", "is a file", "--workspace")), fresh)
    _expect(Fault("", ("init", "-k", "sample", "-w", "taken"), USAGE, ("taken", "is a file", "--workspace")), fresh)
    assert (fresh / "taken").read_text() == "a file"


def test_a_file_where_a_stage_keeps_its_stores(fresh):
    (fresh / "artifacts").mkdir()
    (fresh / "artifacts" / "prepare").write_text("a file")
    _expect(Fault("", ("prepare",), FAILURE, ("artifacts/prepare", "cannot be written")), fresh)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workspace_that_is_read_only(fresh):
    fresh.chmod(0o500)
    try:
        _expect(Fault("", ("prepare",), FAILURE, ("not writable", "--workspace")), fresh)
    finally:
        fresh.chmod(0o700)


@pytest.mark.parametrize("after", [0, 1, 3, 6, 8])
def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(fresh, monkeypatch, after):
    """The disk is full at the n-th flush, be it of a journal, a store or a small file."""
    calls = []
    real = os.fsync

    def full(number):
        calls.append(number)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    command = ("run", "pce", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        _expect(Fault("", command, FAILURE, ("the disk is full", "wss gc", "same command again")), fresh)
    done = stores(fresh)
    again = call(*command)
    assert again.code == 0, again.err
    assert again.err.count("done already") == len(done)
    assert_whole(fresh)


def test_a_full_disk_while_images_are_appended(fresh, monkeypatch):
    from wss.store.journal import Journal

    real = Journal.append

    class Full:
        """A file on a disk with room for a few more bytes."""

        def __init__(self, file):
            self._file = file

        def write(self, data):
            self._file.write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self._file, name)

    def append(self, name, arrays):
        if len(self) == 3:
            self._file = Full(self._file)
        real(self, name, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        _expect(Fault("", ("prepare",), FAILURE, (".partial", "the disk is full", "same command again")), fresh)
    read = []
    import wss.stages.samples as stage

    real_read = stage._read
    monkeypatch.setattr(stage, "_read", lambda source, image_id: read.append(image_id) or real_read(source, image_id))
    result = call("prepare")
    assert result.code == 0
    assert "samples: resuming" in result.err
    assert len(read) == 3
    assert_whole(fresh)


def test_lack_of_memory_is_explained(work, monkeypatch):
    def exhausted(*arguments):
        raise MemoryError

    monkeypatch.setattr("wss.predictor.Predictor.probabilities", exhausted)
    _expect(Fault("", ("evaluate", "--flip"), FAILURE, ("out of memory", "window")), work)


def test_lack_of_gpu_memory_is_explained(work, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("wss.predictor.Predictor.probabilities", exhausted)
    _expect(Fault("", ("evaluate", "--flip"), FAILURE, ("out of memory", "batches")), work)


def test_an_interruption_says_how_to_go_on(fresh, monkeypatch):
    import wss.stages.prepare as stage

    real = stage._labels
    seen = []

    def interrupted(params, samples, image_id, *rest):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(image_id)
        return real(params, samples, image_id, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_labels", interrupted)
        _expect(Fault("", ("prepare",), 130, ("stopped", "run the same command again")), fresh)
    monkeypatch.setattr(stage, "_labels", lambda p, s, i, *r: seen.append(i) or real(p, s, i, *r))
    result = call("prepare")
    assert result.code == 0
    assert "prepare: resuming" in result.err
    assert len(seen) == len(set(seen)) == 6


def test_faults_of_wss_itself_are_not_hidden(work, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("wss.predictor.Predictor.probabilities", broken)
    with pytest.raises(ZeroDivisionError):
        call("evaluate", "--flip")


def test_verbose_adds_the_traceback_and_keeps_the_code(fresh, monkeypatch):
    from commands import app
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["run", "pcee", "--verbose"])
    assert result.exit_code == USAGE
    assert "Traceback" in result.stderr
    assert "did you mean 'pce'" in result.stderr


def test_there_are_enough_of_them():
    assert len({f.name for f in (*REQUESTS, *FILES, *DATA)}) == len(REQUESTS) + len(FILES) + len(DATA) > 100
