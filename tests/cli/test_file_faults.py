"""Images, networks and stores that are wrong or damaged."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from commands import QUICK, artifact, assert_whole, call
from fault_cases import FAILURE, USAGE, Fault, expect, ids_of, write_of
from PIL import Image


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
    Fault("text for an image", ("predict", "x.png"), FAILURE, ("x.png", "not an image"), write_of("x.png", "text")),
    Fault("empty image", ("predict", "x.png"), FAILURE, ("x.png", "empty"), write_of("x.png", "")),
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
    Fault("into a file", ("predict", "-o", "o"), FAILURE, ("o/", "cannot be written"), write_of("o", "a file")),
    Fault("missing network", ("predict", "--checkpoint", "no.h5"), FAILURE, ("no.h5", "no such store", "wss train")),
    Fault(
        "no network", ("predict", "--checkpoint", "n.h5"), FAILURE, ("n.h5", "not a readable"), write_of("n.h5", "x")
    ),
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
        write_of("w.pth", "hello"),
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


@pytest.mark.parametrize("fault", FILES, ids=ids_of(FILES))
def test_bad_files(fault, work):
    pictures = {path: path.read_bytes() for path in work.glob("*/x*.png") if path.parent.name in "ab"}
    expect(fault, work)
    assert {path: path.read_bytes() for path in pictures} == pictures


def test_a_store_for_another_purpose_is_refused(work):
    fault = Fault(
        "", ("predict", "--checkpoint", artifact(work, "samples")), FAILURE, ("holds samples", "model is needed")
    )
    expect(fault, work)


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
    result = expect(Fault("", command, FAILURE, (path.name, "damaged checkpoint", "remove the file")), work)
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
    expect(Fault("", command, FAILURE, (path.name, "not a partial result", "remove the file")), work)
    path.unlink()
    assert call(*command).code == 0


def test_there_are_enough_with_a_name_each():
    assert len({fault.name for fault in FILES}) == len(FILES) > 20
