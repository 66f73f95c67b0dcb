"""Annotations of drawing programs, against readings of their formats that are made here or by OpenCV."""

from __future__ import annotations

import base64
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image
from program_cases import CLASSES, SHAPE, agree, images_of, raster
from typer.testing import CliRunner

from wss.cli.main import app
from wss.datasets import open_source
from wss.datasets.classlist import read_classes
from wss.datasets.convert import convert
from wss.datasets.cvat import file_name, image_id
from wss.datasets.drawn import open_drawings
from wss.datasets.source import Catalogue, Sample
from wss.errors import DataError
from wss.scribbles.strokes import Stroke

# CVAT


def _cvat(path, shapes, name="a.png", shape=SHAPE):
    path.write_text(
        f'<annotations><version>1.1</version><image id="0" name="{name}" width="{shape[1]}" height="{shape[0]}">'
        f"{shapes}</image></annotations>"
    )
    return path


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 200.5, -30])
def test_cvat_boxes_and_ellipses_are_turned_clockwise_about_their_centre(tmp_path, degrees):
    box = f'<box label="cell" xtl="10" ytl="16" xbr="38" ybr="24" rotation="{degrees}"/>'
    wanted = np.zeros(SHAPE, np.uint8)
    corners = cv2.boxPoints(((24, 20), (28, 8), degrees))
    cv2.fillPoly(wanted, [np.rint(corners).astype(np.int32)], 1)
    found = raster(_cvat(tmp_path / "a.xml", box), "cvat")
    assert agree(found == 1, wanted == 1) > 0.97
    ellipse = f'<ellipse label="cell" cx="24" cy="20" rx="14" ry="5" rotation="{degrees}"/>'
    wanted = cv2.ellipse(np.zeros(SHAPE, np.uint8), (24, 20), (14, 5), degrees, 0, 360, 1, -1)
    found = raster(_cvat(tmp_path / "a.xml", ellipse), "cvat")
    assert agree(found == 1, wanted == 1) > 0.93


def test_cvat_brush_masks_are_runs_along_rows_of_their_box(tmp_path):
    drawn = np.random.default_rng(0).random((7, 9)) < 0.5
    runs, inside = [0], False
    for pixel in drawn.ravel().tolist():
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    mask = f'<mask label="cell" rle="{", ".join(map(str, runs))}" left="12" top="5" width="9" height="7" z_order="0"/>'
    found = raster(_cvat(tmp_path / "a.xml", mask), "cvat")
    wanted = np.full(SHAPE, 255)
    wanted[5:12, 12:21][drawn] = 1
    np.testing.assert_array_equal(found, wanted)


def test_cvat_masks_that_leave_the_image_are_cut_off(tmp_path):
    mask = '<mask label="cell" rle="0, 20" left="-2" top="38" width="5" height="4"/>'
    found = raster(_cvat(tmp_path / "a.xml", mask), "cvat")
    assert np.argwhere(found == 1).tolist() == [[y, x] for y in (38, 39) for x in (0, 1, 2)]
    mask = '<mask label="cell" rle="0, 5, 10, 5" left="48" top="-3" width="5" height="4"/>'
    found = raster(_cvat(tmp_path / "a.xml", mask), "cvat")
    assert np.argwhere(found == 1).tolist() == [[0, 48], [0, 49]]


