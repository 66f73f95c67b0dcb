"""The data check: a clean data set has no findings, and every kind of damage is found and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wss.datasets import open_source
from wss.datasets.cards import colour_map
from wss.datasets.check import check, info, summarise
from wss.datasets.finding import Finding

SHAPE = (10, 12)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def truth(seed: int) -> np.ndarray:
    """Three classes in three bands, whose position depends on the seed, and a void pixel."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2 + seed % 2 : 6] = 1
    mask[6:] = 2
    mask[0, 0] = 255
    return mask


def scribble(seed: int) -> np.ndarray:
    lines = np.full(SHAPE, 255, np.uint8)
    for row in (1, 4, 8):
        lines[row, 1:-1] = truth(seed)[row, 1:-1]
    return lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    rng = np.random.default_rng(0)
    for number in range(6):
        save(root / f"images/i{number}.png", rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8))
        save(root / f"masks/i{number}.png", truth(number))
        save(root / f"scribbles/i{number}.png", scribble(number))
    (root / "classes.txt").write_text("0 background\n1 cell\n2 wall\n")
    (root / "train.txt").write_text("i0\ni1\ni2\ni3\n")
    (root / "val.txt").write_text("i4\ni5\n")
    return root


def findings(root: Path, **options: object) -> dict[str, Finding]:
    found = check(open_source("folder", root, **options))
    assert len({(f.severity, f.code) for f in found}) == len(found)
    assert all(f.remedy and f.message for f in found)
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=("error", "warning", "note").index)
    return {finding.code: finding for finding in found}


def test_clean_data_set(root):
    assert findings(root) == {}


def test_sample_data_set_is_clean():
    found = check(open_source("sample", train=12, val=4))
    assert [f for f in found if f.severity == "error"] == []


def test_progress_and_jobs(root):
    seen = []
    source = open_source("folder", root)
    assert check(source, jobs=4, progress=lambda n, image_id: seen.append((n, image_id))) == []
    assert seen == [(1, f"i{n}") for n in range(6)]


def test_label_above_the_classes(root):
    for name in ("i1", "i2"):
        mask = truth(1)
        mask[5, 5] = 7
        save(root / f"masks/{name}.png", mask)
    found = findings(root)["label-range"]
    assert (found.severity, found.image_id, found.count) == ("error", "i1", 2)
    assert found.file == root / "masks/i1.png"
    assert "label 7, but the 3 classes are 0 to 2" in found.message and "1 more: i2" in found.message


def test_palette_renderings(root):
    save(root / "masks/i0.png", colour_map(256)[truth(0)])
    grey = np.array(Image.fromarray(colour_map(256)[truth(1)]).convert("L"))
    grey[0, 0] = 255
    save(root / "masks/i1.png", grey)
    found = findings(root)
    assert found["rgb-label"].image_id == "i0" and "indexed" in found["rgb-label"].remedy
    assert found["grey-rendering"].image_id == "i1"
    assert "label-range" not in found


def test_254_for_unlabelled(root):
    lines = scribble(3)
    lines[0, :6] = 254
    save(root / "scribbles/i3.png", lines)
    found = findings(root)
    assert set(found) == {"void-254"}
    assert found["void-254"].file == root / "scribbles/i3.png"
    assert findings(root, ignore=[254]) == {}


def test_sizes(root):
    save(root / "masks/i0.png", truth(0)[:-1])
    save(root / "scribbles/i1.png", scribble(1)[:, :-1])
    found = findings(root)["size-mismatch"]
    assert found.count == 2 and "12x9 pixels, the image has 12x10" in found.message


def test_missing_and_empty_scribbles(root):
    (root / "scribbles/i0.png").unlink()
    save(root / "scribbles/i1.png", np.full(SHAPE, 255, np.uint8))
    found = findings(root)
    assert {code: f.image_id for code, f in found.items()} == {"no-scribble": "i0", "empty-scribble": "i1"}


def test_no_scribbles_at_all_is_a_note(root):
    found = findings(root, scribbles="nowhere")
    assert [(f.code, f.severity) for f in found.values()] == [("no-scribbles", "note")]
    assert "wss data simulate" in found["no-scribbles"].remedy


def test_scribbles_that_contradict_masks(root):
    lines = scribble(0)
    lines[8, 1:6] = 1  # 5 of 6 images x 30 pixels, on wall
    save(root / "scribbles/i0.png", lines)
    found = findings(root)
    assert set(found) == {"scribble-contradicts-mask"}
    assert found["scribble-contradicts-mask"].severity == "warning"
    assert "2.778%" in found["scribble-contradicts-mask"].message


