"""YOLO and QuPath files become labels."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from program_cases import CLASSES, SHAPE, images_of, inside_of, raster
from typer.testing import CliRunner

from wss.cli.main import app
from wss.datasets.drawn import open_drawings
from wss.errors import DataError

# YOLO


@pytest.mark.parametrize("seed", range(5))
def test_yolo_outlines_are_shares_of_the_sides(tmp_path, seed):
    rng = np.random.default_rng(seed)
    outlines = [rng.random((5, 2)).round(3) for _ in range(2)]
    lines = [f"{1 - n} " + " ".join(f"{v:.3f}" for v in outline.ravel()) for n, outline in enumerate(outlines)]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.v1.txt").write_text("\n".join(lines) + "\n")
    images_of(tmp_path / "images", "a.v1.jpg")
    found = open_drawings(tmp_path / "labels", "yolo", CLASSES, rest="background").read("a.v1").scribble
    wanted = np.zeros(SHAPE, np.uint8)
    for label, outline in zip((2, 1), outlines, strict=True):
        corners = outline * [SHAPE[1], SHAPE[0]]
        canvas = np.zeros(np.array(SHAPE) * 16, np.uint8)  # even-odd, as outlines may cross themselves
        cv2.fillPoly(canvas, [np.rint(corners * 16).astype(np.int32)], 1)
        wanted[canvas[8::16, 8::16] == 1] = label
    assert (found != wanted).mean() < 0.005


def _yolo(tmp_path, text, **options):
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels/a.txt").write_text(text)
    images_of(tmp_path / "images", "a.jpg")
    return open_drawings(tmp_path / "labels", "yolo", CLASSES, **options)


def test_yolo_boxes_are_void_and_that_is_said(tmp_path):
    drawings = _yolo(tmp_path, "0 0.5 0.5 0.4 0.5\n1 0 0 0.5 0 0.5 0.5 0 0.5\n", rest="background")
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[10:30, 15:35] = 255
    wanted[:20, :25] = 2
    np.testing.assert_array_equal(drawings.read("a").scribble, wanted)
    assert "1 objects have a box only" in next(n.message for n in drawings.notes if n.code == "object-without-outline")


def test_yolo_numbers_have_the_names_of_their_file(tmp_path):
    assert "0 cell, 1 wall" in _yolo(tmp_path, "0 0 0 1 0 1 1\n").notes[0].message
    assert (_yolo(tmp_path, "0 0 0 1 0 1 1\n").read("a").scribble == 1).any()
    (tmp_path / "data.yaml").write_text("train: images\nnames:\n  0: wall\n  1: cell\n")
    assert (_yolo(tmp_path, "0 0 0 1 0 1 1\n").read("a").scribble == 2).any()
    (tmp_path / "labels/classes.txt").write_text("background\nwall\n")
    found = _yolo(tmp_path, "0 0 0 1 0 1 1\n")
    assert list(found.drawings) == ["a"] and (found.read("a").scribble == 0).any()
    (tmp_path / "labels/classes.txt").write_text("dog\n")
    with pytest.raises(DataError, match="'dog'"):
        _yolo(tmp_path, "")


def test_yolo_images_without_objects_and_without_file(tmp_path):
    images_of(tmp_path / "images", "b.jpg")
    drawings = _yolo(tmp_path, "", rest="background")
    assert not drawings.read("a").scribble.any()
    assert next(n.image_id for n in drawings.notes if n.code == "no-annotation") == "b"
    (tmp_path / "images/a.jpg").unlink()
    with pytest.raises(DataError, match="--images") as caught:
        open_drawings(tmp_path / "labels", "yolo", CLASSES)
    assert "no image 'a'" in str(caught.value)
    images_of(tmp_path / "other", "a.png")
    open_drawings(tmp_path / "labels", "yolo", CLASSES, images=tmp_path / "other")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0 0 1 0 1 1", "class number 2, but there are 2 classes, 0 to 1"),
        ("0.5 0 0 1 0 1 1", "class number 0.5"),
        ("0 0 0 1 0 1", "line 1: 5 numbers after the class"),
        ("0 0 0 1 0 1 1 0", "7 numbers"),
        ("0 0 0 30 0 30 20", "expected shares"),
        ("0 0 0 nan 0 1 1", "expected shares"),
        ("cell 0 0 1 0 1 1", "expected numbers"),
    ],
)
def test_damaged_yolo_files_are_named(tmp_path, line, message):
    with pytest.raises(DataError, match=r"a\.txt") as caught:
        _yolo(tmp_path, line)
    assert message in str(caught.value)


# QuPath


def _feature(kind, coordinates, name="cell"):
    properties = {"objectType": "annotation"} | ({"classification": {"name": name, "color": [1, 2, 3]}} if name else {})
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _qupath(tmp_path, content, name="a.geojson", **options):
    (tmp_path / "q").mkdir(exist_ok=True)
    (tmp_path / "q" / name).write_text(json.dumps(content))
    images_of(tmp_path / "images", "a.png")
    return open_drawings(tmp_path / "q", "qupath", CLASSES, images=tmp_path / "images", **options)


RING = [[3.2, 4.1], [40.7, 2.2], [44.1, 35.3], [5.2, 30.6], [3.2, 4.1]]


HOLE = [[15.3, 10.2], [30.1, 12.4], [22.7, 25.9], [15.3, 10.2]]


@pytest.mark.parametrize("form", ["collection", "list", "multi", "feature"])
def test_qupath_polygons_with_holes(tmp_path, form):
    one = _feature("MultiPolygon", [[RING, HOLE]]) if form == "multi" else _feature("Polygon", [RING, HOLE])
    content = {"collection": {"type": "FeatureCollection", "features": [one]}, "list": [one], "multi": [one]}.get(
        form, one
    )
    found = _qupath(tmp_path, content).read("a").scribble
    np.testing.assert_array_equal(found, np.where(inside_of(RING) & ~inside_of(HOLE), 1, 255))


def test_qupath_smaller_objects_lie_on_larger_ones(tmp_path):
    found = _qupath(tmp_path, [_feature("Polygon", [HOLE], "wall"), _feature("Polygon", [RING])]).read("a").scribble
    np.testing.assert_array_equal(found, np.where(inside_of(HOLE), 2, np.where(inside_of(RING), 1, 255)))


def test_qupath_lines_and_points_are_strokes(tmp_path):
    content = [
        _feature("LineString", [[1.5, 2.5], [9.5, 2.5]]),
        _feature("MultiPoint", [[4.5, 5.5], [6.5, 7.5]], "wall"),
        _feature("MultiLineString", [[[1.5, 2.5], [9.5, 2.5]]]),
    ]
    strokes = _qupath(tmp_path, content, "a.png.geojson").read("a").strokes
    line = [[1, 2], [9, 2]]
    assert [(s.label, s.points.tolist()) for s in strokes] == [(1, line), (2, [[4, 5]]), (2, [[6, 7]]), (1, line)]


def test_qupath_objects_without_class_are_void(tmp_path):
    content = [
        _feature("Polygon", [RING], None),
        _feature("Polygon", [HOLE], "Ignore*"),
        _feature("Point", [1, 1], None),
    ]
    drawings = _qupath(tmp_path, content, rest="background")
    np.testing.assert_array_equal(drawings.read("a").scribble, np.where(inside_of(RING), 255, 0))
    assert "2 objects have no class" in drawings.notes[0].message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "no list of features"),
        ([3], "no list of features"),
        ([_feature("Polygon", [RING], "dog")], "'dog'"),
        ([_feature("Circle", [RING])], "no geometry of a known type, but 'Circle'"),
        ([_feature("Polygon", [])], "no coordinates"),
        ([_feature("Polygon", [[["a", 1]]])], "expected coordinates"),
        ([_feature("Polygon", [[[900, 900], [910, 900], [910, 910]]])], "outside of its image of 50x40 pixels"),
        ([{**_feature("Polygon", [RING]), "properties": {"classification": 3}}], "the classification 3"),
    ],
)
def test_damaged_qupath_files_are_named(tmp_path, content, message):
    with pytest.raises(DataError, match=r"a\.geojson") as caught:
        _qupath(tmp_path, content)
    assert message in str(caught.value)


def test_qupath_files_need_their_image(tmp_path):
    with pytest.raises(DataError, match="--images"):
        _qupath(tmp_path, [_feature("Polygon", [RING])], "b.geojson")


# The command


def test_the_command_converts_and_says_what_it_read(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.4 0.5\n")
    images_of(tmp_path / "photos", "a.jpg")
    (tmp_path / "classes.txt").write_text("background\ncell\n")
    words = ["data", "convert", str(tmp_path / "labels"), "--from", "yolo", "--classes", str(tmp_path / "classes.txt")]
    words += ["--rest", "background", "--to", "png", "--out", str(tmp_path / "masks")]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1 and "--images" in str(refused.exception) + refused.output
    done = CliRunner().invoke(app, [*words, "--images", str(tmp_path / "photos")])
    assert done.exit_code == 0, done.output
    assert "box only" in done.output
    labels = np.array(Image.open(tmp_path / "masks/a.png"))
    assert set(np.unique(labels)) == {0, 255}


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_painted_numbers_may_be_floats_that_are_whole(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.array([[0, 1], [3, 2]], kind))
    np.testing.assert_array_equal(raster(tmp_path, "painted"), [[255, 0], [2, 1]])
    np.save(tmp_path / "a.npy", np.array([[0, np.nan]]))
    with pytest.raises(DataError, match="whole numbers"):
        open_drawings(tmp_path, "painted", CLASSES)
