"""Label files that mean something else than class indices: they are found, and each remedy reads them right."""

import numpy as np
import pytest
from PIL import Image
from small_set import declared, findings, labels_of, repaint, save, scribble, truth, write_set

from wss.datasets import open_source
from wss.datasets.value_map import remap
from wss.errors import DataError, UsageError
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages import samples
from wss.stages.stage import Context


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "set")


def read_all(root, tmp_path, **options):
    """Run the stage that begins every training."""
    path = tmp_path / "p.yaml"
    path.write_text("title: t\nstages:\n  - {stage: samples}\n")
    dataset = {"kind": "folder", "root": str(root), "options": options}
    run_pipeline(load_pipeline(path, everywhere={"dataset": dataset}), Workspace(tmp_path / "w"), Context())


def assert_right(root, what, wanted, **options):
    """Labels are read as they were meant, and the check has nothing left to say but of what is meant by it."""
    found = labels_of(root, what, **options)
    for number in range(6):
        np.testing.assert_array_equal(found[f"i{number}"], wanted(number))


def test_the_set_is_clean(root, tmp_path):
    assert findings(root) == {}
    read_all(root, tmp_path)


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_of_0_and_255(root, tmp_path):
    (root / "classes.txt").write_text("background\ndisc\n")
    repaint(root / "masks", {1: 255, 2: 0})
    repaint(root / "scribbles", {2: 255})
    found = findings(root)
    assert set(found) == {"binary-masks"}
    finding = found["binary-masks"]
    assert (finding.severity, finding.count) == ("error", 6)
    assert "255 is void: disc would never be learned" in finding.message
    with pytest.raises(DataError, match=r"255 is void.*mask_values: \{0: 0, 255: 1\}"):
        read_all(root, tmp_path)
    options = declared(finding.remedy)
    assert options == {"mask_values": {0: 0, 255: 1}}
    assert findings(root, **options) == {}
    assert_right(root, "mask", lambda n: (truth(n) == 1).astype(np.uint8), **options)
    read_all(root, tmp_path, **options)
    void = declared(finding.remedy, 1)
    assert void == {"mask_values": {255: 255}}
    assert "binary-masks" not in findings(root, **void)
    read_all(root, tmp_path, **void)


def test_pixels_without_data_are_no_object(root, tmp_path):
    """Masks that are all background, of images with pixels without data, hold 255 there as they are read."""
    (root / "classes.txt").write_text("background\ndisc\n")
    repaint(root / "masks", {1: 0, 2: 0})
    repaint(root / "scribbles", {2: 255})
    for path in (root / "images").iterdir():
        image = np.array(Image.open(path))
        image[:3] = 7
        save(path, image)
    assert 255 in labels_of(root, "mask", nodata=7)["i0"]
    assert "binary-masks" not in findings(root, nodata=7)
    read_all(root, tmp_path, nodata=7)


def test_transparent_pixels_stay_unlabelled_where_255_is_a_class(root):
    (root / "classes.txt").write_text("background\ndisc\n")
    for number in range(6):
        grey = np.where(truth(number) == 1, 255, 0).astype(np.uint8)
        alpha = np.full_like(grey, 255)
        alpha[-2:] = 0
        Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(root / f"masks/i{number}.png")
    wanted = (truth(0) == 1).astype(np.uint8)
    wanted[-2:] = 255
    options = declared(findings(root, scribbles="none")["binary-masks"].remedy)
    np.testing.assert_array_equal(labels_of(root, "mask", scribbles="none", **options)["i0"], wanted)


def test_masks_of_0_1_and_255_are_right(root, tmp_path):
    (root / "classes.txt").write_text("background\ndisc\n")
    repaint(root / "masks", {2: 255})
    repaint(root / "scribbles", {2: 255})
    assert findings(root) == {}
    read_all(root, tmp_path)


def test_one_mask_of_0_and_255_among_others_is_told(root):
    save(root / "masks/i0.png", np.where(truth(0) == 1, 255, 0).astype(np.uint8))
    finding = findings(root)["background-only"]
    assert "all background, but for" in finding.message and "void (255)" in finding.message