def test_swapped_classes(root):
    for number in range(6):
        lines = scribble(number)
        save(root / f"scribbles/i{number}.png", np.choose(np.minimum(lines, 3), [0, 2, 1, 255]).astype(np.uint8))
    found = findings(root)
    assert found["scribble-contradicts-mask"].severity == "error"
    swap = found["class-swap"]
    assert swap.severity == "error" and "scribbles of cell lie on wall" in swap.message and "swapped" in swap.message


def test_classes_that_never_occur(root):
    (root / "classes.txt").write_text("0 background\n1 cell\n2 wall\n3 door\n4 roof\n")
    found = findings(root)
    assert set(found) == {"class-not-in-masks", "class-not-in-scribbles"}
    assert "door, roof in none of the 6 masks; the highest label is 2, the class list goes to 4" in (
        found["class-not-in-masks"].message
    )


def test_lists(root):
    (root / "train.txt").write_text("i0\ni1\ni1\ni4\nI2\ngone\n")
    found = findings(root)
    assert found["duplicate-in-list"].image_id == "i1"
    assert found["split-overlap"].image_id == "i4" and found["split-overlap"].severity == "error"
    assert found["case-mismatch"].image_id == "I2" and "the file is i2.png" in found["case-mismatch"].message
    assert found["missing-file"].count == 2
    assert found["unlisted"].count == 2
    assert found["no-scribble"].count == 2  # the two without files


def test_empty_splits(root):
    (root / "val.txt").write_text("")
    (root / "train.txt").write_text("i0\ni1\ni2\ni3\ni4\ni5\n")
    assert [(f.code, f.severity) for f in findings(root).values()] == [("empty-split", "warning")]
    (root / "val.txt").write_text("i0\n")
    (root / "train.txt").write_text("")
    assert findings(root)["empty-split"].severity == "error"


def test_the_same_picture_twice(root):
    image = Image.open(root / "images/i0.png")
    (root / "images/i4.png").unlink()
    image.save(root / "images/i4.tif")  # other bytes, same pixels
    image.save(root / "images/i1.png")
    found = findings(root)
    assert found["same-image"].severity == "error"
    assert found["same-image"].message.startswith("i4 and i0 are the same picture, one for training and one held out")
    assert found["duplicate-image"].message.startswith("i1 and i0")


