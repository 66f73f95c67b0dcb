"""Data sets in COCO's format, and DensePose; every file is made here."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from coco_files import rle, write_annotations
from PIL import Image

from wss.datasets import open_source
from wss.datasets.check import check
from wss.errors import DataError

SHAPE = (12, 16)


def write_image(path, seed=0, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)


def square(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / "coco"
    rows = [
        {"image_id": 7, "category_id": 18, "bbox": [2, 1, 8, 6], "segmentation": square(2, 1, 10, 7), "iscrowd": 0},
        {"image_id": 7, "category_id": 3, "bbox": [4.5, 2.5, 2, 2.2], "segmentation": square(4, 2, 7, 5)},
    ]
    crowd = np.zeros(SHAPE, bool)
    crowd[6:10, 8:14] = True
    rows.append(
        {"image_id": 7, "category_id": 3, "bbox": [8, 6, 6, 4], "segmentation": rle(crowd, packed=False), "iscrowd": 1}
    )
    write_annotations(
        root / "annotations/instances_train2017.json",
        {7: ("000007.jpg", SHAPE), 9: ("000009.jpg", SHAPE)},
        rows,
        {18: "dog", 3: "car"},
    )
    thing = np.zeros(SHAPE, bool)
    thing[3:5, 11] = True
    write_annotations(
        root / "annotations/instances_val2017.json",
        {1: ("000001.jpg", SHAPE)},
        [{"image_id": 1, "category_id": 18, "bbox": [11, 3, 1, 2], "segmentation": rle(thing)}],
        {18: "dog", 3: "car"},
    )
    for number, name in enumerate(("train2017/000007", "train2017/000009", "val2017/000001")):
        write_image(root / f"{name}.jpg", number)
    return root


def test_masks_boxes_and_tags_of_objects(coco):
    source = open_source("coco", coco)
    catalogue = source.catalogue
    assert dict(catalogue.splits) == {"train": ("000007", "000009"), "val": ("000001",)}
    assert catalogue.classes == ("background", "car", "dog")
    sample = source.read("000007")
    expected = np.zeros(SHAPE, np.uint8)
    expected[6:10, 8:14] = 255  # a crowd, below what is single
    expected[1:7, 2:10] = 2
    expected[2:5, 4:7] = 1
    np.testing.assert_array_equal(sample.mask, expected)
    assert sample.boxes.tolist() == [[2, 2, 1, 9, 6], [1, 4, 2, 6, 4]]
    empty = source.read("000009")
    assert not empty.mask.any() and empty.boxes.shape == (0, 5)
    assert np.argwhere(source.read("000001").mask == 2).tolist() == [[3, 11], [4, 11]]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read("000007").mask, expected)
    assert [p.name for p in source.files("000007")] == ["000007.jpg", "instances_train2017.json"]
    assert [f for f in check(source) if f.severity == "error"] == []


def test_the_fingerprint_follows_annotations_and_images(coco):
    before = open_source("coco", coco).fingerprint()
    assert open_source("coco", coco).fingerprint() == before
    path = coco / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"bbox": [11, 3', '"bbox": [10, 3'))
    changed = open_source("coco", coco).fingerprint()
    assert changed != before
    write_image(coco / "val2017/000001.jpg", 5)
    assert open_source("coco", coco).fingerprint() not in (before, changed)


def test_an_export_of_a_tool(coco, tmp_path):
    rows = [
        {"image_id": n, "category_id": 0, "bbox": [1, 1, 3, 3], "segmentation": square(1, 1, 4, 4)} for n in range(10)
    ]
    images = {n: (f"shots/p{n}.png", SHAPE) for n in range(10)}
    write_annotations(tmp_path / "export/result.json", images, rows, {0: "cell"})
    for n in range(10):
        write_image(tmp_path / f"export/photos/shots/p{n}.png", n)
    source = open_source("coco", tmp_path / "export", train="result.json", images="photos")
    assert {name: len(ids) for name, ids in source.catalogue.splits.items()} == {"train": 8, "val": 2}
    assert source.read("p3").boxes.tolist() == [[1, 1, 1, 3, 3]]
    with pytest.raises(DataError, match="with the option train"):
        open_source("coco", tmp_path / "export")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"annotation 100 of image 7 has the box \[1, 2, 3\]"),
        ({"bbox": [1, 2, 0, 4]}, "positive size"),
        ({"segmentation": 5}, "expected polygons or an encoding"),
        ({"segmentation": [], "bbox": None}, "has the box None"),
        ({"segmentation": [["a", 2]]}, "no list of x and y"),
        ({"segmentation": [[1, 2, 3]]}, "no list of x and y"),
        (
            {"segmentation": {"size": [12, 16], "counts": [3]}},
            "annotation 100 of image 7 has a segmentation that covers 3",
        ),
        ({"segmentation": {"size": [2, 2], "counts": [4]}}, r"of \(2, 2\), its image is \(12, 16\)"),
        ({"category_id": 5}, "category 5, which is not in"),
    ],
    ids=str,
)
def test_damaged_annotations_name_file_and_id(coco, change, message):
    path = coco / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= change
    path.write_text(json.dumps(content))
    source = open_source("coco", coco)
    with pytest.raises(DataError, match=message) as caught:
        source.read("000007")
    assert str(path) in str(caught.value)
    assert any(f.severity == "error" and f.image_id == "000007" for f in check(source))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [], "no list 'images'"),
        (lambda c: {**c, "annotations": {}}, "no list 'annotations'"),
        (lambda c: {**c, "images": [{"id": 3}]}, "expected id, file_name"),
        (lambda c: {**c, "images": [{**c["images"][0], "file_name": "../../etc/x.jpg"}]}, "not inside the folder"),
        (lambda c: {**c, "images": [{**c["images"][0], "file_name": "/etc/x.jpg"}]}, "not inside the folder"),
        (lambda c: {**c, "images": c["images"] + c["images"]}, "names two images '000007'"),
        (lambda c: {**c, "annotations": [{"id": 4, "image_id": 99}]}, "annotation 4 of image 99"),
        (lambda c: {**c, "categories": [{"id": 1}]}, "expected a whole number as id, and a name"),
        (lambda c: {**c, "images": [{**c["images"][0], "file_name": "C:\\x\\y.jpg"}]}, "not inside the folder"),
        (lambda c: {**c, "images": [{**c["images"][0], "file_name": "..\\y.jpg"}]}, "not inside the folder"),
        (lambda c: {**c, "images": [{**c["images"][0], "file_name": ""}]}, "not inside the folder"),
    ],
)
def test_files_of_another_form_are_refused(coco, change, message):
    path = coco / "annotations/instances_train2017.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=message) as caught:
        open_source("coco", coco)
    assert str(path) in str(caught.value)


def test_truncated_json_and_files_that_disagree(coco):
    path = coco / "annotations/instances_val2017.json"
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"instances_val2017\.json: no readable JSON"):
        open_source("coco", coco)
    path.write_text(content.replace("dog", "cat"))
    with pytest.raises(DataError, match="other categories"):
        open_source("coco", coco)
    path.write_text(content.replace("000001", "000007"))
    with pytest.raises(DataError, match=r"'000007', which instances_train2017\.json has too"):
        open_source("coco", coco)
    with pytest.raises(DataError, match="no such annotation file"):
        open_source("coco", coco, train="elsewhere.json")


def _source(root, rows, categories=None, file="p.jpg"):
    """A data set of one image."""
    write_annotations(root / "train.json", {1: (file, SHAPE)}, rows, categories or {1: "cell", 2: "wall"})
    write_image(root / "images" / file.replace("\\", "/"))
    return open_source("coco", root)


def _notes(source):
    return {f.code: f for f in check(source)}


WHOLE = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "segmentation": square(1, 1, 4, 4)}


@pytest.mark.parametrize(
    ("outline", "void"),
    [
        ({}, np.s_[2:9, 6:13]),
        ({"segmentation": None}, np.s_[2:9, 6:13]),
        ({"segmentation": []}, np.s_[2:9, 6:13]),
        ({"segmentation": [[7, 3, 9, 3]]}, np.s_[2:9, 6:13]),
        ({"segmentation": [[7, 3, 9, 3, 11, 3]]}, np.s_[2:9, 6:13]),
        ({"segmentation": {"size": [12, 16], "counts": [192]}}, np.s_[2:9, 6:13]),
        ({"segmentation": [[7, 3, 9, 3]], "bbox": None}, np.s_[3:4, 7:9]),
    ],
    ids=str,
)
def test_objects_without_outline_are_void_and_never_background(tmp_path, outline, void):
    bare = {"image_id": 1, "category_id": 2, "bbox": [6, 2, 7, 6.5], "area": 0, **outline}
    source = _source(tmp_path, [WHOLE, bare])
    expected = np.zeros(SHAPE, np.uint8)
    expected[void] = 255
    expected[1:4, 1:4] = 1
    np.testing.assert_array_equal(source.load_mask("p"), expected)
    found = {f.code: f for f in source.notes}["object-without-outline"]
    assert found.message.startswith("1 of 2 objects in 1 images have no outline")
    if bare["bbox"]:
        assert _notes(source)["object-without-outline"].severity == "warning"
        assert source.read("p").boxes.tolist() == [[1, 1, 1, 3, 3], [2, 6, 2, 12, 8]]


def test_a_short_outline_beside_a_whole_one_is_void(tmp_path):
    row = {**WHOLE, "segmentation": [*square(1, 1, 4, 4), [8, 8, 10, 10]]}
    source = _source(tmp_path, [row])
    expected = np.zeros(SHAPE, np.uint8)
    expected[8:10, 8:10] = 255
    expected[1:4, 1:4] = 1
    np.testing.assert_array_equal(source.read("p").mask, expected)
    assert "object-without-outline" in _notes(source)


def test_objects_smaller_than_a_pixel_do_not_vanish(tmp_path):
    tiny = {"image_id": 1, "category_id": 2, "bbox": [9.6, 5.6, 0.3, 0.3], "segmentation": square(9.6, 5.6, 9.9, 5.9)}
    source = _source(tmp_path, [WHOLE, tiny])
    assert np.argwhere(source.read("p").mask == 255).tolist() == [[5, 9]]
    assert "object-without-outline" in _notes(source)


def test_without_any_outline_there_are_boxes_and_no_masks(tmp_path):
    rows = [{**WHOLE, "segmentation": []}, {**WHOLE, "category_id": 2, "segmentation": []}]
    source = _source(tmp_path, rows)
    assert source.read("p").mask is None
    assert source.catalogue.unmasked == {"p"}
    assert len(source.read("p").boxes) == 2
    found = _notes(source)["object-without-outline"]
    assert "2 of 2 objects" in found.message and "there are no masks" in found.message
    assert "object-without-outline" not in _notes(_source(tmp_path / "whole", [WHOLE]))


@pytest.mark.parametrize("name", ["background", "Background", "_background_"])
def test_a_category_called_background_is_the_background(tmp_path, name):
    rows = [
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 9, 9], "segmentation": square(0, 0, 9, 9)},
        {**WHOLE, "category_id": 7},
        {"image_id": 1, "category_id": 0, "bbox": [2, 2, 1, 1], "segmentation": square(2, 2, 3, 3)},
    ]
    source = _source(tmp_path, rows, {0: name, 7: "cell"})
    assert source.catalogue.classes == ("background", "cell")
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:4, 1:4] = 1
    expected[2, 2] = 0  # smaller objects lie on larger ones
    sample = source.read("p")
    np.testing.assert_array_equal(sample.mask, expected)
    assert sample.boxes.tolist() == [[1, 1, 1, 3, 3]]
    assert f"category 0, {name!r}, is the background class" in _notes(source)["background-category"].message


def test_categories_of_the_same_name_are_one_class(tmp_path):
    rows = [{**WHOLE, "category_id": 4}, {**WHOLE, "category_id": 9, "segmentation": square(8, 8, 10, 10)}]
    source = _source(tmp_path, rows, {4: "cell", 5: "wall", 9: "cell"})
    assert source.catalogue.classes == ("background", "cell", "wall")
    mask = source.read("p").mask
    assert (mask[1:4, 1:4] == 1).all() and (mask[8:10, 8:10] == 1).all() and mask.sum() == 13
    assert "categories 4 and 9 have the same name 'cell'" in _notes(source)["same-category"].message


def test_file_names_with_backslashes_are_in_folders(tmp_path):
    source = _source(tmp_path, [WHOLE], file="day1\\scan.v1.png")
    assert source.catalogue.splits["train"] == ("scan.v1",)
    assert source.read("scan.v1").mask.any()


# densepose


def person(image_id, box, parts, **more):
    """A person whose parts are given by label as rows and columns of the grid of the box."""
    masks = []
    for label in range(1, 15):
        mask = np.zeros((256, 256), bool)
        if label in parts:
            mask[parts[label]] = True
        masks.append(rle(mask) if label in parts else [])
    x, y, w, h = box
    return {"image_id": image_id, "bbox": box, "segmentation": square(x, y, x + w, y + h), "dp_masks": masks, **more}


@pytest.fixture
def densepose(tmp_path):
    root = tmp_path / "densepose"
    size = (40, 60)
    top, bottom = np.s_[:64], np.s_[128:]
    points = {"dp_x": [127.5, 255.0], "dp_y": [0.0, 127.5], "dp_I": [24.0, 7.0]}
    rows = [
        person(1, [30.0, 10.0, 4.0, 8.0], {14: np.s_[:, 128:]}),
        person(1, [10.0, 4.0, 32.0, 32.0], {14: top, 1: bottom}, **points),
        {"image_id": 1, "bbox": [40, 20, 10, 10], "segmentation": square(38, 30, 50, 38)},
        {"image_id": 2, "bbox": [1, 1, 5, 5], "segmentation": square(1, 1, 6, 6)},
    ]
    names = {1: ("COCO_train2014_000000000001.jpg", size), 2: ("COCO_train2014_000000000002.jpg", size)}
    write_annotations(root / "densepose_coco_2014_train.json", names, rows)
    write_annotations(
        root / "annotations/densepose_coco_2014_minival.json",
        {5: ("COCO_val2014_000000000005.jpg", size)},
        [person(5, [0.5, 0.5, 10.0, 10.0], {2: np.s_[:]})],
    )
    for number, name in enumerate(("train2014/COCO_train2014_000000000001", "train2014/COCO_train2014_000000000002")):
        write_image(root / f"{name}.jpg", number, size)
    write_image(root / "val2014/COCO_val2014_000000000005.jpg", 9, size)
    return root


def test_parts_of_people(densepose):
    source = open_source("densepose", densepose)
    catalogue = source.catalogue
    first, second, val = *catalogue.splits["train"], *catalogue.splits["val"]
    assert (len(catalogue.classes), catalogue.classes[14], catalogue.background) == (15, "head", 0)
    assert len(np.unique(catalogue.palette, axis=0)) == 15
    expected = np.zeros((40, 60), np.uint8)
    expected[30:38, 38:50] = 255  # someone whose parts are not known
    expected[4:12, 10:42] = 14
    expected[20:36, 10:42] = 1
    expected[10:18, 32:34] = 14  # the smaller person on top
    sample = source.read(first)
    np.testing.assert_array_equal(sample.mask, expected)
    # the box 0.5..10.5 has the centres of pixels 0 to 9
    assert np.argwhere(source.read(val).mask == 2).tolist() == [[y, x] for y in range(10) for x in range(10)]
    nobody = source.read(second)
    assert nobody.mask is None and nobody.strokes is None


def test_people_without_parts_and_outline_are_void_in_their_box(densepose):
    path = densepose / "densepose_coco_2014_train.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["segmentation"] = []
    path.write_text(json.dumps(content))
    source = open_source("densepose", densepose)
    mask = source.read(source.catalogue.splits["train"][0]).mask
    assert (mask[20:30, 42:50] == 255).all() and not mask[31:, 42:].any()


def test_points_in_the_middle_of_parts_and_as_annotated(densepose):
    source = open_source("densepose", densepose)
    first = source.catalogue.splits["train"][0]
    found = [(s.label, *np.rint(s.points[0]).tolist(), s.width) for s in source.read(first).strokes]
    # width: twice .03 of the root of the box's area, at least 1
    assert found == [(1, 25.0, 27.0, 2), (14, 25.0, 7.0, 2), (14, 32.0, 13.0, 1)]
    wide = open_source("densepose", densepose, point_std=0.1).read(first).strokes
    assert [s.width for s in wide] == [6, 6, 1]
    mask = source.read(first).mask
    for stroke in wide:
        x, y = np.rint(stroke.points[0]).astype(int)
        assert mask[y, x] == stroke.label
    person_two = json.loads((densepose / "densepose_coco_2014_train.json").read_text())
    person_two["annotations"][0] |= {"dp_x": [], "dp_y": [], "dp_I": []}
    (densepose / "densepose_coco_2014_train.json").write_text(json.dumps(person_two))
    annotated = open_source("densepose", densepose, points="annotated").read(first).strokes
    # chart 24 is the head, chart 7 the right thigh
    assert [(s.label, *s.points[0].tolist()) for s in annotated] == [(14, 25.5, 3.5), (6, 41.5, 19.5)]


def _damage(densepose, change):
    """Change the second annotation; gives the file."""
    path = densepose / "densepose_coco_2014_train.json"
    content = json.loads(path.read_text())
    content["annotations"][1] |= change
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dp_masks": [[]]}, "no 14 masks of parts"),
        ({"dp_masks": [{"size": [256, 256], "counts": "9"}] + 13 * [[]]}, "mask of part 1 that covers 9 pixels"),
        ({"dp_masks": [{"size": [2, 2], "counts": [4]}] + 13 * [[]]}, r"mask of part 1 of \(2, 2\)"),
        ({"bbox": None}, "has the box None"),
    ],
    ids=str,
)
def test_damaged_parts_name_file_and_annotation(densepose, change, message):
    path = _damage(densepose, change)
    source = open_source("densepose", densepose)
    with pytest.raises(DataError, match=f"annotation 101 of image 1 .*{message}") as caught:
        source.read(source.catalogue.splits["train"][0])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dp_x": [1.0]}, "of equal length"),
        ({"dp_I": [25.0, 1.0]}, "no part from 1 to 24"),
        ({"dp_y": None}, "of equal length"),
    ],
    ids=str,
)
def test_damaged_points(densepose, change, message):
    _damage(densepose, change)
    source = open_source("densepose", densepose, points="annotated")
    with pytest.raises(DataError, match=message):
        source.read(source.catalogue.splits["train"][0])


def test_no_annotation_file_names_where_to_look(tmp_path):
    with pytest.raises(DataError, match=r"densepose_coco_2014_train\.json"):
        open_source("densepose", tmp_path)
