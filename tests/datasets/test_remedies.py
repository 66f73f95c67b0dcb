"""Every remedy of the data check, followed to the letter: afterwards the check is silent.

Those of label values and of splits are in ``test_label_values.py`` and ``test_leaks.py``.
"""

import unicodedata

import numpy as np
import pytest
from PIL import Image
from small_set import declared, findings, labels_of, picture, repaint, save, scribble, truth, write_set

from wss.datasets import open_source
from wss.datasets.cards import colour_map
from wss.errors import DataError

ORIENTATION = 0x0112
WIDE, TALL, SQUARE = (40, 48), (48, 40), (40, 40)


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "set")


def assert_silent(root, **options):
    assert findings(root, **options) == {}


def array(path):
    return np.array(Image.open(path))


# --- turned pictures -------------------------------------------------------------------------------------------------


def photograph(root, orientation, shape):
    """Replace image i0 by a photograph that a camera stored in another orientation, and its labels by ones of its size."""
    (root / "images/i0.png").unlink()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(picture(0, shape)).save(root / "images/i0.jpg", quality=95, exif=exif)
    save(root / "masks/i0.png", truth(0, shape))
    save(root / "scribbles/i0.png", scribble(truth(0, shape)))


def without_tag(root):
    """As ``exiftool -Orientation=`` does: the stored pixels stay."""
    path = root / "images/i0.jpg"
    Image.open(path).save(path, quality=95)


@pytest.mark.parametrize(
    ("orientation", "shape", "words"),
    [
        (2, WIDE, "mirrored by"),
        (3, WIDE, "180 degrees"),
        (3, SQUARE, "180 degrees"),
        (4, WIDE, "upside down"),
        (5, SQUARE, "transposed by"),
        (6, SQUARE, "90 degrees"),
        (7, SQUARE, "transposed the other way"),
        (8, SQUARE, "270 degrees"),
    ],
)
def test_turned_pictures_whose_size_tells_nothing(root, orientation, shape, words):
    photograph(root, orientation, shape)
    found = findings(root)
    assert {code: (f.severity, f.image_id) for code, f in found.items()} == {"exif-turned": ("warning", "i0")}
    assert words in found["exif-turned"].message and f"({orientation})" in found["exif-turned"].message
    assert "annotations must fit the upright picture" in found["exif-turned"].remedy
    without_tag(root)
    assert_silent(root)


def test_turned_pictures_without_annotations_are_a_note(root):
    photograph(root, 3, WIDE)
    (root / "masks/i0.png").unlink()
    (root / "scribbles/i0.png").unlink()
    assert findings(root)["exif-turned"].severity == "note"


def test_a_picture_on_its_side_with_labels_of_the_upright_one_is_a_note(root):
    photograph(root, 6, WIDE)
    for part in ("masks", "scribbles"):
        save(root / part / "i0.png", np.rot90(array(root / part / "i0.png"), -1).copy())
    assert {code: f.severity for code, f in findings(root).items()} == {"exif-turned": "note"}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("way", ["turn the labels", "remove the tag"])
def test_labels_drawn_on_the_stored_pixels(root, orientation, way):
    photograph(root, orientation, WIDE)
    found = findings(root)
    assert (found["size-mismatch"].severity, found["size-mismatch"].count) == ("error", 2)
    assert way in found["size-mismatch"].remedy
    if way == "remove the tag":
        without_tag(root)
        assert_silent(root)
        return
    turn = {5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}[orientation]
    stored = array(root / "masks/i0.png")
    for part in ("masks", "scribbles"):
        save(root / part / "i0.png", np.ascontiguousarray(turn(array(root / part / "i0.png"))))
    assert {code: f.severity for code, f in findings(root).items()} == {"exif-turned": "note"}
    sample = open_source("folder", root).read("i0")
    disc = [sample.image[sample.mask == label].mean(0) for label in (1, 2)]
    wanted = [array(root / "images/i0.jpg")[stored == label].mean(0) for label in (1, 2)]
    np.testing.assert_allclose(disc, wanted)  # the labels lie on the same pixels as before


