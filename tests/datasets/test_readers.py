"""One small tree per format, read back; every file is made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from reader_cases import SHAPE, context, folder, labels, voc, write_image, write_label, write_lines  # noqa: F401 - fixtures
from scipy.io import savemat

from wss.datasets import open_source
from wss.datasets.cards import colour_map
from wss.datasets.finding import FileProblem
from wss.errors import DataError, UsageError


def add_sbd(folder: Path) -> None:
    for number, name in enumerate(("t1", "v1", "s1", "s2")):
        (folder / "dataset/cls").mkdir(parents=True, exist_ok=True)
        field = {"Segmentation": labels(100 + number, 21, None), "Boundaries": np.zeros(3), "CategoriesPresent": [1, 2]}
        savemat(folder / "dataset/cls" / f"{name}.mat", {"GTcls": field})
    write_lines(folder / "dataset/train.txt", ["t1", "s2"])
    write_lines(folder / "dataset/val.txt", ["v1", "s1"])


def test_voc_lists_and_masks(voc):
    source = open_source("voc", voc)
    catalogue = source.catalogue
    assert dict(catalogue.splits) == {"train": ("t1", "t2"), "val": ("v1",)}
    assert (catalogue.kind, len(catalogue.classes), catalogue.background) == ("voc", 21, 0)
    sample = source.read("t2")
    assert sample.image.shape == (*SHAPE, 3)
    np.testing.assert_array_equal(sample.mask, labels(1, 21))
    assert sample.strokes is None and sample.scribble is None
    assert source.read("s1").mask is None
    assert [p.name for p in source.files("t1")] == ["t1.jpg", "t1.png"]


@pytest.mark.parametrize(("place", "options"), [("benchmark_RELEASE", {}), ("../sbd", {"sbd": "../sbd"})])
def test_voc_with_sbd(voc, place, options):
    add_sbd(voc / place)
    source = open_source("voc", voc, **options)
    # all of SBD and VOC train, without VOC val
    assert source.catalogue.splits["trainaug"] == ("s1", "s2", "t1", "t2")
    np.testing.assert_array_equal(source.read("s1").mask, labels(102, 21, None))
    np.testing.assert_array_equal(source.read("t1").mask, labels(0, 21))  # VOC's own mask wins
    write_label(voc / "SegmentationClassAug/s1.png", labels(7, 21))
    np.testing.assert_array_equal(open_source("voc", voc, **options).read("s1").mask, labels(7, 21))
    write_lines(voc / "ImageSets/Segmentation/trainaug.txt", ["t1", "s1"])
    assert open_source("voc", voc, **options).catalogue.splits["trainaug"] == ("t1", "s1")


def test_damaged_sbd_files(voc):
    add_sbd(voc / "benchmark_RELEASE")
    path = voc / "benchmark_RELEASE/dataset/cls/s1.mat"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"s1\.mat"):
            open_source("voc", voc).read("s1")
    savemat(path, {"other": 1})
    with pytest.raises(DataError, match=r"GTcls\.Segmentation"):
        open_source("voc", voc).read("s1")
    savemat(path, {"GTcls": {"Segmentation": np.full(SHAPE, 0.5)}})
    with pytest.raises(DataError, match="no label image"):
        open_source("voc", voc).read("s1")


def test_voc_scribbles_in_all_three_formats(voc):
    xml = "<annotation><polygon><tag>{}</tag><point><X>1</X><Y>2</Y></point></polygon></annotation>"
    folder = voc / "scribble_annotation/pascal_2012"
    folder.mkdir(parents=True)
    (folder / "t1.xml").write_text(xml.format("tvmonitor"))
    (folder / "t2.xml").write_text(xml.format("plane"))
    write_label(voc / "pascal_2012_scribble/t1.png", labels(3, 21))
    write_label(voc / "pascal_2012_scribble/v1.png", labels(4, 21))
    write_lines(voc / "scribble_polyline_txt/s1_scribble.txt", ["5,1,1,2,2", "0,3,3"])
    source = open_source("voc", voc, scribble_width=2)
    sample = source.read("t1")
    assert sample.scribble is None and [(s.label, s.width) for s in sample.strokes] == [(20, 2)]
    assert source.read("t2").strokes[0].label == 1  # an alias of aeroplane
    np.testing.assert_array_equal(source.read("v1").scribble, labels(4, 21))
    assert [s.label for s in source.read("s1").strokes] == [5, 0]
    chosen = open_source("voc", voc, scribbles="pascal_2012_scribble")
    np.testing.assert_array_equal(chosen.read("t1").scribble, labels(3, 21))
    with pytest.raises(DataError, match="correct the option scribbles"):
        open_source("voc", voc, scribbles="nowhere")
    with pytest.raises(DataError, match="correct the option sbd"):
        open_source("voc", voc, sbd="nowhere")


def test_voc_without_lists(voc):
    for name in ("train", "val"):
        (voc / f"ImageSets/Segmentation/{name}.txt").unlink()
    splits = open_source("voc", voc).catalogue.splits
    assert len(splits["val"]) == 1 and splits["val"][0] in ("t1", "t2", "v1")
    assert len(splits["train"]) == 4


def test_empty_voc_folder(tmp_path):
    with pytest.raises(DataError, match="JPEGImages: no image files"):
        open_source("voc", tmp_path)


def test_voc_boxes_and_tags(voc):
    box = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>8</xmax><ymax>6.0</ymax></bndbox>"
    parts = f"<part><name>head</name>{box.format(3)}</part>"
    text = (
        f"<annotation><object><name>person</name>{box.format(1)}{parts}</object>"
        f"<object><name>cat</name>{box.format(4)}</object></annotation>"
    )
    (voc / "Annotations").mkdir()
    (voc / "Annotations/t1.xml").write_text(text)
    (voc / "Annotations/t2.xml").write_text("<annotation></annotation>")
    source = open_source("voc", voc)
    sample = source.read("t1")
    assert sample.boxes.tolist() == [[15, 0, 1, 7, 5], [8, 3, 1, 7, 5]] and sample.boxes.dtype == np.int32
    assert sample.tags == (0, 8, 15)
    assert source.read("t2").boxes.shape == (0, 5) and source.read("t2").tags == (0,)
    assert source.read("v1").boxes is None and source.read("v1").tags is None
    assert [p.suffix for p in source.files("t1")] == [".jpg", ".png", ".xml"]
    for damaged, message in (
        (text.replace("cat", "unicorn"), "object 2 .*unicorn"),
        (text.replace("2", "x"), "a number"),
    ):
        (voc / "Annotations/t1.xml").write_text(damaged)
        with pytest.raises(DataError, match=rf"t1\.xml.*{message}"):
            source.read("t1")


def test_context(context):
    source = open_source("context", context)
    catalogue = source.catalogue
    assert dict(catalogue.splits) == {"train": ("t1", "t2"), "val": ("v1",)}  # as far as labels exist
    assert len(catalogue.classes) == 60 == len(catalogue.palette) and catalogue.background == 0
    assert list(catalogue.classes[1:]) == sorted(catalogue.classes[1:])
    mask = source.read("t1").mask
    assert [catalogue.classes[i] for i in mask[0, :5]] == ["aeroplane", "wood", "background", "table", "background"]
    write_lines(context / "ImageSets/SegmentationContext/train.txt", ["t2"])
    write_lines(context / "ImageSets/SegmentationContext/val.txt", ["v1", "gone"])
    splits = open_source("context", context).catalogue.splits
    assert dict(splits) == {"train": ("t2",), "val": ("v1", "gone")}


def test_context_orders_and_background(context):
    def first_row(**options: object) -> list[str]:
        source = open_source("context", context, **options)
        row = source.load_mask("t2")[0]
        return [source.catalogue.classes[i] if i < 255 else "void" for i in row]

    assert first_row() == ["background", "aeroplane", "bag", "wood", "void"]
    assert first_row(order="voc-first") == ["background", "aeroplane", "bicycle", "wood", "void"]
    assert first_row(background=False) == ["void", "aeroplane", "bag", "wood", "void"]
    assert first_row(background=False, order="voc-first") == ["void", "aeroplane", "bicycle", "wood", "void"]
    source = open_source("context", context, background=False)
    assert len(source.catalogue.classes) == 59 and source.catalogue.background is None
    assert source.load_mask("t1")[0, :5].tolist() == [0, 58, 255, source.catalogue.classes.index("table"), 255]
    with pytest.raises(UsageError, match="order"):
        open_source("context", context, order="random")


def test_context_scribbles(context):
    folder = context / "scribble_annotation/pascal_context"
    folder.mkdir(parents=True)
    point = "<point><X>1</X><Y>1</Y></point>"
    tags = "".join(f"<polygon><tag>{tag}</tag>{point}</polygon>" for tag in ("background", "bag", "plane"))
    (folder / "t1.xml").write_text(f"<annotation>{tags}</annotation>")
    (folder / "v1.txt").write_text("0,1,1\n2,1,1\n")
    write_label(folder / "x.png", np.full(SHAPE, 2))

    def names(image_id: str, **options: object) -> list[str]:
        source = open_source("context", context, **options)
        return [source.catalogue.classes[stroke.label] for stroke in source.load_scribble(image_id)]

    assert names("t1") == ["background", "bag", "aeroplane"]
    assert names("t1", background=False, order="voc-first") == ["bag", "aeroplane"]
    assert names("v1") == ["background", "bag"]
    assert names("v1", background=False, order="voc-first") == ["bicycle"]
    source = open_source("context", context, order="voc-first")
    assert source.catalogue.classes[source.load_scribble("x")[0, 0]] == "bicycle"


def test_damaged_context_files(context):
    with pytest.raises(DataError, match=r"ImageSets/SegmentationContext/val\.txt: no such list"):
        (context / "ImageSets/Main/val.txt").unlink()
        open_source("context", context)
    write_lines(context / "ImageSets/Main/val.txt", ["v1"])
    savemat(context / "trainval/t1.mat", {"LabelMap": np.full(SHAPE, 460)})
    with pytest.raises(DataError, match="holds label 460"):
        open_source("context", context).read("t1")


def test_folder_without_lists(folder):
    source = open_source("folder", folder)
    splits = source.catalogue.splits
    assert len(splits["val"]) == 2 and len(splits["train"]) == 8
    assert sorted(splits["train"] + splits["val"]) == [f"c{n}" for n in range(10)]
    assert source.catalogue.classes == ("background", "cell", "wall")
    sample = source.read("c3")
    np.testing.assert_array_equal(sample.image, write_image(folder / "copy.png", 3))
    np.testing.assert_array_equal(sample.mask, labels(3, 3))
    np.testing.assert_array_equal(sample.scribble, labels(53, 3))
    assert len(open_source("folder", folder, val_fraction=0.5).catalogue.splits["val"]) == 5


def test_folder_lists(folder):
    write_lines(folder / "val.txt", ["c5", "c1.png"])
    splits = open_source("folder", folder).catalogue.splits
    assert splits["val"] == ("c5", "c1")
    assert splits["train"] == ("c0", "c2", "c3", "c4", "c6", "c7", "c8", "c9")
    write_lines(folder / "train.txt", ["c0"])
    assert dict(open_source("folder", folder).catalogue.splits) == {"train": ("c0",), "val": ("c5", "c1")}
    (folder / "val.txt").unlink()
    (folder / "masks/c9.png").unlink()
    splits = open_source("folder", folder).catalogue.splits
    assert splits["val"] == tuple(f"c{n}" for n in range(1, 9))
    write_lines(folder / "train.txt", [])
    write_lines(folder / "val.txt", [])
    with pytest.raises(DataError, match="all empty"):
        open_source("folder", folder)


def test_folder_without_masks_has_no_val(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()
    splits = open_source("folder", folder).catalogue.splits
    assert splits["val"] == () and len(splits["train"]) == 10


def test_folder_options(folder):
    write_label(folder / "truth/c0.tif", labels(9, 2))
    write_lines(folder / "names.txt", ["sky", "sea", "sun"])
    source = open_source("folder", folder, masks="truth", classes="names.txt", scribbles="none")
    assert source.catalogue.classes == ("sky", "sea", "sun") and source.catalogue.background is None
    sample = source.read("c0")
    np.testing.assert_array_equal(sample.mask, labels(9, 2))
    assert sample.scribble is None and source.read("c1").mask is None


def test_folder_strokes(folder):
    (folder / "scribbles/c0.png").unlink()
    write_lines(folder / "scribbles/c0.txt", ["2,1,1,3,3"])
    assert [s.label for s in open_source("folder", folder).read("c0").strokes] == [2]
    write_lines(folder / "scribbles/c0.txt", ["3,1,1,3,3"])
    with pytest.raises(DataError, match=r"c0\.txt: holds label 3, but the 3 classes are 0 to 2"):
        open_source("folder", folder).read("c0")


def test_folder_volumes_stay_together(tmp_path):
    root = tmp_path / "heart"
    for patient in range(5):
        for number in (10, 9):
            name = f"patient{patient:03d}_frame01_slice_{number}.png"
            write_image(root / "images" / name, patient)
            write_label(root / "masks" / name, labels(patient, 2))
    write_lines(root / "classes.txt", ["background", "heart"])
    catalogue = open_source("folder", root).catalogue
    assert len(catalogue.volumes) == 5
    assert catalogue.volumes["patient002_frame01"].ids == (
        "patient002_frame01_slice_9",
        "patient002_frame01_slice_10",
    )
    assert len(catalogue.splits["val"]) == 2 and len({i[:10] for i in catalogue.splits["val"]}) == 1
    assert not open_source("folder", root, volume_pattern=None).catalogue.volumes
    by_patient = open_source("folder", root, volume_pattern=r"(?P<volume>patient\d+)_.*_(?P<slice>\d+)")
    assert set(by_patient.catalogue.volumes) == {f"patient{n:03d}" for n in range(5)}


def test_folder_ignore_and_rgb_labels(folder):
    write_label(folder / "masks/c0.png", np.where(labels(0, 3) == 2, 254, labels(0, 3)))
    with pytest.raises(FileProblem, match=r"label 254.*ignore: \[254\]") as caught:
        open_source("folder", folder).read("c0")
    assert caught.value.code == "void-254"
    mask = open_source("folder", folder, ignore=[254]).read("c0").mask
    np.testing.assert_array_equal(mask, np.where(labels(0, 3) == 2, 255, labels(0, 3)))
    Image.fromarray(colour_map(256)[labels(0, 3)]).save(folder / "masks/c0.png")
    with pytest.raises(DataError, match="rgb_labels"):
        open_source("folder", folder).read("c0")
    np.testing.assert_array_equal(open_source("folder", folder, rgb_labels=True).read("c0").mask, labels(0, 3))


def test_scribbles_that_were_painted_on_the_picture(folder):
    classes = {"classes": ["background", "a", "b"], "palette": [[0, 255, 0], [255, 0, 0], [0, 0, 255]]}
    (folder / "classes.yaml").write_text(yaml.safe_dump(classes))
    (folder / "classes.txt").unlink(missing_ok=True)
    picture = np.array(Image.open(folder / "images/c0.png").convert("RGB"))
    expected = np.full(picture.shape[:2], 255, np.uint8)
    expected[1, 1:4], expected[3, 2:5] = 0, 2
    painted = picture.copy()
    painted[1, 1:4], painted[3, 2:5], painted[5, 2] = (0, 255, 0), (0, 0, 255), (1, 0, 255)
    (folder / "scribbles").mkdir(exist_ok=True)
    for other in (folder / "scribbles").glob("c0.*"):
        other.unlink()
    Image.fromarray(painted).save(folder / "scribbles/c0.png")
    with pytest.raises(DataError, match="painted_on_images"):
        open_source("folder", folder, rgb_labels=True).read("c0")
    source = open_source("folder", folder, painted_on_images=True)
    np.testing.assert_array_equal(source.read("c0").scribble, expected)
    Image.fromarray(picture).save(folder / "scribbles/c0.png")
    with pytest.raises(FileProblem, match="no pixel has the colour of a class"):
        source.read("c0")
    classes["palette"][0] = [90, 90, 90]
    (folder / "classes.yaml").write_text(yaml.safe_dump(classes))
    with pytest.raises(FileProblem, match=r"'background' has the colour .*a grey"):
        open_source("folder", folder, painted_on_images=True).read("c0")


def test_folder_sizes_must_agree(folder):
    write_label(folder / "masks/c0.png", np.zeros((8, 6)))
    with pytest.raises(FileProblem, match=r"swapped: 6x8 pixels, the image has 8x6; transpose") as caught:
        open_source("folder", folder).read("c0")
    assert caught.value.code == "size-swapped"
    write_label(folder / "masks/c0.png", np.zeros((3, 4)))
    with pytest.raises(DataError, match="4x3 pixels, the image has 8x6"):
        open_source("folder", folder).read("c0")


def test_listed_image_without_file_fails_on_reading(folder):
    write_lines(folder / "train.txt", ["c0", "gone"])
    source = open_source("folder", folder)
    assert source.catalogue.splits["train"] == ("c0", "gone")
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        source.read("gone")
    with pytest.raises(DataError, match="no image 'other'"):
        source.read("other")
    with pytest.raises(DataError):
        source.read("../classes")


def test_list_cannot_escape(folder):
    write_image(folder.parent / "secret.png")
    write_lines(folder / "train.txt", ["../../secret"])
    with pytest.raises(DataError, match="plain name"):
        open_source("folder", folder)


def test_missing_class_list_names_the_remedy(folder):
    (folder / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt: no list of class names"):
        open_source("folder", folder)
