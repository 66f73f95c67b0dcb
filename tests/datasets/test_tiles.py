"""Tiles: every pixel and annotation in its place, in the split of its image, and back again."""

import csv
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from wss.datasets import joining, open_source, tiling
from wss.datasets.check import check
from wss.datasets.files import FileSource
from wss.datasets.georeference import shifted
from wss.datasets.joining import join_tiles
from wss.datasets.tile_grid import owned, read_tiles, starts
from wss.datasets.tiling import clip_boxes, clip_strokes, cut_tiles
from wss.errors import DataError, UsageError
from wss.scribbles import rasterise
from wss.scribbles.strokes import Stroke

GEO = [
    (33550, 12, 3, (0.5, 0.25, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 1000.0, 2000.0, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 3072, 0, 1, 25832), True),
]
rng = np.random.default_rng(0)


def write_maps(root, shapes=((90, 130), (70, 60), (40, 200)), suffix=".png", **how):
    """Images ``m0``, ... of these shapes with masks of blocks and a raster scribble; the last one is the val split."""
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    for n, shape in enumerate(shapes):
        mask = np.kron(rng.integers(0, 3, (-(-shape[0] // 10), -(-shape[1] // 10))), np.ones((10, 10)))
        mask = mask[: shape[0], : shape[1]].astype(np.uint8)
        scribble = np.where(rng.random(shape) < 0.05, mask, 255).astype(np.uint8)
        image = (mask[..., None] * 60 + rng.integers(0, 60, (*shape, 3))).astype(np.uint8)
        for part, values in (("images", image), ("masks", mask), ("scribbles", scribble)):
            path = root / part / f"m{n}{suffix}"
            if suffix == ".png":
                Image.fromarray(values).save(path)
            else:
                colours = {"photometric": "rgb" if values.ndim == 3 else "minisblack"}
                tifffile.imwrite(path, values, **colours, **how)
    (root / "classes.txt").write_text("background\nroad\nhouse\n")
    (root / "train.txt").write_text("".join(f"m{n}\n" for n in range(len(shapes) - 1)))
    (root / "val.txt").write_text(f"m{len(shapes) - 1}\n")
    return open_source("folder", root)


# --- the grid --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 31, 32, 33, 57, 64, 100, 1000])
@pytest.mark.parametrize("overlap", [0, 1, 7, 31])
def test_tiles_cover_a_side_and_stay_within(length, overlap):
    places = starts(length, 32, overlap)
    size = min(32, length)
    covered = np.zeros(length, int)
    for place in places:
        assert 0 <= place <= length - size
        covered[place : place + size] += 1
    assert covered.min() >= 1
    assert all(other - one <= 32 - overlap for one, other in pairwise(places))
    assert list(places) == sorted(set(places))


@pytest.mark.parametrize("length", [31, 32, 33, 57, 64, 100, 101])
@pytest.mark.parametrize("overlap", [0, 1, 7, 16, 31])
def test_each_pixel_is_decided_by_the_nearest_centre(length, overlap):
    places = starts(length, 32, overlap)
    size = min(32, length)
    centres = np.array(places) + (size - 1) / 2
    nearest = np.abs(np.arange(length)[:, None] - centres).argmin(1)
    for index, (first, end) in enumerate(owned(places, size, length)):
        assert (nearest[first:end] == index).all()
        assert places[index] <= first < end <= places[index] + size
    assert sum(end - first for first, end in owned(places, size, length)) == length


def test_overlap_must_be_smaller_than_a_tile():
    for overlap in (-1, 32, 40):
        with pytest.raises(UsageError, match="overlap"):
            starts(100, 32, overlap)


# --- cutting and joining ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "overlap"), [(32, 8), (32, 0), (50, 37), (500, 64)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_cut_and_join_gives_the_original(tmp_path, size, overlap, suffix):
    source = write_maps(tmp_path / "maps", suffix=suffix)
    tiles, notes = cut_tiles(source, tmp_path / "tiles", size, overlap)
    assert notes == []
    cut = open_source("folder", tmp_path / "tiles")
    assert cut.catalogue.classes == source.catalogue.classes
    np.testing.assert_array_equal(cut.catalogue.palette, source.catalogue.palette)
    assert not [f for f in check(cut) if f.severity == "error"]
    for image_id, image in tiles.images.items():
        whole = source.read(image_id)
        for name, top, left in image.tiles():
            part = cut.read(name)
            window = slice(top, top + size), slice(left, left + size)
            np.testing.assert_array_equal(part.image, whole.image[window])
            np.testing.assert_array_equal(part.mask, whole.mask[window])
            np.testing.assert_array_equal(part.scribble, whole.scribble[window])
            assert part.image.shape[:2] == (min(size, image.height), min(size, image.width))
    for part in ("masks", "scribbles"):
        written, without = join_tiles(
            read_tiles(tmp_path / "tiles" / "tiles.json"), tmp_path / "tiles" / part, tmp_path / part
        )
        assert (len(written), without) == (3, 0)
        for path in written:
            expected = source.read(path.stem)
            np.testing.assert_array_equal(
                np.array(Image.open(path)), expected.mask if part == "masks" else expected.scribble
            )


def test_tiles_are_in_the_split_of_their_image(tmp_path):
    tiles, _ = cut_tiles(write_maps(tmp_path / "maps"), tmp_path / "tiles", 32, 8)
    splits = open_source("folder", tmp_path / "tiles").catalogue.splits
    assert {i.split("_y")[0] for i in splits["train"]} == {"m0", "m1"}
    assert {i.split("_y")[0] for i in splits["val"]} == {"m2"}
    assert sum(map(len, splits.values())) == sum(len(list(image.tiles())) for image in tiles.images.values())
    assert "m0_y0000_x0024" in splits["train"]


def test_overlap_is_decided_by_the_nearest_centre(tmp_path):
    source = write_maps(tmp_path / "maps", ((32, 56), (32, 32)))
    tiles, _ = cut_tiles(source, tmp_path / "tiles", 32, 8)
    for name, label in (("m0_y0000_x0000", 1), ("m0_y0000_x0024", 2)):
        Image.fromarray(np.full((32, 32), label, np.uint8)).save(tmp_path / "tiles" / "masks" / f"{name}.png")
    join_tiles(tiles, tmp_path / "tiles" / "masks", tmp_path / "out")
    joined = np.array(Image.open(tmp_path / "out" / "m0.png"))
    assert (joined[:, :28] == 1).all()
    assert (joined[:, 28:] == 2).all()


def test_images_without_predictions_are_left_out_and_gaps_refused(tmp_path):
    tiles, _ = cut_tiles(write_maps(tmp_path / "maps"), tmp_path / "tiles", 32, 8)
    masks = tmp_path / "tiles" / "masks"
    for path in masks.glob("m0_*"):
        path.unlink()
    written, without = join_tiles(tiles, masks, tmp_path / "out")
    assert ([p.name for p in written], without) == (["m1.png", "m2.png"], 1)
    (masks / "m1_y0024_x0024.png").unlink()
    with pytest.raises(DataError, match=r"1 of the 9 tiles of image 'm1' have no mask, such as m1_y0024_x0024"):
        join_tiles(tiles, masks, tmp_path / "out")
    with pytest.raises(DataError, match=r"no mask of any tile, such as m0_y0000_x0000"):
        join_tiles(tiles, tmp_path, tmp_path / "out")


def test_mask_of_another_size_is_refused(tmp_path):
    tiles, _ = cut_tiles(write_maps(tmp_path / "maps"), tmp_path / "tiles", 32, 8)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "tiles" / "masks" / "m0_y0000_x0000.png")
    with pytest.raises(DataError, match=r"16x16 pixels, the tile has 32x32"):
        join_tiles(tiles, tmp_path / "tiles" / "masks", tmp_path / "out")


def test_deep_images_keep_the_stretch_of_the_whole_image(tmp_path):
    source = write_maps(tmp_path / "maps")
    deep = rng.integers(0, 4096, (90, 130)).astype(np.uint16)
    deep[:45] //= 8
    (tmp_path / "maps" / "images" / "m0.png").unlink()
    tifffile.imwrite(tmp_path / "maps" / "images" / "m0.tif", deep)
    source = open_source("folder", tmp_path / "maps")
    cut_tiles(source, tmp_path / "tiles", 32, 8)
    part = open_source("folder", tmp_path / "tiles").read("m0_y0000_x0000")
    np.testing.assert_array_equal(part.image, source.read("m0").image[:32, :32])
    assert part.image.max() < 40


def test_georeference_moves_with_the_tile_and_comes_back(tmp_path):
    source = write_maps(tmp_path / "maps", suffix=".tif", extratags=GEO)
    tiles, _ = cut_tiles(source, tmp_path / "tiles", 32, 8)
    for part in ("images", "masks"):
        with tifffile.TiffFile(tmp_path / "tiles" / part / "m0_y0024_x0048.tif") as file:
            tags = file.pages[0].tags
            assert tags[33922].value == (0, 0, 0, 1000 + 48 * 0.5, 2000 - 24 * 0.25, 0)
            assert tags[33550].value == GEO[0][3]
            assert tags[34735].value == GEO[2][3]
    cut = open_source("folder", tmp_path / "tiles")
    np.testing.assert_array_equal(cut.read("m0_y0024_x0048").mask, source.read("m0").mask[24:56, 48:80])
    tiles = read_tiles(tmp_path / "tiles" / "tiles.json")
    (path, *_), _ = join_tiles(tiles, tmp_path / "tiles" / "masks", tmp_path / "out")
    with tifffile.TiffFile(path) as file:
        assert path.name == "m0.tif"
        np.testing.assert_array_equal(file.asarray(), source.read("m0").mask)
        for code, _, _, value, _ in GEO:
            assert file.pages[0].tags[code].value == value


def test_other_kinds_of_georeference_are_shifted():
    matrix = (2.0, 0.5, 0.0, 100.0, -0.5, -2.0, 0.0, 200.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    points = (0.0, 0.0, 0.0, 7.0, 8.0, 0.0, 10.0, 20.0, 0.0, 9.0, 6.0, 0.0)
    moved = shifted([(34264, 12, 16, matrix, True), (33922, 12, 12, points, True)], 30, 40)
    found = np.array(moved[0][3]).reshape(4, 4)
    np.testing.assert_allclose(found @ [1, 2, 0, 1], np.array(matrix).reshape(4, 4) @ [41, 32, 0, 1])
    assert moved[1][3] == (-40, -30, 0, 7, 8, 0, -30, -10, 0, 9, 6, 0)


def test_pixels_without_data_stay_so_and_empty_tiles_are_left_out(tmp_path):
    source = write_maps(tmp_path / "maps", ((64, 96), (64, 64)), ".tif")
    path = tmp_path / "maps" / "images" / "m0.tif"
    values = tifffile.imread(path)
    values[:, :40] = 0
    values[5, 60] = 0
    tifffile.imwrite(path, values, photometric="rgb", extratags=[(42113, 2, 2, "0", True)])
    full = tifffile.imread(tmp_path / "maps" / "masks" / "m0.tif")
    tiles, notes = cut_tiles(open_source("folder", tmp_path / "maps"), tmp_path / "tiles", 32, 0)
    assert tiles.images["m0"].empty == ("m0_y0000_x0000", "m0_y0032_x0000")
    assert notes == ["2 tiles without any data are left out"]
    cut = open_source("folder", tmp_path / "tiles")
    assert not (tmp_path / "tiles" / "images" / "m0_y0000_x0000.png").exists()
    sample = cut.read("m0_y0000_x0032")
    wanted = np.ones((32, 32), bool)
    wanted[:, :8] = wanted[5, 28] = False
    np.testing.assert_array_equal(sample.valid, wanted)
    np.testing.assert_array_equal(sample.mask == 255, ~wanted)
    assert cut.read("m0_y0000_x0064").valid is None
    join_tiles(tiles, tmp_path / "tiles" / "masks", tmp_path / "out")
    joined = np.array(Image.open(tmp_path / "out" / "m0.png"))
    assert (joined[:, :40] == 255).all()
    np.testing.assert_array_equal(joined[32:, 40:], full[32:, 40:])
    assert source.catalogue.splits["val"] == ("m1",)


def test_black_with_data_beside_pixels_without_is_not_lost(tmp_path):
    write_maps(tmp_path / "maps", ((32, 32), (32, 32)), ".tif")
    values = np.zeros((32, 32), np.float32)
    values[0], values[1] = np.nan, 1
    tifffile.imwrite(tmp_path / "maps" / "images" / "m0.tif", values)
    cut_tiles(open_source("folder", tmp_path / "maps", stretch="full"), tmp_path / "tiles", 32, 0)
    sample = open_source("folder", tmp_path / "tiles").read("m0_y0000_x0000")
    np.testing.assert_array_equal(sample.valid, ~np.isnan(values))
    assert (sample.image[2:] == 1).all()
    assert (sample.image[1] == 255).all()


def test_folder_with_tiles_is_not_mixed(tmp_path):
    source = write_maps(tmp_path / "maps")
    cut_tiles(source, tmp_path / "tiles", 32, 8)
    with pytest.raises(UsageError, match="holds files already"):
        cut_tiles(source, tmp_path / "tiles", 64, 8)


def test_damaged_record_names_the_remedy(tmp_path):
    with pytest.raises(DataError, match="--tiles"):
        read_tiles(tmp_path / "tiles.json")
    cut_tiles(write_maps(tmp_path / "maps"), tmp_path / "tiles", 32, 8)
    record = json.loads((tmp_path / "tiles" / "tiles.json").read_text())
    for damage in ({"format": "other"}, {"version": 9}, {"images": [1]}, {"images": {"m0": {"name": "m0"}}}):
        (tmp_path / "tiles.json").write_text(json.dumps(record | damage))
        with pytest.raises(DataError, match="cut the tiles again"):
            read_tiles(tmp_path / "tiles.json")


# --- large images ----------------------------------------------------------------------------------------------------


def test_large_images_are_cut_part_by_part_as_whole_ones(tmp_path, monkeypatch):
    write_maps(tmp_path / "maps", suffix=".tif", tile=(16, 16), compression="deflate", extratags=GEO)
    image = tifffile.imread(tmp_path / "maps" / "images" / "m1.tif")
    image[10:20] = 0
    tags = [*GEO, (42113, 2, 2, "0", True)]
    tifffile.imwrite(tmp_path / "maps" / "images" / "m1.tif", image, photometric="rgb", tile=(16, 16), extratags=tags)
    source = open_source("folder", tmp_path / "maps", ignore=[2])
    cut_tiles(source, tmp_path / "whole", 32, 8)
    monkeypatch.setattr(tiling, "LARGE", 1000)
    monkeypatch.setattr(joining, "LARGE", 1000)
    monkeypatch.setattr(FileSource, "read", None)
    tiles, _ = cut_tiles(source, tmp_path / "parts", 32, 8)
    monkeypatch.undo()
    one, other = (open_source("folder", tmp_path / name) for name in ("whole", "parts"))
    assert one.catalogue.splits == other.catalogue.splits
    for image_id in (i for ids in one.catalogue.splits.values() for i in ids):
        for field in ("image", "mask", "scribble"):
            np.testing.assert_array_equal(getattr(one.read(image_id), field), getattr(other.read(image_id), field))
    assert (other.read("m0_y0000_x0000").mask == 255).any()
    stored = tifffile.imread(tmp_path / "parts" / "masks" / "m1_y0000_x0000.tif")
    assert (stored[10:20] == 255).all()
    assert (stored[:10] != 255).any()
    (path, *_), _ = join_tiles(tiles, tmp_path / "parts" / "masks", tmp_path / "out")
    np.testing.assert_array_equal(tifffile.imread(path), source.read("m0").mask)


def test_large_images_that_cannot_be_read_by_parts_name_the_remedy(tmp_path, monkeypatch):
    source = write_maps(tmp_path / "maps")
    monkeypatch.setattr(tiling, "LARGE", 1000)
    with pytest.raises(DataError, match=r"m0.png: has more than 1000 pixels.*tiled TIFF"):
        cut_tiles(source, tmp_path / "tiles", 32, 8)
    tifffile.imwrite(tmp_path / "maps" / "images" / "m0.tif", source.read("m0").image, photometric="rgb", tile=(16, 16))
    (tmp_path / "maps" / "images" / "m0.png").unlink()
    with pytest.raises(DataError, match=r"s/m0.png: belongs to an image of more than"):
        cut_tiles(open_source("folder", tmp_path / "maps"), tmp_path / "tiles", 32, 8)


def test_label_that_is_no_class_is_refused_in_large_masks(tmp_path, monkeypatch):
    write_maps(tmp_path / "maps", suffix=".tif", tile=(16, 16))
    mask = tifffile.imread(tmp_path / "maps" / "masks" / "m1.tif")
    mask[50, 50] = 9
    tifffile.imwrite(tmp_path / "maps" / "masks" / "m1.tif", mask, tile=(16, 16))
    monkeypatch.setattr(tiling, "LARGE", 1000)
    with pytest.raises(DataError, match=r"m1.tif: holds label 9"):
        cut_tiles(open_source("folder", tmp_path / "maps"), tmp_path / "tiles", 32, 8)


# --- strokes and boxes -----------------------------------------------------------------------------------------------


def test_strokes_are_cut_at_the_border_and_paint_the_same(tmp_path):
    write_maps(tmp_path / "maps", ((100, 120), (64, 64)))
    strokes = [
        Stroke(1, np.array([[5, 5], [100, 20], [10, 40], [110, 90.0]]), 3),
        Stroke(2, np.array([[50, 95], [50, 2.0]]), 3),
        Stroke(0, np.array([[70.0, 70.0]]), 3),
    ]
    (tmp_path / "maps" / "scribbles" / "m0.png").unlink()
    (tmp_path / "maps" / "scribbles" / "m0.txt").write_text("1,5,5,100,20,10,40,110,90\n2,50,95,50,2\n0,70,70\n")
    cut_tiles(open_source("folder", tmp_path / "maps"), tmp_path / "tiles", 40, 8)
    whole = rasterise(strokes, (100, 120))
    cut = open_source("folder", tmp_path / "tiles")
    found = 0
    for image_id in cut.catalogue.splits["train"]:
        sample = cut.read(image_id)
        top, left = (int(part[1:]) for part in image_id.split("_")[-2:])
        wanted = whole[top : top + 40, left : left + 40]
        drawn = np.full(wanted.shape, 255, np.uint8) if sample.strokes is None else rasterise(sample.strokes, (40, 40))
        for label in range(3):  # the pixels on which a cut line runs may be the neighbours of those of the whole line
            here, there = (ndimage.binary_dilation(part == label, np.ones((3, 3))) for part in (drawn, wanted))
            assert not ((drawn == label) & ~there).any()
            assert not ((wanted == label) & ~here)[2:-2, 2:-2].any()  # brushes reach in from outside by 1
        assert (sample.strokes is None) or sample.strokes != ()
        found += sample.strokes is not None
    assert found >= 8
    assert not [f for f in check(cut) if f.code == "strokes-outside"]


def test_a_stroke_that_leaves_and_comes_back_is_two():
    stroke = Stroke(1, np.array([[5.0, 5.0], [15.0, 5.0], [15.0, 8.0], [5.0, 8.0], [5.0, 9.0]]), 1)
    first, second = clip_strokes([stroke], 0, 0, 10, 10)
    np.testing.assert_allclose(first.points, [[5, 5], [9.5, 5]])
    np.testing.assert_allclose(second.points, [[9.5, 8], [5, 8], [5, 9]])
    assert clip_strokes([stroke], 20, 20, 10, 10) == []
    (moved,) = clip_strokes([replace(stroke, points=stroke.points + 100)], 90, 90, 30, 30)
    np.testing.assert_allclose(moved.points, stroke.points + 10)


def test_boxes_are_cut_and_named_by_class(tmp_path):
    boxes = np.array([[1, 0, 0, 9, 9], [2, 30, 30, 50, 35], [1, 31, 0, 31, 0]], np.int32)
    np.testing.assert_array_equal(
        clip_boxes(boxes, 0, 0, 32, 32), [[1, 0, 0, 9, 9], [2, 30, 30, 31, 31], [1, 31, 0, 31, 0]]
    )
    np.testing.assert_array_equal(clip_boxes(boxes, 32, 32, 32, 32), [[2, 0, 0, 18, 3]])
    assert clip_boxes(boxes, 40, 0, 10, 10).shape == (0, 5)

    source = write_maps(tmp_path / "maps", ((64, 64), (32, 32)))
    source.load_boxes = lambda image_id: boxes if image_id == "m0" else None
    cut_tiles(source, tmp_path / "tiles", 32, 0)
    rows = list(csv.reader((tmp_path / "tiles" / "boxes.csv").open()))
    assert rows[0] == ["image", "class", "x0", "y0", "x1", "y1"]
    assert ["m0_y0032_x0032", "house", "0", "0", "18", "3"] in rows
    assert ["m0_y0032_x0000", "", "", "", "", ""] not in rows
    assert ["m0_y0032_x0000", "house", "30", "0", "31", "3"] in rows
    assert not [row for row in rows if row[0].startswith("m1")]
    read = open_source("folder", tmp_path / "tiles").load_boxes
    np.testing.assert_array_equal(read("m0_y0000_x0000"), clip_boxes(boxes, 0, 0, 32, 32))
    assert read("m1_y0000_x0000") is None