def test_height_and_width_swapped(root):
    save(root / "masks/i1.png", np.ascontiguousarray(truth(1).T))
    finding = findings(root)["size-swapped"]
    assert "height and width are swapped: 40x48 pixels, the image has 48x40" in finding.message
    assert "EXIF" not in finding.message + finding.remedy
    with pytest.raises(DataError, match="transpose the labels"):
        open_source("folder", root).read("i1")
    save(root / "masks/i1.png", np.ascontiguousarray(array(root / "masks/i1.png").T))
    assert_silent(root)


# --- names -----------------------------------------------------------------------------------------------------------

COMPOSED = unicodedata.normalize("NFC", "\u00fcber\u00e9")
APART = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(("image", "labels"), [(COMPOSED, APART), (APART, COMPOSED)])
@pytest.mark.parametrize("listed", [COMPOSED, APART])
def test_names_in_two_unicode_forms_are_matched(root, image, labels, listed):
    (root / "images/i0.png").rename(root / f"images/{image}.png")
    for part in ("masks", "scribbles"):
        (root / part / "i0.png").rename(root / part / f"{labels}.png")
    (root / "train.txt").write_text(f"{listed}\ni1\ni2\ni3\n", encoding="utf-8")
    found = findings(root)
    assert {code: (f.severity, f.count) for code, f in found.items()} == {"unicode-form": ("note", 2)}
    np.testing.assert_array_equal(labels_of(root, "mask")[COMPOSED], truth(0))
    np.testing.assert_array_equal(labels_of(root, "scribble")[COMPOSED], scribble(truth(0)))
    for part in ("images", "masks", "scribbles"):  # "names of one form (NFC)"
        for path in (root / part).iterdir():
            path.rename(path.with_name(unicodedata.normalize("NFC", path.name)))
    assert_silent(root)


def test_patterns_and_tables_match_names_in_any_unicode_form(root):
    (root / "images/i0.png").rename(root / f"images/{COMPOSED}.png")
    (root / "scribbles/i0.png").rename(root / f"scribbles/{APART}.png")
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(path.name.replace("i0", APART).replace(".png", "_mask.png")))
    (root / "train.txt").write_text(f"{COMPOSED}\ni1\ni2\ni3\n", encoding="utf-8")
    (root / "tags.csv").write_text(
        f"{APART}.png,disc\n" + "".join(f"i{n},disc\n" for n in range(1, 6)), encoding="utf-8"
    )
    source = open_source("folder", root, mask_pattern="{name}_mask.png")
    np.testing.assert_array_equal(source.read(COMPOSED).mask, truth(0))
    assert source.read(COMPOSED).tags == (1,)


def test_one_name_in_both_unicode_forms(root):
    for name in (COMPOSED, APART):
        save(root / f"images/{name}.png", picture(8))
    if len(list((root / "images").iterdir())) < 8:
        pytest.skip("this file system keeps one form only")
    assert "Unicode form" in findings(root)["ambiguous-name"].message


def test_hidden_files_are_not_read_and_counted(root):
    for part in ("images", "masks", "scribbles"):
        (root / part / "._i0.png").write_bytes(b"\0\5\x16\7")
        (root / part / ".DS_Store").write_bytes(b"\0")
        (root / part / ".ipynb_checkpoints").mkdir()
        save(root / part / ".ipynb_checkpoints/i0-checkpoint.png", truth(0))
    found = findings(root)
    assert {code: (f.severity, f.count) for code, f in found.items()} == {"hidden-files": ("note", 9)}
    assert ".DS_Store" in found["hidden-files"].message
    for part in ("images", "masks", "scribbles"):  # "remove them"
        for path in sorted((root / part).rglob(".*"), reverse=True):
            if path.is_dir():
                (path / "i0-checkpoint.png").unlink()
                path.rmdir()
            else:
                path.unlink()
    assert_silent(root)


def test_a_data_set_below_a_hidden_folder_is_read(tmp_path):
    assert_silent(write_set(tmp_path / ".hidden" / "set"))


# --- files, lists, classes -------------------------------------------------------------------------------------------


def remove(root, name):
    for part in ("images", "masks", "scribbles"):
        (root / part / f"{name}.png").unlink()


def void_254(root):
    lines = scribble(truth(3))
    lines[0, :6] = 254
    save(root / "scribbles/i3.png", lines)
    return lambda finding: declared(finding.remedy)