def test_cvat_shapes_lie_on_each_other_by_their_z_order(tmp_path):
    shapes = (
        '<polygon label="wall" points="5,5;20,5;20,20;5,20" z_order="2"/>'
        '<mask label="cell" rle="0, 900" left="0" top="0" width="30" height="30" z_order="1"/>'
        '<box label="cell" xtl="8" ytl="8" xbr="9" ybr="9" z_order="2"/>'
    )
    found = raster(_cvat(tmp_path / "a.xml", shapes), "cvat")
    assert (found[6, 6], found[8, 8], found[2, 2]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<mask label="cell" rle="3, 5" left="1" top="1" width="5" height="2"/>', "its runs cover 8"),
        ('<mask label="cell" rle="3, 5, 2" left="1" top="1" width="0" height="2"/>', "0x2 pixels"),
        ('<mask label="cell" rle="12, -2" left="1" top="1" width="5" height="2"/>', "no numbers of pixels"),
        ('<mask label="cell" rle="" left="1" top="1" width="5" height="2"/>', "expected a number"),
        ('<mask label="cell" rle="0.5, 9.5" left="1" top="1" width="5" height="2"/>', "no numbers of pixels"),
        ('<cuboid label="cell"/>', "delete it in CVAT"),
        ('<box label="cell" xtl="1" ytl="1" xbr="2" ybr="2" rotation="x"/>', "expected a number"),
    ],
)
def test_damaged_cvat_shapes_are_named(tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        open_drawings(_cvat(tmp_path / "a.xml", shape), "cvat", CLASSES)


def test_cvat_image_tags_are_left_out_and_that_is_said(tmp_path):
    drawings = open_drawings(_cvat(tmp_path / "a.xml", '<tag label="cell"/>'), "cvat", CLASSES)
    assert [note.code for note in drawings.notes] == ["tags"]


NAMES = ["plain", "2021.05.07_a", "scan.v1", "scan.v2", "photo.jpg", "x.tif.png", "v1."]


@pytest.mark.parametrize("program", ["cvat", "labelme", "painted", "png", "txt", "xml"])
def test_names_with_dots_come_back(tmp_path, program):
    class Source:
        catalogue = Catalogue("folder", CLASSES.names, CLASSES.palette, {"all": tuple(NAMES)}, {}, 0)

        def read(self, name):
            stroke = Stroke(1, np.array([[1.0, 2.0], [9.0, 2.0]]))
            return Sample(name, np.zeros((*SHAPE, 3), np.uint8), strokes=(stroke,))

    written = convert(Source(), tmp_path / "out", program)
    if program in ("png", "txt", "xml"):
        assert sorted(path.stem for path in written) == sorted(NAMES)
        return
    back = open_drawings(written[0] if program == "cvat" else tmp_path / "out", program, CLASSES)
    assert sorted(back.drawings) == sorted(NAMES)


def test_cvat_and_labelme_get_the_real_file_names(tmp_path):
    for name, suffix in (("scan.v1", "PNG"), ("b", "jpeg"), ("photo.jpg", "png")):
        images_of(tmp_path / "d/images", f"{name}.{suffix}")
        (tmp_path / "d/scribbles").mkdir(exist_ok=True)
        (tmp_path / f"d/scribbles/{name}.txt").write_text("1,3,4,9,4\n")
    (tmp_path / "d/classes.txt").write_text("background\ncell\n")
    source = open_source("folder", tmp_path / "d")
    text = convert(source, tmp_path / "cvat", "cvat")[0].read_text()
    for name in ("scan.v1.PNG", "b.jpeg", "photo.jpg.png"):
        assert f'name="{name}"' in text
    assert set(open_drawings(tmp_path / "cvat", "cvat", CLASSES).drawings) == {"scan.v1", "b", "photo.jpg"}
    paths = {json.loads(path.read_text())["imagePath"] for path in convert(source, tmp_path / "lm", "labelme")}
    assert paths == {"scan.v1.PNG", "b.jpeg", "photo.jpg.png"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("day1/a.v1.png", "a.v1"),
        ("a.v1", "a.v1"),
        ("b\\c.JPG", "c"),
        ("2021.05.07_a", "2021.05.07_a"),
        (".png", ".png"),
    ],
)
def test_only_the_endings_of_images_are_no_part_of_the_name(name, expected):
    assert image_id(name) == expected
    assert image_id(file_name(expected, None)) == expected


LABEL_MAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\nwall:250,50,83::\ncell: type 2:51,221,255:head,arm:run\n"
)


