import json

import h5py
import numpy as np
import pytest
from PIL import Image

from wss.datasets.classlist import ClassList
from wss.datasets.convert import convert
from wss.datasets.drawn import open_drawings
from wss.datasets.source import Catalogue, Sample
from wss.errors import DataError
from wss.scribbles.strokes import Stroke

CLASSES = ClassList(("background", "cell", "wall"), np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8), 0)


def _labelme(path, shapes, height=20, width=30):
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None}
    path.write_text(json.dumps({**content, "imageHeight": height, "imageWidth": width}))
    return path


def _shape(label, kind, *points):
    return {"label": label, "points": list(points), "group_id": None, "shape_type": kind, "flags": {}}


def test_labelme_lines_and_points_are_strokes(tmp_path):
    shapes = [
        _shape("cell", "linestrip", [1.5, 2], [8, 2.25], [9, 9]),
        _shape("wall", "point", [20, 10]),
        _shape("background", "points", [1, 1], [2, 2]),
    ]
    source = open_drawings(_labelme(tmp_path / "a.json", shapes), "labelme", CLASSES)
    sample = source.read("a")
    assert sample.image.shape == (20, 30, 3)
    assert sample.scribble is None
    assert [(s.label, s.points.tolist(), s.width) for s in sample.strokes] == [
        (1, [[1.5, 2], [8, 2.25], [9, 9]], 3),
        (2, [[20, 10]], 3),
        (0, [[1, 1]], 3),
        (0, [[2, 2]], 3),
    ]