def colours(root):
    save(root / "masks/i0.png", colour_map(256)[truth(0)])
    return lambda finding: {"rgb_labels": True}


def colours_saved_as_indices(root):
    save(root / "masks/i0.png", colour_map(256)[truth(0)])
    return lambda finding: save(root / "masks/i0.png", truth(0))


def lossy(root):
    (root / "masks/i0.png").unlink()
    Image.fromarray(truth(0)).save(root / "masks/i0.jpg")

    def export_as_png(finding):
        (root / "masks/i0.jpg").unlink()
        save(root / "masks/i0.png", truth(0))

    return export_as_png


def other_size(root):
    save(root / "masks/i0.png", truth(0)[:-3])
    return lambda finding: save(root / "masks/i0.png", truth(0))


def damaged(root):
    content = (root / "images/i0.png").read_bytes()
    (root / "images/i0.png").write_bytes(content[:100])
    return lambda finding: (root / "images/i0.png").write_bytes(content) and None


def empty_scribble(root):
    save(root / "scribbles/i0.png", np.full_like(truth(0), 255))
    return lambda finding: save(root / "scribbles/i0.png", scribble(truth(0)))


def no_scribble(root):
    (root / "scribbles/i0.png").unlink()
    return lambda finding: save(root / "scribbles/i0.png", scribble(truth(0)))


def orphan(root):
    save(root / "masks/other.png", truth(0))
    return lambda finding: finding.file.unlink()


def other_case(root):
    (root / "masks/i0.png").rename(root / "masks/I0.png")
    return lambda finding: finding.file.rename(root / "masks/i0.png") and None


def listed_in_other_case(root):
    (root / "train.txt").write_text("i0\ni1\ni2\nI3\n")
    return lambda finding: (root / "train.txt").write_text("i0\ni1\ni2\ni3\n") and None


def two_suffixes(root):
    Image.open(root / "images/i0.png").save(root / "images/i0.bmp")
    return lambda finding: (root / "images/i0.bmp").unlink()


def listed_twice(root):
    (root / "train.txt").write_text("i0\ni0\ni1\ni2\ni3\n")
    return lambda finding: (root / "train.txt").write_text("i0\ni1\ni2\ni3\n") and None


def listed_without_file(root):
    (root / "train.txt").write_text("i0\ni1\ni2\ni3\ngone\n")
    return lambda finding: (root / "train.txt").write_text("i0\ni1\ni2\ni3\n") and None


def unlisted(root):
    (root / "train.txt").write_text("i0\ni1\ni2\n")
    return lambda finding: (root / "train.txt").write_text("i0\ni1\ni2\ni3\n") and None


def empty_val(root):
    (root / "val.txt").write_text("")
    (root / "train.txt").write_text("i0\ni1\ni2\ni3\n")
    return lambda finding: (root / "val.txt").write_text("i4\ni5\n") and None


def empty_train(root):
    (root / "train.txt").write_text("")
    return lambda finding: (root / "train.txt").write_text("i0\ni1\ni2\ni3\n") and None


def val_without_mask(root):
    (root / "masks/i5.png").unlink()

    def move_it(finding):
        (root / "val.txt").write_text("i4\n")
        (root / "train.txt").write_text("i0\ni1\ni2\ni3\ni5\n")

    return move_it


def copied(root):
    save(root / "images/i1.png", picture(0))

    def remove_one(finding):
        remove(root, "i1")
        (root / "train.txt").write_text("i0\ni2\ni3\n")

    return remove_one


def one_class_too_many(root):
    (root / "classes.txt").write_text("background\ndisc\nstripe\ndoor\n")
    return lambda finding: (root / "classes.txt").write_text("background\ndisc\nstripe\n") and None


def swapped(root):
    repaint(root / "scribbles", {1: 2, 2: 1})
    return lambda finding: declared(finding.remedy)


def turned_classes(root):
    repaint(root / "scribbles", {0: 1, 1: 2, 2: 0})
    return lambda finding: declared(finding.remedy)


def contradiction(root):
    save(root / "scribbles/i0.png", scribble(truth(1)))
    return lambda finding: save(root / "scribbles/i0.png", scribble(truth(0)))