@pytest.mark.parametrize("head", [True, False])
def test_the_label_map_of_cvat_is_a_class_list(tmp_path, head):
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP if head else LABEL_MAP.split("\n", 1)[1])
    classes = read_classes(tmp_path / "labelmap.txt")
    assert classes.names == ("background", "wall", "cell: type 2")
    assert classes.palette.tolist() == [[0, 0, 0], [250, 50, 83], [51, 221, 255]]
    assert classes.background == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LABEL_MAP + "sky:0,0,0::\n", "'background' and 'sky' have the same colour"),
        (LABEL_MAP + "sky:::\n", "'sky:::' is not of the form"),
        (LABEL_MAP + "sky:0,0,256::\n", "palette must be"),
        (LABEL_MAP + "wall:0,0,9::\n", "'wall' is named twice"),
    ],
)
def test_damaged_label_maps(tmp_path, text, message):
    (tmp_path / "labelmap.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_classes(tmp_path / "labelmap.txt")


def test_the_remedy_for_a_segmentation_mask_export_works(tmp_path):
    export = tmp_path / "export"
    (export / "SegmentationClass").mkdir(parents=True)
    (export / "labelmap.txt").write_text(LABEL_MAP)
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
    labels = np.random.default_rng(0).integers(0, 3, SHAPE)
    Image.fromarray(colours[labels]).save(export / "SegmentationClass/a.png")
    with pytest.raises(DataError, match="need no conversion") as caught:
        open_drawings(export, "cvat", CLASSES)
    with pytest.raises(DataError, match="need no conversion"):
        open_drawings(export / "labelmap.txt", "cvat", CLASSES)
    command = str(caught.value).split("`")[1].split()
    images_of(export / "images", "a.png")
    result = CliRunner().invoke(app, [*command[1:], "--workspace", str(tmp_path / "w")])
    assert result.exit_code == 0, result.output
    source = open_source("folder", export, masks="SegmentationClass", classes="labelmap.txt", rgb_labels=True)
    np.testing.assert_array_equal(source.read("a").mask, labels)
    indexed = Image.fromarray(labels.astype(np.uint8))
    indexed.putpalette(colours.tobytes())
    indexed.save(export / "SegmentationClass/a.png")
    plain = open_source("folder", export, masks="SegmentationClass")  # labelmap.txt is found
    np.testing.assert_array_equal(plain.read("a").mask, labels)


# Labelme


def _labelme(path, *shapes):
    shapes = [{"group_id": None, "flags": {}, **shape} for shape in shapes]
    head = {"version": "5.8.0", "flags": {}, "imagePath": "a.jpg", "imageData": None}
    path.write_text(json.dumps({**head, "imageHeight": SHAPE[0], "imageWidth": SHAPE[1], "shapes": shapes}))
    return path


def _png(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_labelme_masks_lie_between_their_points(tmp_path, kind):
    drawn = np.random.default_rng(1).random((11, 21)) < 0.5
    values = drawn if kind is bool else drawn.astype(np.uint8) * 255
    shape = {"label": "cell", "shape_type": "mask", "points": [[10, 12], [30, 22]], "mask": _png(values)}
    wanted = np.full(SHAPE, 255)
    wanted[12:23, 10:31][drawn] = 1
    np.testing.assert_array_equal(raster(_labelme(tmp_path / "a.json", shape), "labelme"), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": "no base64!"}, "no PNG in base64"),
        ({"mask": base64.b64encode(b"GIF89a").decode()}, "no PNG in base64"),
        ({"mask": None}, "no PNG in base64"),
        (
            {"points": [[10, 12], [30, 21]]},
            r"has shape \(11, 21\), its points from \(10, 12\) to \(30, 21\) need \(10, 21\)",
        ),
        ({"points": [[10, 12]]}, "'mask' of 1 points"),
    ],
)
def test_damaged_labelme_masks_are_named(tmp_path, change, message):
    shape = {
        "label": "cell",
        "shape_type": "mask",
        "points": [[10, 12], [30, 22]],
        "mask": _png(np.ones((11, 21), bool)),
    }
    with pytest.raises(DataError, match=message):
        open_drawings(_labelme(tmp_path / "a.json", shape | change), "labelme", CLASSES)


def test_the_label_list_of_labelme(tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncell\nwall\n")
    classes = read_classes(tmp_path / "labels.txt")
    assert classes[:1] == (("_background_", "cell", "wall"),)
    assert (classes.background, classes.ignored) == (0, ("__ignore__",))
    box = {"shape_type": "rectangle"}
    shapes = [
        {**box, "label": "cell", "points": [[10, 10], [30, 30]]},
        {**box, "label": "__ignore__", "points": [[20, 5], [40, 20]]},
        {"shape_type": "line", "label": "wall", "points": [[2, 35], [40, 35]]},
        {"shape_type": "line", "label": "__ignore__", "points": [[20, 35], [40, 35]]},
    ]
    drawings = open_drawings(_labelme(tmp_path / "a.json", *shapes), "labelme", classes, rest="_background_")
    found = drawings.read("a").scribble
    assert (found[0, 0], found[25, 15], found[15, 25], found[35, 5], found[35, 30]) == (0, 1, 255, 2, 255)


@pytest.mark.parametrize("text", ["cell\n__ignore__\n", "__ignore__\n", "0 __ignore__\n1 cell\n"])
def test_ignored_names_that_would_shift_classes_are_refused(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DataError, match="make it the first line, or give it the index 255"):
        read_classes(tmp_path / "labels.txt")


def test_an_index_of_255_is_an_ignored_name(tmp_path):
    (tmp_path / "labels.txt").write_text("0 background\n1 cell\n255 __ignore__\n")
    assert read_classes(tmp_path / "labels.txt").labels() == {"background": 0, "cell": 1, "__ignore__": 255}