def test_unreadable_files(root):
    for place in ("images/i0.png", "masks/i1.png", "scribbles/i2.png"):
        content = (root / place).read_bytes()
        (root / place).write_bytes(content[: len(content) // 2])
    (root / "images/i3.png").write_bytes(b"")
    found = findings(root)
    assert (found["unreadable-image"].count, found["unreadable-label"].count) == (2, 2)
    assert found["no-scribble"].image_id == "i2"


def test_val_image_without_mask(root):
    (root / "masks/i5.png").unlink()
    assert [(f.code, f.image_id) for f in findings(root).values()] == [("val-without-mask", "i5")]


def test_slices_of_two_sizes_in_one_volume(root):
    for name, shape in (("a_1", SHAPE), ("a_2", SHAPE), ("b_1", (4, 6)), ("b_2", (4, 6)), ("b_3", (4, 7))):
        save(
            root / f"images/{name}.png", np.random.default_rng(len(name)).integers(0, 256, (*shape, 3), dtype=np.uint8)
        )
    (root / "train.txt").write_text("i0\ni1\ni2\ni3\na_1\na_2\nb_1\nb_2\nb_3\n")
    finding = findings(root, volume_pattern=r"(?P<volume>[ab])_(?P<slice>\d+)")["volume-sizes"]
    assert (finding.severity, finding.count) == ("error", 1)
    assert finding.message == "slices of volume 'b' differ in size: 'b_1' is 6x4, 'b_3' is 7x4"
    assert "volume_pattern" in finding.remedy


def test_stray_and_doubtful_files(root):
    save(root / "masks/other.png", truth(0))
    (root / "scribbles/i0.png").rename(root / "scribbles/I0.png")
    Image.open(root / "images/i1.png").save(root / "images/i1.bmp")
    found = findings(root)
    assert found["orphan"].file == root / "masks/other.png"
    assert found["case-mismatch"].file == root / "scribbles/I0.png"
    assert found["ambiguous-name"].image_id == "i1"


def test_strokes(root):
    (root / "scribbles/i0.png").unlink()
    (root / "scribbles/i0.txt").write_text("0,1,1,5,1\n1,3,4,12,4\n")
    found = findings(root, scribble_width=1)
    assert set(found) == {"strokes-outside"}
    assert "1 stroke points outside the image of 12x10 pixels, such as x=12, y=4" in found["strokes-outside"].message
    (root / "scribbles/i0.txt").write_text("0,1,1\n9,1,1\n")
    assert findings(root)["label-range"].file == root / "scribbles/i0.txt"
    (root / "scribbles/i0.txt").unlink()
    point = "<point><X>1</X><Y>1</Y></point>"
    (root / "scribbles/i0.xml").write_text(f"<annotation><polygon><tag>dog</tag>{point}</polygon></annotation>")
    assert "'dog'" in findings(root)["unknown-class"].message


def test_boxes(tmp_path):
    for number in range(3):
        save(
            tmp_path / f"JPEGImages/i{number}.jpg",
            np.random.default_rng(number).integers(0, 256, (*SHAPE, 3), np.uint8),
        )
    height, width = SHAPE
    corners = {"i0": (1, 1, width, height), "i1": (5, 2, 3, 4), "i2": (2, 2, width + 9, height)}
    (tmp_path / "Annotations").mkdir()
    for name, box in corners.items():
        parts = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        text = f"<annotation><object><name>dog</name><bndbox>{parts}</bndbox></object></annotation>"
        (tmp_path / f"Annotations/{name}.xml").write_text(text)
    source = open_source("voc", tmp_path)
    found = {f.code: f for f in check(source)}
    assert (found["box-inverted"].severity, found["box-inverted"].image_id) == ("error", "i1")
    assert found["box-inverted"].file == tmp_path / "Annotations/i1.xml"
    assert (found["box-outside"].severity, found["box-outside"].image_id) == ("warning", "i2")
    facts = info(source)
    assert sum(split["with_boxes"] for split in facts["splits"].values()) == 3
    assert (facts["boxes"]["dog"], facts["boxes"]["cat"]) == (3, 0)


def test_notes(root):
    save(root / "images/i0.png", np.random.default_rng(5).integers(0, 256, SHAPE, dtype=np.uint8))
    save(root / "images/i1.png", np.random.default_rng(6).integers(0, 4000, SHAPE).astype(np.uint16))
    save(root / "masks/i2.png", np.zeros(SHAPE, np.uint8))
    save(root / "scribbles/i2.png", np.where(scribble(2) == 255, 255, 0).astype(np.uint8))
    found = findings(root)
    assert {code: (f.severity, f.image_id) for code, f in found.items()} == {
        "grey": ("note", "i0"),
        "deep-image": ("note", "i1"),
        "background-only": ("note", "i2"),
    }


def test_camvid_class_order(root, tmp_path):
    for split in ("train", "val"):
        save(
            tmp_path / f"cv/{split}/{split}.png",
            np.random.default_rng(len(split)).integers(0, 256, (4, 4, 3), dtype=np.uint8),
        )
        save(tmp_path / f"cv/{split}annot/{split}.png", np.arange(16, dtype=np.uint8).reshape(4, 4) % 12)
    (tmp_path / "cv/classes.txt").write_text("Road\nSky\n")
    codes = [f.code for f in check(open_source("camvid", tmp_path / "cv"))]
    assert codes == ["class-order", "no-scribbles"]


def test_summaries_are_short():
    many = [Finding("warning", "orphan", f"x{n}", None, f"file {n}", "remove it") for n in range(5000)]
    (one,) = summarise(many + many)
    assert one.count == 5000 and len(one.message) < 100
    assert one.message == "file 0 (and 4999 more: x1, x2, x3, x4, ...)"


def test_info(root):
    (root / "masks/i5.png").unlink()
    numbers = info(open_source("folder", root))
    assert numbers["splits"] == {
        "train": {"images": 4, "with_mask": 4, "with_scribble": 4, "with_boxes": 0},
        "val": {"images": 2, "with_mask": 1, "with_scribble": 2, "with_boxes": 0},
    }
    assert numbers["sizes"] == {"distinct": 1, "smallest": [10, 12], "largest": [10, 12]}
    counts = sum(np.bincount(truth(n)[truth(n) < 255], minlength=3) for n in range(5))
    assert numbers["mask_share"] == pytest.approx(
        dict(zip(["background", "cell", "wall"], counts / counts.sum(), strict=True))
    )
    assert numbers["mask_void"] == pytest.approx(1 / 120)
    assert numbers["scribble_coverage"] == pytest.approx(30 / 120)
    assert numbers["scribble_images"] == {"background": 6, "cell": 6, "wall": 6}
    assert numbers["volumes"] == 0


def test_info_without_annotations(root):
    numbers = info(open_source("folder", root, masks="no", scribbles="no"))
    assert numbers["mask_share"] is None and numbers["scribble_share"] is None and numbers["mask_void"] is None
    assert numbers["scribble_coverage"] is None and numbers["mask_images"] is None