@pytest.mark.parametrize(
    ("classes", "stored", "table"),
    [
        (("a", "b", "c"), {1: 85, 2: 170}, {0: 0, 85: 1, 170: 2}),
        (("a", "b", "c"), {1: 17, 2: 34}, {0: 0, 17: 1, 34: 2}),
        (("a", "b", "c"), {1: 127, 2: 254}, {0: 0, 127: 1, 254: 2}),
        (("a", "b", "c"), {1: 127, 2: 255}, {0: 0, 127: 1, 255: 2}),
        (("a", "b", "c"), {1: 128, 2: 255}, {0: 0, 128: 1, 255: 2}),
        (("a", "b"), {1: 128, 2: 0}, {0: 0, 128: 1}),
        (("a", "b", "c", "d"), {1: 85, 2: 255}, {0: 0, 85: 1, 255: 3}),
        (("a", "b", "c", "d"), {1: 64, 2: 192}, {0: 0, 64: 1, 192: 3}),
    ],
)
def test_stretched_masks(root, classes, stored, table):
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    for file in (root / "scribbles").iterdir():
        file.unlink()
    repaint(root / "masks", stored)
    finding = findings(root)["stretched-labels"]
    assert (finding.severity, finding.count) == ("error", 6)
    assert "label-range" not in findings(root) and "void-254" not in findings(root)
    options = declared(finding.remedy)
    assert options == {"mask_values": table}
    assert not {"error"} & {f.severity for f in findings(root, **options).values()}
    meant = {label: table[stored.get(label, label)] for label in (0, 1, 2)}
    assert_right(root, "mask", lambda n: np.vectorize(meant.get)(truth(n)), **options)
    with pytest.raises(DataError, match=r"which is no class|but the . classes are"):
        labels_of(root, "mask")


def test_stretched_masks_with_void(root):
    repaint(root / "masks", {1: 85, 2: 170})
    for number in range(6):
        mask = truth(number) * np.uint8(85)
        mask[0, 0] = 255
        save(root / f"masks/i{number}.png", mask)
    (root / "classes.txt").write_text("a\nb\nc\n")
    options = declared(findings(root)["stretched-labels"].remedy)
    assert options == {"mask_values": {0: 0, 85: 1, 170: 2}}
    assert labels_of(root, "mask", **options)["i0"][0, 0] == 255


def test_whole_range_whose_end_may_be_void(root):
    (root / "classes.txt").write_text("a\nb\nc\nd\n")
    repaint(root / "masks", {1: 85, 2: 255})
    remedy = findings(root)["stretched-labels"].remedy
    assert declared(remedy, 1) == {"mask_values": {0: 0, 85: 1}}
    assert labels_of(root, "mask", **declared(remedy, 1))["i0"].max() == 255


def test_254_alone_may_be_an_object_or_void(root):
    (root / "classes.txt").write_text("a\nb\n")
    repaint(root / "masks", {1: 254, 2: 0})
    repaint(root / "scribbles", {2: 255})
    remedy = findings(root)["stretched-labels"].remedy
    assert declared(remedy) == {"mask_values": {0: 0, 254: 1}}
    assert_right(root, "mask", lambda n: (truth(n) == 1).astype(np.uint8), **declared(remedy))
    assert declared(remedy, 1) == {"ignore": [254]}
    assert "stretched-labels" not in findings(root, **declared(remedy, 1))


def test_grey_rendering_of_the_palette(root):
    repaint(root / "masks", {1: 38, 2: 75})  # (128, 0, 0) and (0, 128, 0) as grey
    finding = findings(root)["grey-rendering"]
    options = declared(finding.remedy)
    assert options == {"mask_values": {38: 1, 75: 2}}
    assert findings(root, **options) == {}
    assert_right(root, "mask", truth, **options)


def test_classes_that_count_from_1(root):
    repaint(root / "masks", {0: 1, 1: 2, 2: 3})
    for number in range(6):
        mask = truth(number) + np.uint8(1)
        mask[-1, -1] = 0
        save(root / f"masks/i{number}.png", mask)
    found = findings(root)
    finding = found["label-range"]
    assert (finding.severity, finding.count) == ("error", 6)
    options = declared(finding.remedy)
    assert options == {"mask_values": {0: 255, 1: 0, 2: 1, 3: 2}}
    assert findings(root, **options) == {}
    (root / "classes.txt").write_text("first\nbackground\ndisc\nstripe\n")  # "add it as the first"
    assert "label-range" not in findings(root)


