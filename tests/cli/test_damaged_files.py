"""Files that were damaged at random, of every format that is read: each command says what is wrong in one message, or succeeds.

Damage is drawn from a seed: bytes that were lost, changed or doubled, and in text formats values that do not belong there.
"""

import json
import os
import random
import re
import shutil

import h5py
import numpy as np
import pytest
import torch
import yaml
from commands import QUICK, SAMPLE, artifact, call
from PIL import Image
from scipy.io import savemat

from wss.store import Store

SHAPE = (16, 20)
CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 2, "name": "wall"}]
STRANGE = [None, True, -1, 0, 3.5, 1e308, 10**30, "", "x", "../../x", "\u2028", [], {}, [[]], {"x": 1}, [1, "a", None]]
TOKENS = [
    b"-1",
    b"1e999",
    b"nan",
    b"99999999999999999999",
    b"",
    b"\0",
    b"\xff\xfe",
    b"<a>",
    b"]]>",
    b"%s",
    b"\r",
    b"&x;",
    b'"',
]


# --- whole files -----------------------------------------------------------------------------------------------------


def _image(seed):
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def _labels():
    labels = np.full(SHAPE, 255, np.uint8)
    labels[2:6, 2:18], labels[8:12, 2:18] = 0, 1
    return labels


def _save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def _text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _folder(root):
    for number, name in enumerate(("a.png", "b.jpg", "c.tif")):
        _save(root / "images" / name, _image(number))
        _save(root / "masks" / f"{name[0]}.png", _labels())
    _save(root / "scribbles/a.png", _labels())
    points = "<point><X>2</X><Y>3</Y></point><point><X>12</X><Y>9</Y></point>"
    _text(root / "scribbles/b.xml", f"<annotation><polygon><tag>cell</tag>{points}</polygon></annotation>")
    _text(root / "scribbles/c.txt", "1,2,3,12,9\n0,1,1,18,1\n")
    _text(root / "classes.yaml", "classes: [ground, cell]\npalette: [[0, 0, 0], [200, 0, 0]]\nbackground: 0\n")
    _text(root / "train.txt", "a\nb\nc\n")


def _coco(root):
    _save(root / "val2017/000000000001.jpg", _image(1))
    polygon = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9, "bbox": [2, 2, 6, 6]}
    runs = {"size": list(SHAPE), "counts": [40, 60, 220]}
    shapes = [
        {**polygon, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]},
        {**polygon, "id": 2, "category_id": 2, "iscrowd": 1, "segmentation": runs},
    ]
    image = {"id": 1, "file_name": "000000000001.jpg", "height": SHAPE[0], "width": SHAPE[1]}
    content = {"images": [image], "annotations": shapes, "categories": CATEGORIES}
    _text(root / "annotations/instances_val2017.json", json.dumps(content))


def _acdc(root):
    for patient in (1, 2):
        path = root / f"ACDC_training_slices/patient00{patient}_frame01_slice_1.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["image"] = _image(patient)[..., 0] / np.float32(255)
            file.create_dataset("label", data=_labels() % 4, compression="gzip")
            lines = np.full(SHAPE, 4, np.uint16)
            lines[2, 2:9], lines[8, 3:8] = 0, 1
            file.create_dataset("scribble", data=lines, compression="gzip")


def _voc(root):
    for name in ("t1", "t2", "v1"):
        _save(root / f"JPEGImages/{name}.jpg", _image(1))
        if name != "t2":
            _save(root / f"SegmentationClass/{name}.png", _labels())
        box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
        _text(
            root / f"Annotations/{name}.xml",
            f"<annotation><object><name>cat</name><difficult>0</difficult>{box}</object></annotation>",
        )
    _text(root / "ImageSets/Segmentation/train.txt", "t1\n")
    _text(root / "ImageSets/Segmentation/val.txt", "v1\n")
    (root / "benchmark_RELEASE/dataset/cls").mkdir(parents=True)
    savemat(
        root / "benchmark_RELEASE/dataset/cls/t2.mat", {"GTcls": {"Segmentation": _labels() % 21}}, do_compression=True
    )
    _text(root / "benchmark_RELEASE/dataset/train.txt", "t2\n")
    _text(root / "benchmark_RELEASE/dataset/val.txt", "")


