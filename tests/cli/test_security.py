"""Files from strangers: none runs code, leads out of its folder, unpacks without bound, or writes markup into the report."""

import ast
import os
import pickle
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import QUICK, call
from PIL import Image, ImageFile

import wss
from wss.datasets.convert import write_label
from wss.store.atomic import write_text

PACKAGE = Path(wss.__file__).parent


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def _refused(result, *texts):
    assert result.code in (1, 2), result.err
    for text in texts:
        assert text in result.said


# --- no code from files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pickle", "torch", "in a dict"])
def test_weights_that_would_run_code_are_refused_and_not_run(form, work):
    path, marker = work / "weights.pth", work / "ran"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Evil(marker)))
    else:
        torch.save(Evil(marker) if form == "torch" else {"conv1.weight": torch.zeros(1), "x": Evil(marker)}, path)
    _refused(call("train", "--weights", path, *QUICK, "--set", "train.seed=9"), "weights.pth", "could run code")
    assert not marker.exists()
    with path.open("rb") as file:
        pickle.load(file) if form == "pickle" else torch.load(file, weights_only=False)
    assert marker.exists()  # it would have


def test_arrays_of_objects_are_refused_and_not_run(cells, tmp_path):
    marker = tmp_path / "ran"
    np.save(cells / "a.npy", np.array([[Evil(marker)]], object), allow_pickle=True)
    command = ("data", "convert", "a.npy", "--from", "painted", "--classes", "../cells/classes.txt", "--to", "png")
    _refused(call(*command, "-o", "out"), "a.npy", "numbers")
    assert not marker.exists()


PYTHON_YAML = "!!python/object/apply:os.mkdir [{marker}]"


@pytest.mark.parametrize("name", ["wss.yaml", "state.yaml", "mine.yaml", "preset.yaml", "../cells/classes.yaml"])
def test_yaml_runs_no_code(name, cells, tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "cells/classes.txt").unlink()
    (tmp_path / "cells/classes.yaml").write_text("[background, cell, wall]")
    (cells / name).write_text(f"x: {PYTHON_YAML.format(marker=marker)}\n")
    commands = {
        "mine.yaml": ("run", "mine.yaml"),
        "preset.yaml": ("run", "pce", "--preset", "preset.yaml", "--dry-run"),
    }
    _refused(call(*commands.get(name, ("evaluate",))), Path(name).name)
    assert not marker.exists()


def test_yaml_in_options_runs_no_code(cells, tmp_path):
    value = PYTHON_YAML.format(marker=tmp_path / "ran")
    _refused(call("run", "pce", "--set", f"train.batch_size={value}"), "train.batch_size")
    _refused(call("init", "-k", "sample", "-o", f"train={value}", "-w", "new"), "train=")
    assert not (tmp_path / "ran").exists()


SAFE_WITH = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
NEVER = [
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "subprocess.run",
    "subprocess.Popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "ElementTree.parse",
    "ElementTree.fromstring",
    "ElementTree.XML",
    "shutil.unpack_archive",
    "zipfile.ZipFile",
    "tarfile.open",
]


STARTED = {  # `wss draw` starts wss itself, by this interpreter and without a shell, and writes archives
    ("subprocess.Popen", "draw/job.py"),
    ("subprocess.Popen", "draw/training.py"),
    ("subprocess.Popen", "draw/notebook.py"),
    ("subprocess.run", "draw/exporting.py"),
    ("zipfile.ZipFile", "draw/exporting.py"),
}


def test_processes_are_started_without_a_shell():
    for _, path in STARTED:
        text = (PACKAGE / path).read_text()
        assert "shell=" not in text and text.count("ZipFile(") == text.count('ZipFile(data, "w"')
        assert 'sys.executable, "-m", "wss' in text


def test_dangerous_calls_are_not_in_the_package():
    calls = [
        (ast.unparse(node.func), ast.unparse(node), path)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    found = [call for call in calls if call[0] in NEVER]
    assert [call for call in found if (call[0], call[2].relative_to(PACKAGE).as_posix()) not in STARTED] == []
    guarded = [call for call in calls if call[0] in SAFE_WITH]
    assert {name for name, _, _ in guarded} == set(SAFE_WITH)
    assert [call for call in guarded if SAFE_WITH[call[0]] not in call[1]] == []


# --- nothing out of its folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["../../secret", "/etc/passwd", "..", "a\\..\\b"])
def test_lists_stay_in_the_data_set(entry, cells, tmp_path):
    Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(tmp_path / "secret.png")
    (tmp_path / "cells/train.txt").write_text(f"c0\n{entry}\n")
    _refused(call("prepare"), "train.txt", "plain name")


def test_annotations_do_not_name_where_to_write(cells, tmp_path):
    image = '<image id="0" name="{}" width="9" height="9"><points label="cell" points="1,1"/></image>'
    names = ["../../outside.jpg", "/tmp/outside2.jpg", "..\\outside3.jpg", ".."]
    (cells / "a.xml").write_text(f"<annotations>{''.join(map(image.format, names))}</annotations>")
    before = {path for path in tmp_path.rglob("*") if path.parent != cells / "out"}
    command = ("data", "convert", "a.xml", "--from", "cvat", "--classes", "../cells/classes.txt", "--to", "png")
    assert call(*command, "-o", "out").code == 0
    assert {path for path in tmp_path.rglob("*") if path.parent != cells / "out"} == before | {cells / "out"}
    assert len(list((cells / "out").iterdir())) == 4


def test_results_replace_links_instead_of_following_them(tmp_path):
    target = tmp_path / "precious"
    target.write_text("kept")
    for name in ("a.png", "b.txt"):
        (tmp_path / name).symlink_to(target)
    write_label(tmp_path / "a.png", np.zeros((3, 3), np.uint8), np.zeros((2, 3), np.uint8))
    write_text(tmp_path / "b.txt", "new")
    assert target.read_text() == "kept"
    assert not (tmp_path / "a.png").is_symlink()
    assert (tmp_path / "b.txt").read_text() == "new"


# --- nothing without bound -------------------------------------------------------------------------------------------


def _laughs(levels=40):
    entities = "".join(f'<!ENTITY a{n} "&a{n - 1};&a{n - 1};">' for n in range(1, levels))
    return f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]>'