def test_the_background_is_missing_in_the_class_list(root):
    (root / "classes.txt").write_text("disc\nstripe\n")
    remedy = findings(root)["label-range"].remedy
    assert "such as background as the first, add it" in remedy
    (root / "classes.txt").write_text("background\ndisc\nstripe\n")
    assert findings(root) == {}


def test_plain_wrong_labels_are_told_file_by_file(root):
    mask = truth(1)
    mask[5, 5] = 7
    save(root / "masks/i1.png", mask)
    finding = findings(root)["label-range"]
    assert (finding.image_id, finding.count) == ("i1", 1)
    assert "holds label 7, but the 3 classes are 0 to 2" in finding.message
    for options in ({"ignore": [7]}, {"mask_values": {7: 1}}):  # what the remedy names
        assert findings(root, **options) == {}


# --- scribbles -------------------------------------------------------------------------------------------------------


def test_unlabelled_painted_as_0(root, tmp_path):
    repaint(root / "scribbles", {255: 0})
    for masks in ("masks", "none"):
        found = findings(root, masks=masks)
        finding = found["unlabelled-as-class"]
        assert (finding.severity, finding.count) == ("error", 6)
        assert not {"scribble-contradicts-mask", "class-swap"} & set(found)
        with pytest.raises(DataError, match=r"pixels without scribble.*scribble_values: \{0: 255\}"):
            read_all(root, tmp_path, masks=masks)
        options = declared(finding.remedy)
        assert options == {"scribble_values": {0: 255}}
        cleared = findings(root, masks=masks, **options)
        assert "unlabelled-as-class" not in cleared
        assert cleared["class-not-in-scribbles"].message.startswith("background in none of the 6 scribbles")
        read_all(root, tmp_path, masks=masks, **options)

    def wanted(number):
        lines = scribble(truth(number))
        return np.where(lines == 0, 255, lines)

    assert_right(root, "scribble", wanted, **options)
    assert_right(root, "mask", truth, **options)  # background stays a class of the masks


def test_the_background_painted_anew(root):
    repaint(root / "scribbles", {255: 0})
    options = declared(findings(root)["unlabelled-as-class"].remedy, 1)
    assert options == {"scribble_values": {0: 255, 3: 0}}
    for number in range(6):
        lines = scribble(truth(number))
        save(root / f"scribbles/i{number}.png", np.choose(np.minimum(lines, 3), [3, 1, 2, 0]).astype(np.uint8))
    assert findings(root, **options) == {}
    assert_right(root, "scribble", lambda n: scribble(truth(n)), **options)


def test_every_pixel_really_labelled(root, tmp_path):
    repaint(root / "scribbles", {255: 0})
    options = declared(findings(root, masks="none")["unlabelled-as-class"].remedy, 2)
    assert options == {"scribble_values": {0: 0}}
    assert not {f.severity for f in findings(root, masks="none", **options).values()} & {"error"}
    read_all(root, tmp_path, masks="none", **options)


def test_full_masks_as_scribbles_are_no_error(root, tmp_path):
    for number in range(6):
        save(root / f"scribbles/i{number}.png", truth(number))
    assert findings(root) == {}
    read_all(root, tmp_path)