def _drawings(root):
    shapes = [
        {"label": "cell", "points": [[2, 2], [9, 9], [4, 12]], "shape_type": kind, "flags": {}, "group_id": None}
        for kind in ("linestrip", "polygon")
    ]
    head = {"version": "5.4.1", "imagePath": "a.jpg", "imageData": None, "imageHeight": 16, "imageWidth": 20}
    _text(root / "labelme.json", json.dumps({**head, "shapes": shapes}))
    _text(
        root / "cvat.xml",
        '<annotations><version>1.1</version><image id="0" name="a.jpg" width="20" height="16">'
        '<polyline label="cell" points="1.5,2;8,9" z_order="0"/><polygon label="ground" points="1,1;9,1;9,9" z_order="1"/>'
        "</image></annotations>",
    )
    np.save(root / "painted.npy", _labels() % 3)
    with h5py.File(root / "painted.h5", "w") as file:
        file["exported_data"] = (_labels() % 3)[None, ..., None]
    _text(root / "classes.txt", "ground\ncell\n")


# --- benches: a file, and a command that reads it --------------------------------------------------------------------

KINDS = {"folder": "folder", "coco": "coco", "acdc": "acdc", "voc": "voc"}
PIPELINE = """
title: Mine
description: Short.
factors: {shrink: {none: 0, half: 0.5}}
stages:
  - stage: samples
  - {id: 'prepare-${shrink}', each: shrink, stage: prepare, inputs: {samples: samples}, params: {shrink: '${shrink}'}}
"""
PRESET = (
    "title: Mine\nstages:\n  'train*': {batch_size: 4, phases: {'*': {lr: 0.1}}}\nmethods: {pce: {}}\nfactors: {}\n"
)


def _convert(program, name):
    drawings = f"../drawings/{name}"
    return [
        "data",
        "convert",
        drawings,
        "--from",
        program,
        "--classes",
        "../drawings/classes.txt",
        "--to",
        "png",
        "-o",
        "out",
    ]


PREPARE = ["prepare"]
RESUMED = ["train", *QUICK, "--set", "train.seed=5", "--epochs", 3]
BENCHES = {  # name: (file, command in the folder work)
    "png": ("folder/images/a.png", PREPARE),
    "jpeg": ("folder/images/b.jpg", PREPARE),
    "tiff": ("folder/images/c.tif", PREPARE),
    "mask": ("folder/masks/a.png", PREPARE),
    "scribble": ("folder/scribbles/a.png", PREPARE),
    "strokes-xml": ("folder/scribbles/b.xml", PREPARE),
    "strokes-text": ("folder/scribbles/c.txt", PREPARE),
    "classes": ("folder/classes.yaml", PREPARE),
    "list": ("folder/train.txt", PREPARE),
    "checked-image": ("folder/images/b.jpg", ["data", "check"]),
    "checked-strokes": ("folder/scribbles/b.xml", ["data", "check"]),
    "coco": ("coco/annotations/instances_val2017.json", PREPARE),
    "hdf5": ("acdc/ACDC_training_slices/patient001_frame01_slice_1.h5", PREPARE),
    "matlab": ("voc/benchmark_RELEASE/dataset/cls/t2.mat", PREPARE),
    "voc-boxes": ("voc/Annotations/t1.xml", ["prepare", "--annotation", "box"]),
    "labelme": ("drawings/labelme.json", _convert("labelme", "labelme.json")),
    "cvat": ("drawings/cvat.xml", _convert("cvat", "cvat.xml")),
    "npy": ("drawings/painted.npy", _convert("painted", "painted.npy")),
    "painted-hdf5": ("drawings/painted.h5", _convert("painted", "painted.h5")),
    "configuration": ("work/wss.yaml", PREPARE),
    "state": ("work/state.yaml", ["evaluate"]),
    "pipeline": ("work/mine.yaml", ["run", "mine.yaml", "--dry-run"]),
    "preset": ("work/preset.yaml", ["run", "pce", "--preset", "preset.yaml", "--dry-run"]),
    "weights": ("work/weights.pth", ["train", *QUICK, "--weights", "weights.pth"]),
    "samples-store": ("work/artifacts/samples/*.h5", ["evaluate", "--crf"]),
    "predictions-store": ("work/artifacts/predict/*.h5", ["evaluate", "--crf"]),
    "network": ("work/artifacts/train/*.h5", ["evaluate", "--flip"]),
    "checkpoint": ("work/artifacts/train/*.checkpoint.partial", RESUMED),
}
PREPARED = {  # what the workspace of a bench is a copy of; others are new
    **dict.fromkeys(("samples-store", "predictions-store", "network", "state"), "finished"),
    "checkpoint": "training",
}


