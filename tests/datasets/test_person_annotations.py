"""Annotations as people have them: Unicode forms, ids, names and places that other programs write and nobody expects."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from coco_files import rle
from PIL import Image
from small_set import findings

from wss.datasets import open_source
from wss.datasets.classlist import ClassList, read_classes
from wss.datasets.drawn import open_drawings
from wss.datasets.name_pattern import fitting_pattern
from wss.datasets.strokes_io import read_polylines, read_xml
from wss.datasets.tables import read_boxes, read_tags
from wss.errors import DataError

SHAPE = (40, 50)
CLASSES = ClassList(("background", "café", "wall"), np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8), 0)
LABELS = CLASSES.labels()
DECOMPOSED = unicodedata.normalize("NFD", "café")
RING = [[5, 5], [20, 5], [20, 15], [5, 15]]


def _image(path, seed=0, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)).save(path)


def _open(path, program, **options):
    return open_drawings(path, program, CLASSES, **options)


def _codes(drawings):
    return {note.code: note for note in drawings.notes}


# Unicode forms


def _cvat(shapes, more=""):
    head = '<annotations><image id="0" name="a.png" width="50" height="40">'
    return f"{head}{shapes}</image>{more}</annotations>"


def _labelme(shapes, **fields):
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    return json.dumps({"version": "5.0.0", "shapes": shapes, "imagePath": "a.png", "imageData": None, **size, **fields})


def _labelstudio(results, data=None):
    task = {"data": data or {"image": "/data/a.png"}, "annotations": [{"result": results}]}
    return json.dumps([task])


def _result(name, **fields):
    value = {"points": [[10, 10], [40, 10], [40, 40]], "polygonlabels": [name]}
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0]}
    return {"id": "r", "type": "polygonlabels", "to_name": "image", **size, "value": value, **fields}


def _feature(name, ring=RING, **plane):
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]], **({"plane": plane} if plane else {})}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


@pytest.mark.parametrize(
    ("program", "file", "text"),
    [
        ("cvat", "a.xml", _cvat(f'<polygon label="{DECOMPOSED}" points="5,5;20,5;20,15;5,15"/>')),
        ("labelme", "a.json", _labelme([{"label": DECOMPOSED, "points": RING}])),
        ("labelstudio", "a.json", _labelstudio([_result(DECOMPOSED)])),
        ("qupath", "a.geojson", json.dumps([_feature(DECOMPOSED)])),
    ],
)
def test_class_names_match_in_either_unicode_form(tmp_path, program, file, text):
    _image(tmp_path / "images/a.png")
    (tmp_path / file).write_text(text, encoding="utf-8")
    found = _open(tmp_path / file, program, images=tmp_path / "images").read("a").scribble
    assert set(np.unique(found)) == {1, 255}


def test_class_names_of_lists_tables_and_scribbles_match_in_either_form(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text(f"background\n{DECOMPOSED}\n", encoding="utf-8")
    assert read_classes(file).names == ("background", "café")
    file.write_text("café\n" + DECOMPOSED + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="named twice"):
        read_classes(file)
    (tmp_path / "data.yaml").write_text(f"names: [{DECOMPOSED}]\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    _image(tmp_path / "images/a.png")
    assert (_open(tmp_path / "a.txt", "yolo", images=tmp_path / "images").read("a").scribble == 1).any()
    table = tmp_path / "t.csv"
    for text in (f"image,class\na,{DECOMPOSED}\n", f"image,{DECOMPOSED}\na,1\n", f"image,class\na,wall;{DECOMPOSED}\n"):
        table.write_text(text, encoding="utf-8")
        assert 1 in read_tags(table, LABELS, ["a"])[0]["a"]
    table.write_text(f"a,{DECOMPOSED},1,2,3,4\n", encoding="utf-8")
    assert read_boxes(table, LABELS, ["a"])[0]["a"] == ((1, 1, 2, 3, 4),)
    point = "<point><X>1</X><Y>2</Y></point>"
    (tmp_path / "a.xml").write_text(f"<annotation><polygon><tag>{DECOMPOSED}</tag>{point}</polygon></annotation>")
    assert read_xml(tmp_path / "a.xml", LABELS)[0].label == 1


# COCO

TWICE = {"file_name": "a.png", "height": 40, "width": 50}
ROW = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 15, 10], "segmentation": [np.ravel(RING).tolist()]}


def _coco(root, rows=(ROW,), images=None, categories=None, file="a.png"):
    _image(root / "images" / file)
    content = {
        "images": images or [{"id": 1, "file_name": "a.png", "height": 40, "width": 50}],
        "annotations": list(rows),
        "categories": categories or [{"id": 1, "name": "cell"}, {"id": 2, "name": "wall"}],
    }
    (root / "train.json").write_text(json.dumps(content), encoding="utf-8")
    return open_source("coco", root, val_fraction=0)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_file", ["NFC", "NFD"])
def test_coco_names_match_in_either_unicode_form(tmp_path, on_disk, in_file):
    name = "für/é.png"
    images = [{"id": 1, "file_name": unicodedata.normalize(in_file, name), "height": 40, "width": 50}]
    categories = [{"id": 1, "name": DECOMPOSED}, {"id": 2, "name": "café"}]
    source = _coco(tmp_path, images=images, categories=categories, file=unicodedata.normalize(on_disk, name))
    assert source.catalogue.classes == ("background", "café")  # one class
    assert (source.read("é").mask == 1).sum() == 150


@pytest.mark.parametrize(("in_images", "in_rows"), [("1", 1), (1, "1"), (1.0, 1), ("1", "1"), (1, 1.0)])
def test_coco_ids_may_be_digits_or_whole_floats(tmp_path, in_images, in_rows):
    images = [{"id": in_images, "file_name": "a.png", "height": 40, "width": 50}]
    categories = [{"id": in_images, "name": "cell"}, {"id": 0, "name": "wall"}]
    source = _coco(tmp_path, [{**ROW, "image_id": in_rows, "category_id": in_rows}], images, categories)
    assert (source.read("a").mask == 2).sum() == 150


@pytest.mark.parametrize(("crowd", "label"), [("0", 1), (0.0, 1), (None, 1), (False, 1), ("1", 255), (True, 255)])
def test_coco_crowds_are_numbers_even_as_text(tmp_path, crowd, label):
    mask = _coco(tmp_path, [{**ROW, "iscrowd": crowd}]).read("a").mask
    assert (mask == label).sum() == 150


def test_coco_objects_with_outline_and_without_box_have_the_box_around_it(tmp_path):
    region = np.zeros(SHAPE, bool)
    region[7:9, 30:44] = True
    bare = {"image_id": 1, "category_id": 2, "segmentation": rle(region)}
    rows = [{**ROW, "bbox": []}, {**bare, "id": 2}, {**ROW, "id": 3, "segmentation": [[]]}]
    sample = _coco(tmp_path, rows).read("a")
    assert sample.boxes.tolist() == [[1, 5, 5, 19, 14], [2, 30, 7, 43, 8], [1, 5, 5, 19, 14]]
    assert (sample.mask == 2).sum() == 28


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [TWICE | {"id": 1}, TWICE | {"id": "1", "file_name": "b.png"}]}, "id '1' for the images 'a' and 'b'"),
        ({"categories": [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]}, "id 1 for the categories 'x' and 'y'"),
        ({"categories": [{"id": 1, "name": None}]}, "and a name"),
        ({"categories": [{"id": "x", "name": "y"}]}, "whole number as id"),
        ({"rows": [{**ROW, "iscrowd": "no"}]}, "'no' for iscrowd"),
        ({"rows": [{**ROW, "bbox": [0.1, 0, 0.5, 0.5], "segmentation": [[0.1, 0, 0.6, 0, 0.6, 1]]}]}, "shares of the image"),
    ],
)  # fmt: skip
def test_coco_files_that_would_mean_something_else_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=r"train\.json") as caught:
        _coco(tmp_path, **change).read("a")
    assert message in str(caught.value)


def test_the_folder_of_coco_images_is_found_without_the_first_image(tmp_path):
    images = [{"id": n, "file_name": name, "height": 40, "width": 50} for n, name in ((7, "gone.png"), (1, "a.png"))]
    assert (_coco(tmp_path, images=images).read("a").mask == 1).any()


# Labelme


def test_labelme_files_named_after_the_image_with_its_ending(tmp_path):
    shape = {"label": "wall", "points": RING}
    (tmp_path / "a.png.json").write_text(_labelme([shape], imagePath="..\\photos\\a.png"))
    (tmp_path / "b.png.json").write_text(_labelme([shape], imagePath="b.png.jpg"))
    drawings = _open(tmp_path, "labelme")
    assert sorted(drawings.drawings) == ["a", "b.png"] and not drawings.notes
    (tmp_path / "a.json").write_text(_labelme([shape]))
    with pytest.raises(DataError, match="same image 'a'"):
        _open(tmp_path, "labelme")


def test_labelme_files_that_were_drawn_on_another_image_are_told(tmp_path):
    (tmp_path / "b.json").write_text(_labelme([{"label": "wall", "points": RING}]))
    note = _codes(_open(tmp_path, "labelme"))["other-image"]
    assert note.severity == "warning" and "b: a.png" in note.message


def test_large_circles_are_round(tmp_path):
    circle = {"label": "wall", "shape_type": "circle", "points": [[0, 0], [1600, 0]]}
    (tmp_path / "a.json").write_text(_labelme([circle], imageHeight=1700, imageWidth=1700))
    found = _open(tmp_path, "labelme").read("a").scribble == 2
    distance = np.hypot(*np.mgrid[:1700, :1700])
    assert found[distance < 1599].all() and not found[distance > 1601].any()


def test_labelme_shapes_of_another_type_have_a_remedy_that_works(tmp_path):
    (tmp_path / "a.json").write_text(_labelme([{"label": "wall", "points": RING, "shape_type": "oriented_rectangle"}]))
    with pytest.raises(DataError, match="draw it as one of these"):
        _open(tmp_path, "labelme")


# Shapes and images


def test_shapes_beyond_their_image_are_told(tmp_path):
    far = '<box label="wall" xtl="200" ytl="5" xbr="210" ybr="9"/><polyline label="wall" points="5,-90;8,-80"/>'
    far += '<mask label="wall" rle="0,4" left="70" top="3" width="2" height="2"/>'
    near = '<box label="wall" xtl="-1" ytl="5" xbr="51" ybr="9"/>'
    (tmp_path / "a.xml").write_text(_cvat(near))
    assert "outside-image" not in _codes(_open(tmp_path / "a.xml", "cvat"))
    (tmp_path / "a.xml").write_text(_cvat(near + far))
    note = _codes(_open(tmp_path / "a.xml", "cvat"))["outside-image"]
    assert "3 shapes" in note.message and "50x40" in note.message


def test_images_without_any_shape_are_told(tmp_path):
    more = '<image id="1" name="b.png" width="50" height="40"/>'
    (tmp_path / "a.xml").write_text(_cvat('<box label="wall" xtl="1" ytl="5" xbr="9" ybr="9"/>', more))
    note = _codes(_open(tmp_path / "a.xml", "cvat"))["nothing-drawn"]
    assert (note.severity, note.image_id) == ("note", "b")
    note = _codes(_open(tmp_path / "a.xml", "cvat", rest="background"))["nothing-drawn"]
    assert note.severity == "warning" and "become background" in note.message


# Label Studio


def test_labelstudio_texts_about_regions_are_left_out(tmp_path):
    about = _result("wall", type="choices")
    about["value"] = {"points": about["value"]["points"], "choices": ["blurred"]}
    (tmp_path / "a.json").write_text(_labelstudio([_result("wall"), about]))
    drawings = _open(tmp_path / "a.json", "labelstudio")
    assert (drawings.read("a").scribble == 2).any() and "left-out" in _codes(drawings)


@pytest.mark.parametrize("other", [{"to_name": "second"}, {"item_index": 1}])
def test_labelstudio_regions_on_several_images_of_a_task_are_refused(tmp_path, other):
    data = {"image": "a.png", "second": "b.png"}
    (tmp_path / "a.json").write_text(_labelstudio([_result("wall"), _result("wall", **other)], data))
    with pytest.raises(DataError, match="several images of its task"):
        _open(tmp_path / "a.json", "labelstudio")


# YOLO


def test_a_class_list_with_background_is_no_list_of_yolo(tmp_path):
    """``classes.txt`` of a data set, above its folder of text files: its background is not counted by YOLO."""
    (tmp_path / "classes.txt").write_text("background\ncafé\nwall\n", encoding="utf-8")
    (tmp_path / "labels").mkdir()
    _image(tmp_path / "images/a.png")
    text = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"
    (tmp_path / "labels/a.txt").write_text(text)
    drawings = _open(tmp_path / "labels", "yolo")
    assert set(np.unique(drawings.read("a").scribble)) == {1, 255}
    note = _codes(drawings)["class-numbers"]
    assert note.severity == "warning" and "0 café, 1 wall" in note.message and "data.yaml" in note.remedy
    (tmp_path / "labels/a.txt").write_text(
        f"{text}2 0.6 0.6 0.9 0.6 0.9 0.9\n"
    )  # the highest number needs the background
    assert set(np.unique(_open(tmp_path / "labels", "yolo").read("a").scribble)) == {0, 2, 255}
    (tmp_path / "labels/a.txt").write_text(text)
    (tmp_path / "labels/data.yaml").write_text("names: [background, café, wall]\n", encoding="utf-8")
    assert set(np.unique(_open(tmp_path / "labels", "yolo").read("a").scribble)) == {0, 255}


# QuPath


def test_qupath_objects_of_several_planes_or_another_resolution_are_refused(tmp_path):
    _image(tmp_path / "images/a.png")

    def read(*features):
        (tmp_path / "a.geojson").write_text(json.dumps(features))
        return _open(tmp_path / "a.geojson", "qupath", images=tmp_path / "images").read("a").scribble

    assert (read(_feature("wall", z=3, t=0), _feature("wall", z=3, t=0)) == 2).any()
    with pytest.raises(DataError, match="several planes"):
        read(_feature("wall", z=3, t=0), _feature("wall", z=4, t=0))
    with pytest.raises(DataError, match="at the resolution"):
        read(_feature("wall", [[0, 0], [200, 0], [200, 160], [0, 160]]))
    assert (read(_feature("wall", [[-1, -1], [51, -1], [51, 41], [-1, 41]])) == 2).all()


def test_qupath_files_of_one_image_are_not_merged(tmp_path):
    _image(tmp_path / "images/a.png")
    for name in ("a.geojson", "a.png.geojson"):
        (tmp_path / name).write_text(json.dumps([_feature("wall")]))
    with pytest.raises(DataError, match="same image 'a'"):
        _open(tmp_path, "qupath", images=tmp_path / "images")


# Tables and strokes


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_boxes, "image,class,x0,y0,x1,y1\na,wall,0.1,0.2,0.5,0.75\n", "shares of the image"),
        (read_boxes, "a,wall,1,2,3,4,5\n", "line 1: 7 columns"),
        (read_tags, "image,wall,wall\na,1,0\n", "same class"),
        (read_tags, "image,class\nx/a.jpg,wall\ny/a.jpg,café\n", "in the folder y, above it in x"),
    ],
)
def test_tables_that_would_mean_something_else_are_refused(tmp_path, read, text, message):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv") as caught:
        read(tmp_path / "t.csv", LABELS, ["a"])
    assert message in str(caught.value)


def test_boxes_of_one_pixel_in_the_corner_are_no_shares(tmp_path):
    (tmp_path / "t.csv").write_text("a,wall,0,0,1,1\n")
    assert read_boxes(tmp_path / "t.csv", LABELS, ["a"])[0]["a"] == ((2, 0, 0, 1, 1),)


@pytest.mark.parametrize("line", [",1,2,3", "1,10 20,30", "1 ,2 3,4", "1 2 3"])
def test_polylines_with_a_missing_comma_are_refused(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"a\.txt"):
        read_polylines(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text(" 1, 2 ,3,\t\r\n\r\n")
    assert read_polylines(tmp_path / "a.txt")[0].points.tolist() == [[2, 3]]


@pytest.mark.parametrize("text", ["<annotation><object><bndbox/></object></annotation>", "<kml/>"])
def test_xml_of_another_kind_is_not_an_empty_scribble(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match="another kind"):
        read_xml(tmp_path / "a.xml", LABELS)
    (tmp_path / "a.xml").write_text("<annotation/>")
    assert read_xml(tmp_path / "a.xml", LABELS) == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "0 background\ncell\n", "'cell' has no index"),
        ("classes.txt", "id,name\n0,background\n1,cell\n", "'id,name' has no index"),
        ("classes.txt", "background, cell, wall\n", "on one line"),
        ("classes.yaml", "names: [cell, off]\n", "put the name in quotes"),
    ],
)
def test_class_lists_that_would_mean_something_else_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_classes(tmp_path / name)
    assert message in str(caught.value)


def test_class_names_may_begin_with_numbers(tmp_path):
    (tmp_path / "classes.txt").write_text("background\n2 doors\n4 doors\n")
    assert read_classes(tmp_path / "classes.txt").names == ("background", "2 doors", "4 doors")


# Names of masks


def _set(root, masks, images=("a1", "b2", "c3")):
    (root / "masks").mkdir(parents=True)
    (root / "classes.txt").write_text("background\ncell\n")
    for number, name in enumerate(images):
        _image(root / f"images/{name}.png", number)
    for name in masks:
        (root / "masks" / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.eye(*SHAPE, dtype=np.uint8)).save(root / "masks" / name)
    return root


@pytest.mark.parametrize(
    ("masks", "pattern"),
    [
        (["a1_mask.png", "b2_mask.png", "c3_mask.png"], "{name}_mask.png"),
        (["truth-a1.tif", "truth-b2.png"], "truth-{name}"),
        (["a1.png_gt.png", "b2.png_gt.png"], "{name}.png_gt.png"),
        (["a1/mask.png", "b2/mask.png", "c3/mask.png"], "masks/{name}/mask.png"),
        (["a1/a1_m.png", "b2/b2_m.png"], "masks/{name}/{name}_m.png"),
    ],
)
def test_a_pattern_is_proposed_where_no_mask_has_the_name_of_its_image(tmp_path, masks, pattern):
    root = _set(tmp_path / "d", masks)
    finding = findings(root)["no-mask-matches"]
    assert finding.severity == "error" and f"mask_pattern={pattern}`" in finding.remedy.replace("'", "")
    after = findings(root, mask_pattern=pattern)
    assert "no-mask-matches" not in after and "orphan" not in after
    entries = open_source("folder", root, mask_pattern=pattern).entries.values()
    assert sum(entry.mask is not None for entry in entries) == len(masks)


def test_no_pattern_is_proposed_that_does_not_fit(tmp_path):
    finding = findings(_set(tmp_path / "d", ["m_001.png", "m_002.png"]))["no-mask-matches"]
    assert finding.severity == "warning" and "{name}" not in finding.remedy
    assert fitting_pattern(["1", "10", "11"], ["1_m.png", "10_m.png", "11_m.png"]) == "{name}_m.png"
    assert fitting_pattern(["a", "b", "c"], ["xa.png", "q.png", "r.png"]) is None


def test_masks_among_the_images_are_told(tmp_path):
    root = _set(tmp_path / "d", [], ["a1", "b2", "a1_mask", "b2_mask", "c3"])
    finding = findings(root)["mask-among-images"]
    assert finding.count == 2 and "'mask_pattern=images/{name}_mask.png'" in finding.remedy
    for name in ("a1", "b2"):
        Image.fromarray(np.eye(*SHAPE, dtype=np.uint8)).save(root / f"images/{name}_mask.png")
    assert "mask-among-images" not in findings(root, mask_pattern="images/{name}_mask.png")
    assert "mask-among-images" not in findings(_set(tmp_path / "e", [], ["a1", "b2", "label", "c_mask"]))


def test_tags_alone_get_no_remedy_that_needs_masks(tmp_path):
    root = _set(tmp_path / "d", [])
    (root / "tags.csv").write_text("image,class\na1,cell\nb2,\nc3,cell\n")
    finding = findings(root)["no-scribbles"]
    assert "simulate" not in finding.remedy and "`sec`" in finding.remedy and "boxes" not in finding.message
    (root / "boxes.csv").write_text("a1,cell,1,2,9,9\n")
    assert "`spml-box`" in findings(root)["no-scribbles"].remedy
