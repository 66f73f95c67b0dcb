"""Names of files that are not UTF-8, and terminals that are not: names survive, and nothing ends in a traceback."""

import hashlib
import html
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, call, write_cells

import wss
from wss.cli import encoding, failure
from wss.datasets.listing import read_list, split_by_hash
from wss.errors import DataError
from wss.names import is_odd, name_bytes, name_of, readable
from wss.scribbles.seeds import image_seed
from wss.store import LABELS, Store, StoreWriter

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture
def odd(tmp_path):
    """A data set one of whose images, c0, is ``caf\\xe9``; lists name it too."""
    root = tmp_path / "cells"
    write_cells(root)
    for part in ("images", "masks", "scribbles"):
        (root / part / "c0.png").rename(root / part / f"{ODD}.png")
    (root / "train.txt").write_bytes(b"c1\nc2\nc3\nc4\n")
    (root / "val.txt").write_bytes(b"caf\xe9.png\nc5\n")
    return root


def test_bytes_and_text_of_names():
    assert name_bytes(ODD) == b"caf\xe9"
    assert name_of(b"caf\xe9") == ODD
    assert name_bytes("café") == "café".encode()
    assert readable(ODD) == "caf\\xe9"
    assert readable("café") == "café"
    assert (is_odd(ODD), is_odd("café")) == (True, False)


def test_hashes_of_other_names_stay_and_those_of_odd_ones_differ():
    assert image_seed(3, "é") == int.from_bytes(hashlib.sha256("3/é".encode()).digest()[:8], "big") >> 1
    assert image_seed(0, ODD) != image_seed(0, os.fsdecode(b"caf\xe8"))
    assert split_by_hash([ODD, "a", "b", "c"], 0.5) == split_by_hash(["c", ODD, "b", "a"], 0.5)


def test_stores_keep_odd_names(tmp_path):
    path = tmp_path / "a.h5"
    writer = StoreWriter(path, LABELS, {"key": "k"})
    for number, name in enumerate((ODD, "café", "plain")):
        writer.append(name, {"labels": np.full((3, 4), number, np.uint8)})
    writer.meta["first"] = ODD
    writer.finish({})
    store = Store(path, LABELS)
    assert store.ids == [ODD, "café", "plain"]
    assert store.meta["first"] == ODD
    assert [int(store.get("labels", i)[0, 0]) for i in store.ids] == [0, 1, 2]
    assert store.verify()


def test_lists_may_name_them_and_other_encodings_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa.png\r\ncaf\xe9.png\ncaf\xc3\xa9\n")
    assert read_list(path)[0] == ("a", ODD, "café")
    path.write_text("a\nb\n", encoding="utf-16")
    with pytest.raises(DataError, match="is UTF-16 text; save it as UTF-8 text"):
        read_list(path)


def test_a_whole_pipeline_keeps_them(odd, tmp_path):
    workspace = tmp_path / "w"
    assert call("init", "-k", "folder", "-r", odd, "-w", workspace).code == 0
    assert call("data", "check", "-w", workspace).code == 0
    result = call("run", "pce", "-w", workspace, "--jobs", 1, *QUICK)
    assert result.code == 0, result.err
    (store,) = (workspace / "artifacts/predict").glob("*.h5")
    assert Store(store).ids == [ODD, "c5"]
    page = (workspace / "report.html").read_bytes().decode("utf-8")
    assert "<code>caf\\xe9</code>" in html.unescape(page)
    result = call("predict", "-w", workspace, "--out", tmp_path / "o", "--probs", "--json")
    assert result.code == 0, result.err
    written = [os.fsencode(path) for path in result.json["files"]]
    assert os.fsencode(tmp_path / f"o/{ODD}.png") in written
    assert all(os.path.exists(path) for path in written)  # noqa: PTH110, bytes
    assert b"caf\xe9_probs.npy" in os.listdir(os.fsencode(tmp_path / "o"))  # noqa: PTH208, bytes


def test_a_data_set_below_such_a_folder_is_found(odd, tmp_path):
    odd.rename(tmp_path / ODD)
    assert call("init", "-k", "folder", "-r", tmp_path / ODD, "-w", tmp_path / "w").code == 0
    result = call("prepare", "-w", tmp_path / "w", "--jobs", 1)
    assert result.code == 0, result.err


@pytest.mark.parametrize("form", ["cvat", "xml"])
def test_formats_that_cannot_hold_them_name_the_file(odd, tmp_path, form):
    call("init", "-k", "folder", "-r", odd, "-w", tmp_path / "w")
    result = call("data", "convert", "-w", tmp_path / "w", "--to", form, "--out", tmp_path / "o")
    assert result.code == 1
    assert "caf\\xe9" in result.said
    assert "rename the file" in result.said


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
    ids=["C", "ascii", "cp1252"],
)
def test_commands_in_other_terminals(odd, tmp_path, variables):
    (odd / "classes.txt").write_text("Hintergrund\nZelle → ž\nmur\n", encoding="utf-8")
    (odd / "images" / f"{ODD}.png").write_bytes(b"no image")
    environment = {**os.environ, "PYTHONPATH": str(Path(wss.__file__).parents[1]), "OMP_NUM_THREADS": "1", **variables}

    def run(*words):
        command = [sys.executable, "-m", "wss", *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path, check=False)
        assert b"Traceback" not in done.stderr, done.stderr
        return done

    assert run("init", "-k", "folder", "-r", odd, "-w", "w").returncode == 0
    checked = run("data", "check", "-w", "w")
    assert checked.returncode == 1
    assert b"caf\\xe9" in checked.stdout + checked.stderr
    found = run("data", "info", "-w", "w", "--json")
    assert "Zelle → ž" in json.dumps(json.loads(found.stdout), ensure_ascii=False)
    assert b"Zelle" in run("data", "info", "-w", "w").stdout
    assert run("--help").returncode == 0


def test_streams_take_everything(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    encoding.write_everything()
    print(f"{ODD} café →", flush=True)
    assert stream.buffer.getvalue() == b"caf\\xe9 caf\\xe9 \\u2192\n"


def test_a_name_that_the_locale_cannot_hold_is_told():
    text = failure.message(UnicodeEncodeError("ascii", "out/café.png", 7, 8, "ordinal not in range(128)"))
    assert "'caf\\xe9.png' cannot be written in the encoding of this locale (ascii); set LC_ALL=C.UTF-8" in text
