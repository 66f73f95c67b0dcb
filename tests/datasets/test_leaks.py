"""The check finds images that are in two splits: volumes, patients, copies, and pictures that are nearly the same."""

import time

import cv2
import numpy as np
import pytest
from skimage import data
from small_set import findings, picture, save, scribble, truth, write_set

from wss.datasets import open_source
from wss.datasets.near_duplicates import near_duplicates, reduced

PATTERN = r"(?P<volume>(?P<group>p\d)_v\d)_(?P<slice>\d+)"


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "set")


def write_lists(root, **lists):
    for name, ids in lists.items():
        (root / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids.split()))


def slices(root, *names):
    """Slices of volumes with masks and scribbles, all different."""
    for number, name in enumerate(names):
        save(root / f"images/{name}.png", picture(20 + number))
        save(root / f"masks/{name}.png", truth(20 + number))
        save(root / f"scribbles/{name}.png", scribble(truth(20 + number)))


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "severity"),
    [
        ({"train": "i0 i1 i2 i3", "val": "i3 i4 i5"}, "error"),
        ({"train": "i0 i1 i2 i3", "val": "i4", "test": "i3 i5"}, "error"),
        ({"train": "i0 i1 i2", "val": "i3 i4", "test": "i3 i5"}, "warning"),
    ],
)
def test_an_image_in_two_splits(root, lists, severity):
    write_lists(root, **lists)
    found = findings(root)
    assert {code: (f.severity, f.image_id) for code, f in found.items()} == {"split-overlap": (severity, "i3")}
    write_lists(
        root, **{name: ids.replace("i3", "") if name != "train" else "i0 i1 i2 i3" for name, ids in lists.items()}
    )
    assert findings(root) == {}


def test_a_volume_in_two_splits(root):
    slices(root, "p1_v1_1", "p1_v1_2", "p2_v1_1", "p2_v1_2")
    write_lists(root, train="i0 i1 p1_v1_1 p2_v1_1 p2_v1_2", val="i2 i3 i4 i5 p1_v1_2")
    found = findings(root, volume_pattern=PATTERN)
    assert set(found) == {"volume-overlap"}
    assert found["volume-overlap"].severity == "error"
    assert "volume 'p1_v1' has slices in train (p1_v1_1) and in val (p1_v1_2)" in found["volume-overlap"].message
    write_lists(root, train="i0 i1 p1_v1_1 p1_v1_2 p2_v1_1 p2_v1_2", val="i2 i3 i4 i5")  # "in one split"
    assert findings(root, volume_pattern=PATTERN) == {}


def test_a_volume_that_both_splits_list_as_a_whole_is_told_by_its_images(root):
    slices(root, "p1_v1_1", "p1_v1_2")
    write_lists(root, train="i0 i1 p1_v1_1 p1_v1_2", val="i2 i3 i4 i5 p1_v1_1 p1_v1_2")
    found = findings(root, volume_pattern=PATTERN)
    assert {code: f.count for code, f in found.items()} == {"split-overlap": 2}


def test_a_patient_in_two_splits(root):
    slices(root, "p1_v1_1", "p1_v2_1", "p2_v1_1", "p2_v1_2")
    write_lists(root, train="i0 i1 p1_v1_1 p2_v1_1 p2_v1_2", val="i2 i3 i4 i5 p1_v2_1")
    found = findings(root, volume_pattern=PATTERN)
    assert {code: f.severity for code, f in found.items()} == {"patient-overlap": "warning"}
    assert "p1 has volumes in train (p1_v1) and in val (p1_v2)" in found["patient-overlap"].message
    assert findings(root, volume_pattern=None) == {}
    write_lists(root, train="i0 i1 p2_v1_1 p2_v1_2", val="i2 i3 i4 i5 p1_v1_1 p1_v2_1")
    assert findings(root, volume_pattern=PATTERN) == {}


# --- pictures --------------------------------------------------------------------------------------------------------


COPIES = {
    "saved as JPEG": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda image: np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8),
    "noise": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2),
}


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_of_a_training_image_among_the_held_out(root, change):
    copy = COPIES[change](picture(1))
    save(root / "images/i5.png", cv2.resize(copy, (48, 40)))
    finding = findings(root)["near-duplicate"]
    assert (finding.severity, finding.image_id, finding.count) == ("warning", "i5", 1)
    assert "i5 and i1 are nearly the same picture" in finding.message
    write_lists(root, train="i0 i1 i2 i3 i5", val="i4")  # "keep both in one split"
    assert "near-duplicate" not in findings(root)


def test_the_same_picture_is_told_once(root):
    save(root / "images/i5.png", picture(1))
    found = findings(root)
    assert "same-image" in found and "near-duplicate" not in found
    for part in ("images", "masks", "scribbles"):  # "remove one of them with its annotations, also from the lists"
        (root / part / "i5.png").unlink()
    write_lists(root, val="i4")
    assert findings(root) == {}


@pytest.mark.parametrize("change", COPIES)
def test_photographs_and_their_copies(change):
    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    copies = [reduced(COPIES[change](image)) for image in photographs]
    assert near_duplicates([reduced(image) for image in photographs], copies) == [(n, n) for n in range(4)]


def test_what_moved_or_is_new_is_no_copy():
    background = cv2.resize(np.random.default_rng(3).uniform(0, 255, (8, 8, 3)).astype(np.uint8), (200, 160))
    one, other = background.copy(), background.copy()
    cv2.circle(one, (50, 60), 8, (60, 60, 60), -1)
    cv2.circle(other, (140, 100), 8, (60, 60, 60), -1)
    cells = [reduced(image).reshape(16, 2, 16, 2).mean((1, 3)).ravel() for image in (one, other)]
    assert np.corrcoef(cells)[0, 1] > 0.98  # much alike on the whole
    assert near_duplicates([reduced(one)], [reduced(other)]) == []


def test_flat_pictures_are_not_compared():
    flat = [reduced(np.full((40, 40, 3), value, np.uint8)) for value in (0, 90, 255)]
    assert near_duplicates(flat, flat) == []
    faint = [reduced(np.broadcast_to(np.linspace(90, 95, 40)[:, None, None], (40, 40, 3)).astype(np.uint8))]
    assert near_duplicates(faint, faint) == []
    assert near_duplicates([], flat) == near_duplicates(flat, []) == []


def test_there_are_no_false_alarms_among_scenes_of_one_kind():
    source = open_source("sample", train=150, val=150)
    train, val = ([reduced(source.read(i).image) for i in source.catalogue.splits[name]] for name in ("train", "val"))
    assert near_duplicates(train, val) == []


def test_ten_thousand_pictures_are_compared_within_seconds():
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (10_000, 32, 32), dtype=np.uint8))
    pictures[9_900] = pictures[17]
    started = time.process_time()
    assert near_duplicates(pictures[:8_000], pictures[8_000:]) == [(17, 1_900)]
    assert time.process_time() - started < 60
