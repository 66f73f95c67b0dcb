"""Data sets that are wrong."""

import numpy as np
import pytest
from commands import QUICK, assert_whole, call, stores
from fault_cases import FAILURE, Fault, expect, ids_of
from PIL import Image


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


@pytest.mark.parametrize("fault", DATA, ids=ids_of(DATA))
def test_bad_data_sets(fault, cells):
    if fault.name == "nothing to score":
        fault.arrange(cells)
        assert call("train", *QUICK).code == 0
    expect(fault, cells)
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


def test_there_are_enough_with_a_name_each():
    assert len({fault.name for fault in DATA}) == len(DATA) > 25