def _interrupted(folder, command, after):
    """Run a command that is interrupted after some units of work."""
    from wss.cli.console import Terminal

    units = []

    def task(self, label, total, done=0):
        def advance(number, note):
            units.append(note)
            if len(units) == after:
                raise KeyboardInterrupt

        return advance

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Terminal, "task", task)
        patch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1)
        assert call(*command, "-w", folder).code == 130


@pytest.fixture(scope="module")
def sound(tmp_path_factory, finished):
    """All files, undamaged."""
    root = tmp_path_factory.mktemp("sound")
    for make in (_folder, _coco, _acdc, _voc, _drawings):
        (root / make.__name__[1:]).mkdir()
        make(root / make.__name__[1:])
    shutil.copytree(finished, root / "finished")
    shutil.copytree(finished, root / "training")
    _interrupted(root / "training", RESUMED, 2)
    (root / "importing").mkdir()
    (root / "importing/wss.yaml").write_text(SAMPLE)
    _interrupted(root / "importing", PREPARE, 3)
    (root / "new").mkdir()
    (root / "new/mine.yaml").write_text(PIPELINE)
    (root / "new/preset.yaml").write_text(PRESET)
    (root / "new/wss.yaml").write_text("dataset: {kind: folder, root: ../folder, options: {ignore: [254]}}\n")
    torch.save({"encoder.weight": torch.zeros(2, 3), "n": torch.ones(())}, root / "new/weights.pth")
    return root


def _lay_out(sound, root, bench):
    """A copy of what a bench needs; gives the file to damage."""
    pattern, _ = BENCHES[bench]
    source = pattern.split("/")[0]
    shutil.copytree(sound / PREPARED.get(bench, "new"), root / "work", copy_function=os.link)
    if source in KINDS or source == "drawings":
        shutil.copytree(sound / source, root / source, copy_function=os.link)
    elif not PREPARED.get(bench):
        shutil.copytree(sound / "folder", root / "folder", copy_function=os.link)
    if source in KINDS:
        (root / "work/wss.yaml").unlink()
        (root / "work/wss.yaml").write_text(f"dataset: {{kind: {KINDS[source]}, root: ../{source}}}\n")
    (path,) = root.glob(pattern)
    return path


# --- damage ----------------------------------------------------------------------------------------------------------


def _damaged(path, rng):
    """The content of a file after some damage."""
    data = path.read_bytes()
    if path.suffix in (".json", ".yaml") and rng.random() < 0.8:
        document = _changed(yaml.safe_load(data), rng)
        return json.dumps(document).encode()
    if path.suffix in (".xml", ".txt") and rng.random() < 0.8:
        parts = re.findall(rb"[\w.]+|[^\w.]", data)
        for _ in range(rng.randint(1, 3)):
            parts[rng.randrange(len(parts))] = rng.choice(TOKENS)
        return b"".join(parts)
    return _torn(bytearray(data), rng)