def strokes_swapped(root):
    (root / "scribbles/i0.png").unlink()
    rows, columns = np.nonzero(truth(0) == 1)
    row, column = int(rows.mean()), int(columns.mean())
    stripe = int(np.flatnonzero((truth(0) == 2).all(1))[2])
    (root / "scribbles/i0.txt").write_text(f"1,{row},{column}\n2,{stripe},3,{stripe},45\n")

    def write_x_first(finding):
        assert "swapped" in finding.remedy
        (root / "scribbles/i0.txt").write_text(f"1,{column},{row}\n2,3,{stripe},45,{stripe}\n")

    return write_x_first


def stroke_of_no_class(root):
    (root / "scribbles/i0.png").unlink()
    (root / "scribbles/i0.txt").write_text("254,3,3\n")

    def correct_the_file(finding):
        assert "_values" not in finding.remedy and "ignore" not in finding.remedy  # which strokes know nothing of
        (root / "scribbles/i0.txt").unlink()
        save(root / "scribbles/i0.png", scribble(truth(0)))

    return correct_the_file


def uneven_slices(root):
    for name, shape in (("patient1_frame1_slice_1", WIDE), ("patient1_frame1_slice_2", TALL)):
        save(root / f"images/{name}.png", picture(len(name) + shape[0], shape))
        save(root / f"masks/{name}.png", truth(1, shape))
        save(root / f"scribbles/{name}.png", scribble(truth(1, shape)))
    lines = (root / "train.txt").read_text()
    (root / "train.txt").write_text(lines + "patient1_frame1_slice_1\npatient1_frame1_slice_2\n")
    return lambda finding: {"volume_pattern": None}


REMEDIES = {
    "void-254": (void_254, "error"),
    "rgb-label": (colours, "error"),
    "rgb-label, saved anew": (colours_saved_as_indices, "error"),
    "lossy-label": (lossy, "error"),
    "size-mismatch": (other_size, "error"),
    "unreadable-image": (damaged, "error"),
    "empty-scribble": (empty_scribble, "warning"),
    "no-scribble": (no_scribble, "warning"),
    "orphan": (orphan, "warning"),
    "case-mismatch": (other_case, "warning"),
    "case-mismatch, in a list": (listed_in_other_case, "warning"),
    "ambiguous-name": (two_suffixes, "warning"),
    "duplicate-in-list": (listed_twice, "warning"),
    "missing-file": (listed_without_file, "error"),
    "unlisted": (unlisted, "warning"),
    "empty-split": (empty_val, "warning"),
    "empty-split, train": (empty_train, "error"),
    "val-without-mask": (val_without_mask, "warning"),
    "duplicate-image": (copied, "warning"),
    "class-not-in-masks": (one_class_too_many, "warning"),
    "class-swap": (swapped, "error"),
    "class-swap, all three": (turned_classes, "error"),
    "scribble-contradicts-mask": (contradiction, "error"),
    "strokes-outside": (strokes_swapped, "warning"),
    "label-range": (stroke_of_no_class, "error"),
    "volume-sizes": (uneven_slices, "error"),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_ends_its_finding(root, name):
    spoil, severity = REMEDIES[name]
    mend = spoil(root)
    finding = findings(root)[name.split(",")[0]]
    assert finding.severity == severity
    assert_silent(root, **(mend(finding) or {}))


def test_camvid_masks_in_the_listed_order(tmp_path):
    names = open_source("camvid", _camvid(tmp_path)).catalogue.classes
    order = (2, 0, 1)
    (tmp_path / "classes.txt").write_text("".join(f"{names[index]}\n" for index in order))
    remedy = findings(tmp_path, "camvid")["class-order"].remedy
    options = declared(remedy)
    assert options == {"mask_values": {0: 2, 1: 0, 2: 1}}
    found = findings(tmp_path, "camvid", **options)
    assert "class-order" not in found
    np.testing.assert_array_equal(labels_of(tmp_path, "mask", "camvid", **options)["train0"], np.take(order, truth(0)))


def _camvid(root):
    for number, split in enumerate(("train", "val")):
        save(root / split / f"{split}{number}.png", picture(number))
        save(root / f"{split}annot" / f"{split}{number}.png", truth(number))
    return root