def _voc_boxes(root):
    for part in ("JPEGImages", "ImageSets/Segmentation", "Annotations"):
        (root / part).mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "JPEGImages/a.jpg")
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")


@pytest.mark.parametrize(
    "head", [_laughs(), '<!DOCTYPE x [<!ENTITY a39 SYSTEM "file:///etc/passwd">]>'], ids=["many", "file"]
)
def test_entities_are_not_expanded(head, cells, tmp_path):
    body = "<annotation><object><name>&a39;</name></object></annotation>"
    _voc_boxes(tmp_path / "voc")
    (tmp_path / "voc/Annotations/a.xml").write_text(head + body)
    (tmp_path / "cells/scribbles/c1.png").unlink()
    (tmp_path / "cells/scribbles/c1.xml").write_text(head + body.replace("object", "polygon").replace("name", "tag"))
    (cells / "cvat.xml").write_text(f"{head}<annotations><image name='&a39;' width='9' height='9'/></annotations>")
    cvat = (
        "data",
        "convert",
        "cvat.xml",
        "--from",
        "cvat",
        "--classes",
        "../cells/classes.txt",
        "--to",
        "png",
        "-o",
        "out",
    )
    _refused(call("prepare"), "c1.xml", "plain XML")
    _refused(call(*cvat), "cvat.xml", "plain XML")
    (cells / "wss.yaml").write_text("dataset: {kind: voc, root: ../voc}\n")
    _refused(call("prepare", "--annotation", "box"), "a.xml", "plain XML")


def test_yaml_that_refers_to_itself_is_refused_at_once(cells, tmp_path):
    doubled = [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 64)]
    text = "\n".join(["a0: &a0 [x, x]", *doubled, "classes: *a63", "dataset: *a63"])
    (tmp_path / "cells/classes.txt").unlink()
    benches = {"../cells/classes.yaml": ("prepare",), "mine.yaml": ("run", "mine.yaml"), "wss.yaml": ("prepare",)}
    for name, command in benches.items():
        (cells / name).write_text(text)
        result = call(*command)
        _refused(result, Path(name).name)
        assert len(result.err) < 3000


def _png_claiming(width, height):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("part", ["images", "masks", "scribbles"])
def test_image_bombs_are_refused_before_they_are_decoded(part, cells, tmp_path, monkeypatch):
    path = tmp_path / "cells" / part / "c1.png"
    path.write_bytes(_png_claiming(9_400, 9_400))
    load = ImageFile.ImageFile.load

    def guarded(self):
        assert self.width < 1000
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", guarded)
    _refused(call("prepare"), f"{part}/c1.png", "9400x9400 pixels, more than the limit")
    assert "pixels" in call("data", "check").out


# --- the report ------------------------------------------------------------------------------------------------------


class _Markup(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}


def test_the_report_shows_names_as_they_are(cells, tmp_path):
    root, name = tmp_path / "cells", "c4<img src=x onerror=alert(1)>"
    for part in ("images", "masks", "scribbles"):
        (root / part / "c4.png").rename(root / part / f"{name}.png")
    (root / "val.txt").write_text(f"{name}\nc5\n")
    (root / "classes.txt").write_text("background\n<script>alert(2)</script>\n\"><b onclick='x'>&amp;\n")
    result = call("run", "pce", *QUICK, "--set", "report.title=<iframe src=x>", "--set", "evaluate.factors={<u>: <s>}")
    assert result.code == 0, result.err
    page = (cells / "report.html").read_text()
    markup = _Markup(page)
    assert not markup.tags & {"script", "iframe", "b", "u", "s"}
    assert not {name for name in markup.attributes if name.startswith("on")}
    assert "&lt;script&gt;alert(2)" in page
    assert re.search("&lt;img src=x onerror", page)