def _changed(document, rng):
    """A document in which something else stands in one place, or an entry is missing."""
    places = []

    def walk(value):
        for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(document)
    holder, key = rng.choice(places)
    if isinstance(holder, dict) and rng.random() < 0.25:
        del holder[key]
    else:
        holder[key] = rng.choice(STRANGE)
    return document


def _torn(data, rng):
    """Bytes lost, changed, or doubled, most often near one of the ends, where headers and tables are."""
    for _ in range(rng.randint(1, 3)):
        edge = min(len(data), 2048)
        place = rng.choice([rng.randrange(edge), len(data) - 1 - rng.randrange(edge), rng.randrange(len(data))])
        length = rng.choice([1, 1, 4, 64])
        match rng.randrange(5):
            case 0:
                del data[max(place, 1) :]
            case 1:
                data[place : place + length] = rng.randbytes(length)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                data[place] ^= 1 << rng.randrange(8)
        if len(data) < 2:
            break
    return bytes(data)


# --- tests -----------------------------------------------------------------------------------------------------------


def _refused(sound, root, bench, seed, monkeypatch):
    """Damage a file, run the command, and check what it says; tell whether it was refused."""
    root.mkdir()
    path = _lay_out(sound, root, bench)
    data = _damaged(path, random.Random(f"{bench} {seed}"))
    path.unlink()
    path.write_bytes(data)
    monkeypatch.chdir(root / "work")
    command = BENCHES[bench][1]
    result = call(*command, "--quiet")
    if result.code == 0:
        return False
    assert result.code in (1, 2)
    assert len(result.err) + len(result.out) < 4000
    if command[:2] != ["data", "check"] or not result.out:
        assert len(re.findall("^error: ", result.err, re.MULTILINE)) == 1, result.err
        assert result.out == ""
    if bench not in ("list", "state", "configuration", "classes", "preset"):  # what they say may be wrong elsewhere
        assert path.stem in result.err + result.out, result.err
    return True


def _damage_until_refused(sound, tmp_path, bench, monkeypatch, times, tries):
    refused = 0
    for seed in range(tries):
        refused += _refused(sound, tmp_path / str(seed), bench, seed, monkeypatch)
        shutil.rmtree(tmp_path / str(seed))
        if refused == times:
            return
    pytest.fail(f"{bench}: only {refused} of {tries} damaged files were refused")


@pytest.mark.parametrize("bench", BENCHES)
def test_damaged_files_are_refused_in_one_message(bench, sound, tmp_path, monkeypatch):
    """Four refusals each, more than a hundred in all."""
    assert 4 * len(BENCHES) > 100
    _damage_until_refused(sound, tmp_path, bench, monkeypatch, times=4, tries=40)


def test_damaged_journals_cost_nothing_but_their_records(sound, tmp_path, monkeypatch):
    digests, resumed = set(), 0
    for seed in range(8):
        work = shutil.copytree(sound / "importing", tmp_path / str(seed))
        (path,) = work.glob("artifacts/samples/*.partial")
        path.write_bytes(_torn(bytearray(path.read_bytes()), random.Random(seed)) if seed else path.read_bytes())
        monkeypatch.chdir(work)
        result = call(*PREPARE)
        if result.code:
            assert "not a partial result" in result.err
            path.unlink()
            assert call(*PREPARE).code == 0
        resumed += "samples: resuming" in result.err
        digests.add(Store(artifact(work, "samples")).digest)
    assert len(digests) == 1
    assert resumed == 8


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES)
def test_many_damaged_files(bench, sound, tmp_path, monkeypatch):
    _damage_until_refused(sound, tmp_path, bench, monkeypatch, times=60, tries=600)
