"""Names, lists, splits and volumes."""

from __future__ import annotations

import numpy as np
import pytest

from wss.datasets.cards import colour_map, load_card
from wss.datasets.classlist import read_classes
from wss.datasets.finding import FileProblem
from wss.datasets.listing import files_by_stem, read_list, split_by_hash, unread_files
from wss.datasets.volumes import PATIENT_SLICES, compile_pattern, find_volumes
from wss.errors import DataError, UsageError


def test_files_by_stem_ignores_case_of_suffixes_and_prefers_the_first(tmp_path):
    for name in ("b.JPG", "a.png", "a.jpg", ".hidden.jpg", "c.txt", "d.e.jpeg"):
        (tmp_path / name).touch()
    files, doubtful = files_by_stem(tmp_path, (".jpg", ".jpeg", ".png"))
    assert {name: path.name for name, path in files.items()} == {"a": "a.jpg", "b": "b.JPG", "d.e": "d.e.jpeg"}
    assert list(files) == sorted(files)
    assert [(f.code, f.image_id) for f in doubtful] == [("ambiguous-name", "a")]
    assert files_by_stem(tmp_path / "none", (".jpg",)) == ({}, [])


def test_read_list(tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeffa\r\n\r\nb.jpg\r\nc 1\r\na\r\nd.e\r\n".encode())
    names, doubtful = read_list(tmp_path / "train.txt")
    assert names == ("a", "b", "c 1", "d.e")
    assert [(f.code, f.image_id) for f in doubtful] == [("duplicate-in-list", "a")]


@pytest.mark.parametrize(
    "entry", ["../secret", "/etc/passwd", "..", "a/b", "a\\b", "C:\\x", "images/a.jpg", "a\0b", "a\x1bb", "~/../x"]
)
def test_lists_cannot_lead_out_of_the_data_set(tmp_path, entry):
    (tmp_path / "train.txt").write_text(f"good\n{entry}\n")
    with pytest.raises(FileProblem, match=r"line 2") as caught:
        read_list(tmp_path / "train.txt")
    assert caught.value.code == "unsafe-name"


def test_lists_must_be_text(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="UTF-8"):
        read_list(tmp_path / "train.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_list(tmp_path / "val.txt")


def test_split_by_hash_is_fixed_and_keeps_groups():
    ids = [f"image{i:03d}" for i in range(100)]
    val = split_by_hash(ids, 0.2)
    assert len(val) == 20
    assert val == split_by_hash(ids[::-1], 0.2)
    # the rule, written out
    import hashlib

    assert val == set(sorted(ids, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:20])
    groups = {i: i[:-1] for i in ids}
    grouped = split_by_hash(ids, 0.2, groups)
    assert len(grouped) == 20
    assert all(len({j in grouped for j in ids if groups[j] == groups[i]}) == 1 for i in ids)


def test_split_by_hash_of_few_images():
    assert split_by_hash([], 0.2) == set()
    assert split_by_hash(["a"], 0.2) == set()
    assert len(split_by_hash(["a", "b"], 0.2)) == 1
    assert split_by_hash(["a", "b"], 0) == set()


def test_volumes_in_slice_order():
    ids = ["patient002_frame01_slice_10", "patient002_frame01_slice_9", "patient001_frame12_slice_00", "photo"]
    volumes, groups = find_volumes(ids, compile_pattern(PATIENT_SLICES))
    assert {name: volume.ids for name, volume in volumes.items()} == {
        "patient001_frame12": ("patient001_frame12_slice_00",),
        "patient002_frame01": ("patient002_frame01_slice_9", "patient002_frame01_slice_10"),
    }
    assert groups["patient002_frame01_slice_9"] == "patient002"
    assert "photo" not in groups


@pytest.mark.parametrize("pattern", ["(", r"(?P<volume>.*)", r"(?P<slice>\d+)"])
def test_bad_volume_patterns(pattern):
    with pytest.raises(UsageError, match="volume pattern"):
        compile_pattern(pattern)
    with pytest.raises(UsageError, match="not a number"):
        find_volumes(["a_b"], compile_pattern(r"(?P<volume>.)_(?P<slice>.)"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "0 background: everything else\n1 red fox\n\n# remark\n2 hen (bird)\n255 unlabelled\n"),
        ("classes.txt", "background\nred fox\nhen (bird)\n"),
        ("classes.txt", "1: red fox\n0: background\n2: hen (bird)\n"),
        ("classes.yaml", "- background\n- red fox\n- hen (bird)\n"),
        ("classes.yaml", "0: background\n1: red fox\n2: hen (bird)\n255: void\n"),
        ("classes.json", '{"classes": ["background", "red fox", "hen (bird)"]}'),
    ],
)
def test_class_lists(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    classes = read_classes(tmp_path / name)
    assert classes.names == ("background", "red fox", "hen (bird)")
    assert classes.background == 0
    np.testing.assert_array_equal(classes.palette, [[0, 0, 0], [128, 0, 0], [0, 128, 0]])


def test_class_list_with_palette_and_background(tmp_path):
    (tmp_path / "c.yaml").write_text("classes: [sky, ground]\npalette: [[1, 2, 3], [4, 5, 6]]\nbackground: 1\n")
    classes = read_classes(tmp_path / "c.yaml")
    assert classes.background == 1
    assert classes.palette.tolist() == [[1, 2, 3], [4, 5, 6]]
    (tmp_path / "c.txt").write_text("sky\nground\n")
    assert read_classes(tmp_path / "c.txt").background is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a\n2 b\n", "without gaps"),
        ("a\na\n", "named twice"),
        ("", "expected class names"),
        ("0 a\n0 b\n", "expected class names"),
    ],
)
def test_bad_class_lists(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_classes(tmp_path / "classes.txt")


@pytest.mark.parametrize(
    "text",
    ["classes: [a]\npalette: [[1, 2]]", "classes: [a]\npalette: []", "classes: [a]\nbackground: 3", "[1, 2", "5"],
)
def test_bad_yaml_class_lists(tmp_path, text):
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(DataError, match=r"classes\.yaml"):
        read_classes(tmp_path / "classes.yaml")


def test_cards():
    voc = load_card("voc")
    assert len(voc.classes) == 21 and voc.classes[15] == "person"
    assert set(voc.aliases.values()) <= set(voc.classes)
    assert not set(voc.aliases) & set(voc.classes)
    assert len(load_card("camvid").classes) == 11 == len(load_card("camvid").colours)
    assert len(load_card("acdc").classes) == 4 == len(load_card("acdc").colours)
    context = load_card("context")
    assert len(context.classes) == 60 == len(context.facts["label_map"])
    assert context.facts["label_map"] == sorted(set(context.facts["label_map"]))
    assert set(context.orders["voc-first"]) == set(context.classes) and len(context.orders["voc-first"]) == 60
    voc_names = [{"diningtable": "table"}.get(name, name) for name in voc.classes]
    assert list(context.orders["voc-first"][:21]) == voc_names
    assert set(context.aliases.values()) <= set(context.classes)
    with pytest.raises(UsageError, match="did you mean 'voc'"):
        load_card("voc1")


def test_colour_map_has_the_published_colours():
    colours = colour_map(256)
    assert colours[[1, 2, 15, 20]].tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]
    assert colours[255].tolist() == [224, 224, 192]
    assert len({tuple(c) for c in colours.tolist()}) == 256


def test_files_that_are_not_read_are_told(tmp_path):
    for name in ("a.png", "b.heic", "c.NPY", "notes.md", ".hidden.heic", "d.jfif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more.zip").mkdir()
    warning, note = unread_files(tmp_path, (".png", ".jfif"))
    assert (warning.severity, warning.count, note.severity, note.count) == ("warning", 2, "note", 2)
    assert "such as b.heic" in warning.message
    assert "endings .png, .jfif" in warning.remedy
    assert "more.zip" in note.message
    assert unread_files(tmp_path / "missing", (".png",)) == []