@pytest.mark.parametrize(
    ("classes", "stored", "table"),
    [
        (3, {255: 0, 0: 1, 1: 2, 2: 3}, {0: 255, 1: 0, 2: 1, 3: 2}),  # counted from 1, as painting programs do
        (2, {255: 0, 0: 0, 1: 1, 2: 2}, {0: 255, 1: 0, 2: 1}),  # classes without background
        (2, {255: 0, 0: 0, 1: 255, 2: 0}, {0: 255, 255: 1}),  # white on black
        (2, {255: 0, 0: 128, 1: 255, 2: 0}, {0: 255, 128: 0, 255: 1}),  # grey and white on black
        (3, {255: 0, 0: 0, 1: 127, 2: 254}, {0: 255, 127: 1, 254: 2}),
        (3, {255: 3}, {3: 255}),  # the number after the last class
        (3, {255: 2, 2: 255}, {2: 255}),
    ],
)
def test_other_codes_of_unlabelled(root, classes, stored, table):
    names = ["a", "b", "c"][:classes]
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    repaint(root / "scribbles", stored)
    finding = findings(root, masks="none")["unlabelled-as-class"]
    options = declared(finding.remedy)
    assert options == {"scribble_values": table}
    assert not {f.severity for f in findings(root, masks="none", **options).values()} & {"error"}
    meant = {old: table.get(stored.get(old, old), stored.get(old, old)) for old in (0, 1, 2, 255)}
    assert_right(root, "scribble", lambda n: np.vectorize(meant.get)(scribble(truth(n))), masks="none", **options)


def test_a_few_full_scribbles_are_doubtful(root, tmp_path):
    lines = scribble(truth(2))
    save(root / "scribbles/i2.png", np.where(lines == 255, 0, lines).astype(np.uint8))
    finding = findings(root, masks="none")["full-scribble"]
    assert (finding.severity, finding.image_id) == ("warning", "i2")
    read_all(root, tmp_path, masks="none")
    save(root / "scribbles/i2.png", np.where(lines == 0, 255, lines).astype(np.uint8))  # "paint 255"
    assert "full-scribble" not in findings(root, masks="none")


def test_an_image_that_is_all_background(root):
    save(root / "masks/i2.png", np.zeros_like(truth(2)))
    save(root / "scribbles/i2.png", np.zeros_like(truth(2)))
    assert set(findings(root)) == {"background-only"}


def test_an_interrupted_reading_is_judged_as_a_whole(root, tmp_path, monkeypatch):
    """Images that an earlier, interrupted run has read count too."""
    (root / "classes.txt").write_text("background\ndisc\n")
    repaint(root / "masks", {1: 0, 2: 0})
    repaint(root / "scribbles", {2: 255})
    save(root / "masks/i0.png", np.where(truth(0) == 1, 255, 0).astype(np.uint8))
    right = samples._check

    def stop_at_i3(sample, num_classes):
        if sample.id == "i3":
            raise KeyboardInterrupt
        right(sample, num_classes)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(samples, "_check", stop_at_i3)
        read_all(root, tmp_path)
    with pytest.raises(DataError, match="255 is void"):  # only i0 holds 255, and it is not read again
        read_all(root, tmp_path)


# --- the options -----------------------------------------------------------------------------------------------------


def test_values_that_are_not_named_stay_and_ignore_still_works():
    labels = np.arange(256, dtype=np.uint8)
    found = remap(labels, [7], [(0, 255), (255, 1), (3, 3)])
    assert (found[0], found[255], found[3], found[7], found[9]) == (255, 1, 3, 255, 9)
    assert remap(labels, []) is labels


@pytest.mark.parametrize("wrong", [{"0": 300}, {0: -1}, {"a": 1}, {1: "b"}, [1, 2], 5])
def test_tables_that_make_no_sense_are_refused(root, wrong):
    with pytest.raises(UsageError, match="mask_values"):
        open_source("folder", root, mask_values=wrong)


def test_a_value_has_one_meaning(root):
    with pytest.raises(UsageError, match="254 stands in ignore and in mask_values"):
        open_source("folder", root, mask_values={254: 1}, ignore=[254])
    open_source("folder", root, mask_values={254: 255}, ignore=[254])


def test_options_that_are_not_used_leave_fingerprints_as_they_were(root):
    plain = open_source("folder", root).fingerprint()
    assert open_source("folder", root, mask_values={}, scribble_values={}).fingerprint() == plain
    assert open_source("folder", root, mask_values={9: 1}).fingerprint() != plain
    same = open_source("folder", root, mask_values={"9": 1, 3: 2}).fingerprint()
    assert open_source("folder", root, mask_values={3: 2, 9: 1}).fingerprint() == same
