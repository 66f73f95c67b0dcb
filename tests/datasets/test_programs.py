"""Annotations of drawing programs, against readings of their formats that are made here or by OpenCV."""

from __future__ import annotations

import base64
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wss.cli.main import app
from wss.datasets import open_source
from wss.datasets.classlist import ClassList, read_classes
from wss.datasets.convert import convert
from wss.datasets.cvat import file_name, image_id
from wss.datasets.drawn import open_drawings
from wss.datasets.packed_rle import decode_packed
from wss.datasets.rle import RleError
from wss.datasets.source import Catalogue, Sample
from wss.errors import DataError
from wss.scribbles.strokes import Stroke

CLASSES = ClassList(("background", "cell", "wall"), np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8), 0)
SHAPE = (40, 50)


def _raster(path, program, image="a", **options):
    return open_drawings(path, program, CLASSES, **options).read(image).scribble


def _agree(found, wanted):
    """Share of pixels in both among those in either."""
    return (found & wanted).sum() / (found | wanted).sum()


def _inside(outline, shape=SHAPE):
    """Pixels whose centre is inside an outline that begins at the outer edge of the first pixel."""
    contour = np.array(outline, np.float32).reshape(-1, 1, 2)
    return np.array(
        [
            [cv2.pointPolygonTest(contour, (x + 0.5, y + 0.5), False) > 0 for x in range(shape[1])]
            for y in range(shape[0])
        ]
    )


def _images(folder, *names, shape=SHAPE):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(folder / name)


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
    found = _raster(_cvat(tmp_path / "a.xml", box), "cvat")
    assert _agree(found == 1, wanted == 1) > 0.97
    ellipse = f'<ellipse label="cell" cx="24" cy="20" rx="14" ry="5" rotation="{degrees}"/>'
    wanted = cv2.ellipse(np.zeros(SHAPE, np.uint8), (24, 20), (14, 5), degrees, 0, 360, 1, -1)
    found = _raster(_cvat(tmp_path / "a.xml", ellipse), "cvat")
    assert _agree(found == 1, wanted == 1) > 0.93


def test_cvat_brush_masks_are_runs_along_rows_of_their_box(tmp_path):
    drawn = np.random.default_rng(0).random((7, 9)) < 0.5
    runs, inside = [0], False
    for pixel in drawn.ravel().tolist():
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    mask = f'<mask label="cell" rle="{", ".join(map(str, runs))}" left="12" top="5" width="9" height="7" z_order="0"/>'
    found = _raster(_cvat(tmp_path / "a.xml", mask), "cvat")
    wanted = np.full(SHAPE, 255)
    wanted[5:12, 12:21][drawn] = 1
    np.testing.assert_array_equal(found, wanted)


def test_cvat_masks_that_leave_the_image_are_cut_off(tmp_path):
    mask = '<mask label="cell" rle="0, 20" left="-2" top="38" width="5" height="4"/>'
    found = _raster(_cvat(tmp_path / "a.xml", mask), "cvat")
    assert np.argwhere(found == 1).tolist() == [[y, x] for y in (38, 39) for x in (0, 1, 2)]
    mask = '<mask label="cell" rle="0, 5, 10, 5" left="48" top="-3" width="5" height="4"/>'
    found = _raster(_cvat(tmp_path / "a.xml", mask), "cvat")
    assert np.argwhere(found == 1).tolist() == [[0, 48], [0, 49]]


def test_cvat_shapes_lie_on_each_other_by_their_z_order(tmp_path):
    shapes = (
        '<polygon label="wall" points="5,5;20,5;20,20;5,20" z_order="2"/>'
        '<mask label="cell" rle="0, 900" left="0" top="0" width="30" height="30" z_order="1"/>'
        '<box label="cell" xtl="8" ytl="8" xbr="9" ybr="9" z_order="2"/>'
    )
    found = _raster(_cvat(tmp_path / "a.xml", shapes), "cvat")
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
        _images(tmp_path / "d/images", f"{name}.{suffix}")
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
    _images(export / "images", "a.png")
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
    np.testing.assert_array_equal(_raster(_labelme(tmp_path / "a.json", shape), "labelme"), wanted)


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
    found = _raster(_studio(tmp_path / "e.json", _task([_brush(drawn, alpha=alpha)])), "labelstudio")
    np.testing.assert_array_equal(found, np.where(drawn, 1, 255))


