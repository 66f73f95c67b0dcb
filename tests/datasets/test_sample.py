from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from wss.datasets.sample import SampleSource
from wss.datasets.source import Sample, Source
from wss.errors import DataError, UsageError
from wss.scribbles import rasterise


def digest(sample: Sample) -> str:
    assert sample.mask is not None and sample.boxes is not None and sample.strokes is not None
    parts = [sample.image, sample.mask, sample.boxes, *(s.points for s in sample.strokes)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + repr(sample.tags).encode()).hexdigest()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    source: Source = SampleSource(seed=3, train=24, val=8)
    return [source.read(i) for ids in source.catalogue.splits.values() for i in ids]


def test_declares_what_it_holds() -> None:
    catalogue = SampleSource(train=5, val=2).catalogue
    assert catalogue.kind == "sample" and catalogue.background == 0
    assert [len(ids) for ids in catalogue.splits.values()] == [5, 2]
    assert catalogue.palette.shape == (len(catalogue.classes), 3) and catalogue.palette.dtype == np.uint8
    assert len({tuple(c) for c in catalogue.palette.tolist()}) == len(catalogue.classes)


def test_samples_are_well_formed(samples: list[Sample]) -> None:
    for sample in samples:
        assert sample.image.shape == (96, 128, 3) and sample.image.dtype == np.uint8
        assert sample.mask is not None and sample.mask.shape == (96, 128) and sample.mask.dtype == np.uint8
        assert sample.mask.max() < 7
        assert sample.tags == tuple(sorted(set(sample.mask.ravel().tolist())))
        assert sample.image.std() > 10


def test_every_stroke_pixel_lies_on_its_class(samples: list[Sample]) -> None:
    coverage = []
    for sample in samples:
        assert sample.mask is not None and sample.strokes is not None
        raster = rasterise(sample.strokes, sample.mask.shape)
        drawn = raster != 255
        np.testing.assert_array_equal(raster[drawn], sample.mask[drawn])
        assert set(np.unique(raster[drawn]).tolist()) == set(sample.tags or ())
        coverage.append(drawn.mean())
    assert 0.01 < np.mean(coverage) < 0.03


def test_boxes_enclose_the_objects(samples: list[Sample]) -> None:
    for sample in samples:
        assert sample.mask is not None and sample.boxes is not None and sample.boxes.dtype == np.int32
        inside = np.zeros_like(sample.mask, dtype=bool)
        for label, x0, y0, x1, y1 in sample.boxes.tolist():
            window = sample.mask[y0 : y1 + 1, x0 : x1 + 1] == label
            assert 0 <= x0 <= x1 < 128 and 0 <= y0 <= y1 < 96
            for side in (window[0], window[-1], window[:, 0], window[:, -1]):
                assert side.any(), "each side touches the object"
            inside[y0 : y1 + 1, x0 : x1 + 1] |= window
        np.testing.assert_array_equal(inside, sample.mask > 0)
        assert set(sample.boxes[:, 0].tolist()) == set(sample.tags or ()) - {0}


def test_all_classes_occur_and_background_is_not_everything(samples: list[Sample]) -> None:
    labels = np.concatenate([s.mask.ravel() for s in samples if s.mask is not None])
    share = np.bincount(labels, minlength=7) / len(labels)
    assert (share > 0.005).all() and 0.5 < share[0] < 0.85
    assert np.mean([len(s.tags or ()) - 1 for s in samples]) >= 2


def test_colour_alone_does_not_tell_the_class(samples: list[Sample]) -> None:
    """The best guess from a pixel's colour, fitted on the same pixels, leaves most objects unrecognised."""
    colours = np.concatenate([(s.image // 32).reshape(-1, 3) for s in samples]).astype(int) @ [64, 8, 1]
    labels = np.concatenate([s.mask.ravel() for s in samples if s.mask is not None])
    votes = np.zeros((512, 7), int)
    np.add.at(votes, (colours, labels), 1)
    guess = votes.argmax(1)[colours]
    iou = [((guess == k) & (labels == k)).sum() / ((guess == k) | (labels == k)).sum() for k in range(7)]
    assert np.mean(iou) < 0.4


def test_a_sample_depends_on_seed_and_id_alone() -> None:
    small, large = SampleSource(train=3, val=0), SampleSource(train=50, val=20)
    expected = [digest(small.read(f"train-000{i}")) for i in range(3)]
    assert [digest(large.read(f"train-000{i}")) for i in (2, 0, 1)] == [expected[i] for i in (2, 0, 1)]
    assert len(set(expected)) == 3
    assert digest(SampleSource(seed=1).read("train-0000")) not in expected
    assert digest(large.read("val-0000")) not in expected


def test_is_the_same_in_another_process() -> None:
    code = (
        "from wss.datasets.sample import SampleSource; import hashlib; s = SampleSource().read('val-0007');"
        "print(hashlib.sha256(s.image.tobytes() + s.mask.tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    sample = SampleSource().read("val-0007")
    assert sample.mask is not None
    assert printed == hashlib.sha256(sample.image.tobytes() + sample.mask.tobytes()).hexdigest()


def test_the_fingerprint_covers_the_arguments() -> None:
    arguments = [
        {},
        {"seed": 1},
        {"train": 161},
        {"val": 61},
        {"height": 97},
        {"width": 129},
        {"train": 60, "val": 160},
    ]
    prints = [SampleSource(**a).fingerprint() for a in arguments]
    assert len(set(prints)) == len(prints)
    assert SampleSource().fingerprint() == prints[0] and len(prints[0]) == 64


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 33), (97, 131), (240, 320)])
def test_other_sizes_work(height: int, width: int) -> None:
    source = SampleSource(train=3, val=0, height=height, width=width)
    for image_id in source.catalogue.splits["train"]:
        sample = source.read(image_id)
        assert sample.image.shape == (height, width, 3)
        assert sample.mask is not None and sample.mask.shape == (height, width)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="32x32"):
        SampleSource(height=31)
    with pytest.raises(UsageError, match=">= 0"):
        SampleSource(train=-1)
    source = SampleSource(train=2, val=1)
    with pytest.raises(DataError, match="train-0005"):
        source.read("train-0005")
    assert list(source.files("train-0000")) == []
