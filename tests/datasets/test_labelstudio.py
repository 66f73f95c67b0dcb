"""Label Studio, YOLO and QuPath files become labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from program_cases import CLASSES, SHAPE, agree, images_of, inside_of, raster

from wss.datasets.classlist import ClassList
from wss.datasets.drawn import open_drawings
from wss.datasets.packed_rle import decode_packed
from wss.datasets.rle import RleError
from wss.errors import DataError

# Label Studio


def packed(values, widths=(3, 4, 8, 16), word=8, seed=0):
    """Encode values in bits, with runs and single values in groups whose lengths are drawn at random."""
    rng = np.random.default_rng(seed)
    bits = f"{len(values):032b}{word - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0
    while place < len(values):
        choice = int(rng.integers(4))
        most = min(1 << widths[choice], len(values) - place)
        run = 1
        while run < most and values[place + run] == values[place]:
            run += 1
        if run > 1 or rng.random() < 0.3:
            bits += f"1{choice:02b}{run - 1:0{widths[choice]}b}{values[place]:0{word}b}"
        else:
            run = int(rng.integers(1, most + 1))
            bits += f"0{choice:02b}{run - 1:0{widths[choice]}b}"
            bits += "".join(f"{value:0{word}b}" for value in values[place : place + run])
        place += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


@pytest.mark.parametrize("seed", range(12))
def test_streams_of_bits(seed):
    rng = np.random.default_rng(seed)
    word = int(rng.integers(1, 17))
    widths = rng.integers(1, 17, 4).tolist()
    values = np.repeat(rng.integers(0, 1 << word, 60), rng.integers(1, 40, 60)).tolist()
    assert decode_packed(packed(values, widths, word, seed)).tolist() == values


def test_a_stream_of_label_studio_itself():
    # the beginning of every export: widths 3, 4, 8 and 16, and a run of 65536 transparent values
    assert decode_packed([0, 1, 0, 0, 57, 27, 255, 255, 255, 0]).tolist() == [0] * 65536


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ([], "ends in the middle"),
        (packed([1] * 50)[:-1], "ends in the middle"),
        ([0, 1, 0, 0], "ends in the middle"),
        ([255] * 40, "declares 4294967295 values"),
        ([0, 0, 0, 5, 57, 27, 255, 255, 255, 0], "a group that ends after value 65536 of 5"),
        ([256], "no list of bytes"),
        ("abc", "no list of bytes"),
    ],
)
def test_damaged_streams(stream, message):
    with pytest.raises(RleError, match=message):
        decode_packed(stream)


def _result(kind, label, **value):
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0], "image_rotation": 0}
    return {"id": f"{kind}{label}", "type": f"{kind}labels", **size, "value": {**value, f"{kind}labels": [label]}}


def _task(results, image="/data/upload/3/1a2b3c4d-a.png", number=7, **annotation):
    return {"id": number, "data": {"image": image}, "annotations": [{"id": 1, "result": results, **annotation}]}


def _brush(drawn, label="cell", alpha=255):
    values = np.zeros((*SHAPE, 4), np.int64)
    values[drawn] = [30, 60, 90, alpha]
    return _result("brush", label, format="rle", rle=packed(values.ravel().tolist()))


def _studio(path, *tasks):
    path.write_text(json.dumps(list(tasks)))
    return path


@pytest.mark.parametrize("alpha", [255, 40])
def test_label_studio_brush_pixels(tmp_path, alpha):
    drawn = np.random.default_rng(2).random(SHAPE) < 0.3
    found = raster(_studio(tmp_path / "e.json", _task([_brush(drawn, alpha=alpha)])), "labelstudio")
    np.testing.assert_array_equal(found, np.where(drawn, 1, 255))


def test_label_studio_shapes_are_in_percent_and_in_their_order(tmp_path):
    outline = [[11.0, 20.3], [62.7, 33.1], [40.1, 88.8]]
    shapes = [
        _result("rectangle", "wall", x=10, y=10, width=40, height=50),
        _result("polygon", "cell", points=outline),
    ]
    found = raster(_studio(tmp_path / "e.json", _task(shapes)), "labelstudio")
    wanted = np.full(SHAPE, 255)
    wanted[4:24, 5:25] = 2
    wanted[inside_of(np.array(outline) * [SHAPE[1] / 100, SHAPE[0] / 100])] = 1
    np.testing.assert_array_equal(found, wanted)


def test_label_studio_turns_rectangles_about_their_corner_and_ellipses_about_their_centre(tmp_path):
    rectangle = _result("rectangle", "cell", x=80, y=10, width=40, height=25, rotation=90)
    found = raster(_studio(tmp_path / "e.json", _task([rectangle])), "labelstudio")
    wanted = np.full(SHAPE, 255)
    wanted[4:24, 30:40] = 1  # 20 x 10 pixels from (40, 4): to the right becomes down, down becomes left
    np.testing.assert_array_equal(found, wanted)
    ellipse = _result("ellipse", "cell", x=50, y=50, radiusX=20, radiusY=10, rotation=90)
    found = raster(_studio(tmp_path / "e.json", _task([ellipse])), "labelstudio") == 1
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    assert agree(found, ((x - 25) / 4) ** 2 + ((y - 20) / 10) ** 2 < 1) > 0.95


def test_label_studio_key_points_and_open_polygons_are_strokes(tmp_path):
    shapes = [
        _result("keypoint", "cell", x=21, y=51.25, width=0.5),
        _result("polygon", "wall", points=[[1, 1.25], [21, 1.25]], closed=False),
    ]
    strokes = open_drawings(_studio(tmp_path / "e.json", _task(shapes)), "labelstudio", CLASSES).read("a").strokes
    assert [(s.label, s.points.tolist()) for s in strokes] == [(1, [[10, 20]]), (2, [[0, 0], [10, 0]])]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/upload/3/1a2b3c4d-scan.v1.png", "scan.v1"),
        ("/data/local-files/?d=day%201/1a2b3c4d-a.jpg", "1a2b3c4d-a"),
        ("https://host/x/b%20c.jpeg?key=1", "b c"),
        ("s3://bucket/c.tif", "c"),
    ],
)
def test_label_studio_names(tmp_path, image, name):
    point = _result("keypoint", "cell", x=1, y=1)
    drawings = open_drawings(_studio(tmp_path / "e.json", _task([point], image)), "labelstudio", CLASSES)
    assert list(drawings.drawings) == [name]


def test_label_studio_labels_in_a_result_of_their_own_and_json_min(tmp_path):
    drawn = np.random.default_rng(2).random(SHAPE) < 0.3
    brush = _brush(drawn)
    apart = {**brush, "type": "brush", "id": "r1", "value": {"format": "rle", "rle": brush["value"]["rle"]}}
    label = {"id": "r1", "type": "labels", "value": {"labels": ["wall"]}}
    found = raster(_studio(tmp_path / "e.json", _task([apart, label])), "labelstudio")
    np.testing.assert_array_equal(found, np.where(drawn, 2, 255))
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0]}
    least = {"id": 1, "image": "/data/upload/3/1a2b3c4d-a.png", "tag": [{**brush["value"], **size}], "annotator": 1}
    np.testing.assert_array_equal(raster(_studio(tmp_path / "m.json", least), "labelstudio"), np.where(drawn, 1, 255))


def test_label_studio_says_what_it_leaves_out(tmp_path):
    point = _result("keypoint", "cell", x=1, y=1)
    choice = {"id": "c", "type": "choices", "value": {"choices": ["good"]}}
    path = _studio(
        tmp_path / "e.json",
        _task([point, choice]),
        _task([point], "b.png", was_cancelled=True),
        {"id": 3, "data": {"image": "c.png"}, "annotations": []},
        _task([], "d.png"),
    )
    drawings = open_drawings(path, "labelstudio", CLASSES)
    assert list(drawings.drawings) == ["a"]
    text = " ".join(note.message for note in drawings.notes)
    assert "2 images are not annotated" in text and "'choices'" in text and "--images" in text
    images_of(tmp_path / "images", "d.png")
    empty = open_drawings(path, "labelstudio", CLASSES, rest="background", images=tmp_path / "images").read("d")
    assert empty.scribble.shape == SHAPE and not empty.scribble.any()


def test_label_studio_takes_the_annotation_that_is_the_truth(tmp_path):
    one, other = _result("keypoint", "cell", x=1, y=1), _result("keypoint", "wall", x=1, y=1)
    task = _task([one])
    task["annotations"].append({"id": 2, "result": [other]})
    with pytest.raises(DataError, match=r"2 annotations, by several people .* mark one of them as ground truth"):
        open_drawings(_studio(tmp_path / "e.json", task), "labelstudio", CLASSES)
    task["annotations"][1]["ground_truth"] = True
    drawings = open_drawings(_studio(tmp_path / "e.json", task), "labelstudio", CLASSES)
    assert [s.label for s in drawings.read("a").strokes] == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": {"x": 1, "y": 1, "keypointlabels": ["dog"]}}, "'dog'"),
        ({"value": {"x": 1, "y": 1, "keypointlabels": ["cell", "wall"]}}, "2 labels"),
        ({"value": {"x": 1, "y": 1}}, "0 labels"),
        ({"value": {"x": 1, "y": 1, "keypointlabels": [[]]}}, "'[]'"),
        ({"value": {"x": "a", "y": 1, "keypointlabels": ["cell"]}}, "in percent"),
        ({"image_rotation": 90}, "turned by 90 degrees"),
        ({"original_width": None}, "expected original_height"),
        ({"value": None}, "a result without value"),
        ({"type": "vectorlabels", "value": {"vertices": [], "vectorlabels": ["cell"]}}, "of kind 'vectorlabels'"),
        ({"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["cell"]}}, "encoding ends in the middle"),
        ({"type": "brushlabels", "value": {"rle": packed([0] * 9), "brushlabels": ["cell"]}}, "has 9 values"),
        ({"type": "brushlabels", "value": {"format": "png", "rle": [], "brushlabels": ["cell"]}}, "format 'png'"),
    ],
)
def test_damaged_label_studio_exports_are_named(tmp_path, change, message):
    result = {**_result("keypoint", "cell", x=1, y=1), **change}
    if "kind 'vector" in message:
        message = "of kind 'vector'"
    with pytest.raises(DataError, match=r"e\.json") as caught:
        open_drawings(_studio(tmp_path / "e.json", _task([result])), "labelstudio", CLASSES)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["{", "3", '[{"id": 1}]', '[{"data": {"a": "x.png", "b": "y.png"}}]', "[]"])
def test_other_files_are_no_label_studio_exports(tmp_path, text):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(DataError, match=r"e\.json"):
        open_drawings(tmp_path / "e.json", "labelstudio", CLASSES)
    with pytest.raises(DataError):
        open_drawings(tmp_path / "nowhere", "labelstudio", CLASSES)


def test_label_studio_pictures_per_label(tmp_path):
    classes = ClassList(("wall", "cell", "cell-wall"), CLASSES.palette, None)
    folder = tmp_path / "export"
    folder.mkdir()
    regions = {"cell-0": np.s_[2:8, 2:8], "cell-1": np.s_[20:25, 2:8], "cell-wall-0": np.s_[6:12, 4:12]}
    for name, region in regions.items():
        picture = np.zeros(SHAPE, np.uint8)
        picture[region] = 255
        Image.fromarray(picture).save(folder / f"task-7-annotation-12-by-1-tag-{name}.png")
    drawings = open_drawings(folder, "labelstudio", classes, rest="wall")
    assert list(drawings.drawings) == ["task-7"]
    assert {note.code for note in drawings.notes} == {"names", "overlap"}
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[2:8, 2:8] = wanted[20:25, 2:8] = 1
    wanted[6:12, 4:12] = 2
    wanted[6:8, 4:8] = 255
    np.testing.assert_array_equal(drawings.read("task-7").scribble, wanted)
    _studio(folder / "project.json", _task([]))
    named = open_drawings(folder, "labelstudio", classes, rest="wall")
    np.testing.assert_array_equal(named.read("a").scribble, wanted)
    assert {note.code for note in named.notes} == {"overlap"}
    Image.fromarray(picture).save(folder / "task-7-annotation-12-by-1-tag-dog-0.png")
    with pytest.raises(DataError, match="dog-0"):
        open_drawings(folder, "labelstudio", classes)
    (folder / "task-7-annotation-12-by-1-tag-dog-0.png").rename(folder / "task-7-annotation-13-by-2-tag-cell-0.png")
    with pytest.raises(DataError, match="several annotations"):
        open_drawings(folder, "labelstudio", classes)