def test_areas_are_filled_in_their_order_and_the_rest_may_be_a_class(tmp_path):
    shapes = [
        _shape("cell", "rectangle", [2, 3], [9, 12]),
        _shape("wall", "polygon", [5, 5], [15, 5], [15, 8], [5, 8]),
        _shape("cell", "circle", [22, 10], [25, 10]),
    ]
    path = _labelme(tmp_path / "a.json", shapes)
    labels = open_drawings(path, "labelme", CLASSES).read("a").scribble
    assert labels[4, 3] == 1
    assert labels[6, 6] == 2
    assert labels[10, 22] == labels[10, 24] == 1
    assert labels[10, 26] == labels[0, 0] == 255
    mask = open_drawings(path, "labelme", CLASSES, rest="background").read("a").scribble
    np.testing.assert_array_equal(mask, np.where(labels == 255, 0, labels))


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cell</name></label></labels></task></meta>
<image id="0" name="day1/a.png" width="30" height="20">
<polyline label="cell" source="manual" occluded="0" points="1.00,2.00;8.50,2.00" z_order="0">
<attribute name="x">1</attribute></polyline>
<points label="wall" occluded="0" points="4,5;6,7" z_order="0"/>
</image>
<image id="1" name="b.png" width="10" height="10"><box label="wall" xtl="1" ytl="2" xbr="3" ybr="4"/>
<polygon label="cell" points="5,5;8,5;8,8"/><ellipse label="background" cx="2" cy="8" rx="1" ry="1"/></image>
</annotations>"""


def test_cvat_images_become_drawings(tmp_path):
    (tmp_path / "annotations.xml").write_text(CVAT)
    source = open_drawings(tmp_path / "annotations.xml", "cvat", CLASSES)
    assert source.catalogue.splits == {"all": ("a", "b")}
    first = source.read("a")
    assert [(s.label, s.points.tolist()) for s in first.strokes] == [
        (1, [[1, 2], [8.5, 2]]),
        (2, [[4, 5]]),
        (2, [[6, 7]]),
    ]
    labels = source.read("b").scribble
    assert labels.shape == (10, 10)
    assert labels[3, 2] == 2
    assert labels[6, 7] == 1
    assert labels[8, 2] == 0
    assert labels[9, 9] == 255


@pytest.mark.parametrize("form", ["tif", "png", "npy", "h5"])
def test_painted_classes_count_from_one(tmp_path, form):
    painted = np.array([[0, 1, 2], [3, 0, 0]], np.uint8)
    path = tmp_path / f"a.{form}"
    if form == "npy":
        np.save(path, painted.astype(np.int64))
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file["exported_data"] = painted[None, :, :, None].astype(np.uint32)
    else:
        Image.fromarray(painted).save(path)
    labels = open_drawings(tmp_path, "painted", CLASSES).read("a").scribble
    np.testing.assert_array_equal(labels, [[255, 0, 1], [2, 255, 255]])
    assert labels.dtype == np.uint8


STROKES = (
    Stroke(1, np.array([[1.0, 2.0], [8.5, 2.25], [20.0, 15.0]])),
    Stroke(2, np.array([[4.0, 5.0]])),
    Stroke(0, np.array([[29.0, 19.0], [25.0, 19.0]])),
)


class _Source:
    catalogue = Catalogue("folder", CLASSES.names, CLASSES.palette, {"all": ("a", "b")}, {}, 0)

    def read(self, image_id):
        image = np.zeros((20, 30, 3), np.uint8)
        return Sample(image_id, image, strokes=STROKES if image_id == "a" else STROKES[:1])


@pytest.mark.parametrize("program", ["labelme", "cvat"])
def test_strokes_come_back_from_a_drawing_program_as_they_went(tmp_path, program):
    written = convert(_Source(), tmp_path, program)
    assert [path.name for path in written] == (["annotations.xml"] if program == "cvat" else ["a.json", "b.json"])
    back = open_drawings(written[0] if program == "cvat" else tmp_path, program, CLASSES)
    for image_id in ("a", "b"):
        wanted, found = _Source().read(image_id), back.read(image_id)
        assert found.image.shape == wanted.image.shape
        assert [s.label for s in found.strokes] == [s.label for s in wanted.strokes]
        for one, other in zip(found.strokes, wanted.strokes, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=0.005)


def test_rasters_come_back_from_painted_files_as_they_went(tmp_path):
    convert(_Source(), tmp_path / "png", "png")
    convert(_Source(), tmp_path / "tif", "painted")
    for image_id in ("a", "b"):
        wanted = np.array(Image.open(tmp_path / "png" / f"{image_id}.png"))
        assert set(np.unique(wanted)) >= {1, 255}
        found = open_drawings(tmp_path / "tif", "painted", CLASSES).read(image_id).scribble
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("[1, 2]", "not an object"),
        ("[" * 100_000, "not a JSON file"),
        ('{"imageHeight": 5, "imageWidth": "x", "shapes": []}', "imageWidth"),
        ('{"imageHeight": 5, "imageWidth": 1e9, "shapes": []}', "imageWidth"),
        ('{"imageHeight": 5, "imageWidth": 5}', "no list of shapes"),
        ('{"imageHeight": 5, "imageWidth": 5, "shapes": [3]}', "shape 1"),
        ('{"imageHeight": 5, "imageWidth": 5, "shapes": [{"label": "dog", "points": [[1, 1]]}]}', "'dog'"),
        ('{"imageHeight": 5, "imageWidth": 5, "shapes": [{"label": "cell", "points": [[1, NaN]]}]}', "expected points"),
        ('{"imageHeight": 5, "imageWidth": 5, "shapes": [{"label": "cell", "points": "ab"}]}', "expected points"),
        (
            '{"imageHeight": 5, "imageWidth": 5, "shapes": [{"label": "cell", "points": [[1, 1]], "shape_type": "mask"}]}',
            "'mask' of 1 points",
        ),
    ],
)
def test_damaged_labelme_files_are_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json") as caught:
        open_drawings(tmp_path, "labelme", CLASSES)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotations>", "<other>", "not a plain XML"),
        ('label="cell" source', 'label="dog" source', "'dog'"),
        ("1.00,2.00;", "1.00;", "expected points"),
        ("1.00,2.00;", "1.00,x;", "expected a number"),
        ('width="30"', "", "expected a number"),
        ('width="30"', 'width="0"', "no size"),
        ('name="b.png"', 'name="other/a.jpg"', "another image has too"),
        ("<ellipse", "<skeleton", "is a skeleton, which says of no pixel"),
        ("<version>1.1</version>", '<track id="0" label="cell"/>', "CVAT for images"),
    ],
)
def test_damaged_cvat_files_are_named(tmp_path, old, new, message):
    assert old in CVAT
    (tmp_path / "annotations.xml").write_text(CVAT.replace(old, new, 1))
    with pytest.raises(DataError, match=r"annotations\.xml") as caught:
        open_drawings(tmp_path / "annotations.xml", "cvat", CLASSES)
    assert message in str(caught.value)


def test_entities_in_cvat_files_are_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY x "y">]>'
    (tmp_path / "a.xml").write_text(CVAT.replace("<annotations>", f"{bomb}<annotations>"))
    with pytest.raises(DataError, match="plain XML"):
        open_drawings(tmp_path / "a.xml", "cvat", CLASSES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[4]], np.uint8), "holds the number 4, but there are 3 classes"),
        (np.array([[-1]], np.int32), "3 classes"),
        (np.array([[0.5]]), "whole numbers"),
        (np.zeros((2, 3, 4), np.uint8), "whole numbers"),
        (np.array([{}], object), "not a NumPy array"),
    ],
)
def test_painted_numbers_must_be_classes(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        open_drawings(tmp_path, "painted", CLASSES)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_drawings(tmp_path / "x", "labelme", CLASSES)
    with pytest.raises(DataError, match=r"ends in \.json"):
        open_drawings(tmp_path, "labelme", CLASSES)
    for name in ("a.tif", "a.png"):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / name)
    with pytest.raises(DataError, match="same name"):
        open_drawings(tmp_path, "painted", CLASSES)
    with pytest.raises(DataError, match="--rest dog"):
        open_drawings(tmp_path, "painted", CLASSES, rest="dog")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["one"], file["two"] = [1], [2]
    with pytest.raises(DataError, match="one, two"):
        open_drawings(tmp_path / "b.h5", "painted", CLASSES)