def test_label_studio_shapes_are_in_percent_and_in_their_order(tmp_path):
    outline = [[11.0, 20.3], [62.7, 33.1], [40.1, 88.8]]
    shapes = [
        _result("rectangle", "wall", x=10, y=10, width=40, height=50),
        _result("polygon", "cell", points=outline),
    ]
    found = _raster(_studio(tmp_path / "e.json", _task(shapes)), "labelstudio")
    wanted = np.full(SHAPE, 255)
    wanted[4:24, 5:25] = 2
    wanted[_inside(np.array(outline) * [SHAPE[1] / 100, SHAPE[0] / 100])] = 1
    np.testing.assert_array_equal(found, wanted)


def test_label_studio_turns_rectangles_about_their_corner_and_ellipses_about_their_centre(tmp_path):
    rectangle = _result("rectangle", "cell", x=80, y=10, width=40, height=25, rotation=90)
    found = _raster(_studio(tmp_path / "e.json", _task([rectangle])), "labelstudio")
    wanted = np.full(SHAPE, 255)
    wanted[4:24, 30:40] = 1  # 20 x 10 pixels from (40, 4): to the right becomes down, down becomes left
    np.testing.assert_array_equal(found, wanted)
    ellipse = _result("ellipse", "cell", x=50, y=50, radiusX=20, radiusY=10, rotation=90)
    found = _raster(_studio(tmp_path / "e.json", _task([ellipse])), "labelstudio") == 1
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    assert _agree(found, ((x - 25) / 4) ** 2 + ((y - 20) / 10) ** 2 < 1) > 0.95


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
    found = _raster(_studio(tmp_path / "e.json", _task([apart, label])), "labelstudio")
    np.testing.assert_array_equal(found, np.where(drawn, 2, 255))
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0]}
    least = {"id": 1, "image": "/data/upload/3/1a2b3c4d-a.png", "tag": [{**brush["value"], **size}], "annotator": 1}
    np.testing.assert_array_equal(_raster(_studio(tmp_path / "m.json", least), "labelstudio"), np.where(drawn, 1, 255))


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
    _images(tmp_path / "images", "d.png")
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


# YOLO


@pytest.mark.parametrize("seed", range(5))
def test_yolo_outlines_are_shares_of_the_sides(tmp_path, seed):
    rng = np.random.default_rng(seed)
    outlines = [rng.random((5, 2)).round(3) for _ in range(2)]
    lines = [f"{1 - n} " + " ".join(f"{v:.3f}" for v in outline.ravel()) for n, outline in enumerate(outlines)]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.v1.txt").write_text("\n".join(lines) + "\n")
    _images(tmp_path / "images", "a.v1.jpg")
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
    _images(tmp_path / "images", "a.jpg")
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
    _images(tmp_path / "images", "b.jpg")
    drawings = _yolo(tmp_path, "", rest="background")
    assert not drawings.read("a").scribble.any()
    assert next(n.image_id for n in drawings.notes if n.code == "no-annotation") == "b"
    (tmp_path / "images/a.jpg").unlink()
    with pytest.raises(DataError, match="--images") as caught:
        open_drawings(tmp_path / "labels", "yolo", CLASSES)
    assert "no image 'a'" in str(caught.value)
    _images(tmp_path / "other", "a.png")
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
    _images(tmp_path / "images", "a.png")
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
    np.testing.assert_array_equal(found, np.where(_inside(RING) & ~_inside(HOLE), 1, 255))


def test_qupath_smaller_objects_lie_on_larger_ones(tmp_path):
    found = _qupath(tmp_path, [_feature("Polygon", [HOLE], "wall"), _feature("Polygon", [RING])]).read("a").scribble
    np.testing.assert_array_equal(found, np.where(_inside(HOLE), 2, np.where(_inside(RING), 1, 255)))


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
    np.testing.assert_array_equal(drawings.read("a").scribble, np.where(_inside(RING), 255, 0))
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
    _images(tmp_path / "photos", "a.jpg")
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
    np.testing.assert_array_equal(_raster(tmp_path, "painted"), [[255, 0], [2, 1]])
    np.save(tmp_path / "a.npy", np.array([[0, np.nan]]))
    with pytest.raises(DataError, match="whole numbers"):
        open_drawings(tmp_path, "painted", CLASSES)
