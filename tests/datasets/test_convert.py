"""Scribbles from one format to another and back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wss.datasets import open_source
from wss.datasets.convert import convert, raster_of, strokes_of
from wss.datasets.images import read_label
from wss.errors import DataError, UsageError
from wss.scribbles import rasterise

SHAPE = (40, 50)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "scribbles").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"images/i{number}.png")
    (root / "classes.txt").write_text("background\ncat\n")
    (root / "scribbles/i0.txt").write_text("0,3,4,40,4.5\n1,20,20,20,35,30,35\n")
    (root / "scribbles/i1.txt").write_text("1,5,5\n")
    return root


def test_strokes_to_strokes_and_back(root):
    before = open_source("folder", root)
    written = convert(before, root / "xml", "xml")
    assert [p.name for p in written] == ["i0.xml", "i1.xml"]  # i2 has no scribble
    as_xml = open_source("folder", root, scribbles="xml")
    convert(as_xml, root / "again", "txt")
    after = open_source("folder", root, scribbles="again")
    for image_id in ("i0", "i1"):
        for a, b in zip(before.read(image_id).strokes, after.read(image_id).strokes, strict=True):
            assert a.label == b.label
            np.testing.assert_array_equal(a.points, b.points)


def test_strokes_to_png_is_drawing(root):
    source = open_source("folder", root)
    seen = []
    convert(source, root / "png", "png", progress=lambda n, image_id: seen.append(image_id))
    assert seen == ["i0", "i1", "i2"]
    raster = read_label(root / "png/i0.png")
    np.testing.assert_array_equal(raster, rasterise(source.read("i0").strokes, SHAPE))
    assert set(np.unique(raster)) == {0, 1, 255}
    assert Image.open(root / "png/i0.png").mode == "P"
    sample = open_source("folder", root, scribbles="png").read("i0")
    np.testing.assert_array_equal(sample.scribble, raster)
    np.testing.assert_array_equal(raster_of(sample), raster)


def test_png_to_strokes_follows_the_lines(root):
    convert(open_source("folder", root), root / "png", "png")
    thinned = open_source("folder", root, scribbles="png")
    convert(thinned, root / "txt", "txt")
    strokes = open_source("folder", root, scribbles="txt").read("i0").strokes
    before = read_label(root / "png/i0.png")
    after = rasterise(strokes, SHAPE)
    labelled = (before != 255) & (after != 255)
    assert (before[labelled] == after[labelled]).all()
    assert labelled.sum() > 0.8 * (before != 255).sum()
    assert [s.label for s in strokes_of(thinned.read("i1"))] == [1]


def test_what_cannot_be_converted(root):
    source = open_source("folder", root)
    with pytest.raises(UsageError, match="no scribble format 'svg'"):
        convert(source, root / "x", "svg")
    with pytest.raises(DataError, match="nothing to convert"):
        convert(source, root / "x", "png", ids=["i2"])
    assert not (root / "x").exists()
