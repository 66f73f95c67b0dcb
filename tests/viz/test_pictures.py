from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from wss.errors import DataError, UsageError
from wss.viz import (
    box_overlay,
    colourise,
    distinct_palette,
    encode_png,
    error_map,
    indexed_png,
    outlined,
    overlay,
    scribble_overlay,
    spotlight,
    thumbnail,
)
from wss.viz.error_map import VOID_COLOUR as ERROR_VOID
from wss.viz.error_map import WRONG_COLOUR
from wss.viz.palette import VOID_COLOUR

PALETTE = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], np.uint8)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("count", [0, 1, 2, 21, 60, 255])
def test_distinct_palette_has_no_two_equal_colours(count):
    palette = distinct_palette(count)
    assert palette.shape == (count, 3)
    assert palette.dtype == np.uint8
    assert len({tuple(colour) for colour in palette.tolist()}) == count


def test_distinct_palette_tells_a_dozen_classes_well_apart():
    colours = distinct_palette(12, background=None).astype(float)
    gaps = np.linalg.norm(colours[:, None] - colours, axis=2)
    assert gaps[~np.eye(12, dtype=bool)].min() > 50


def test_distinct_palette_is_limited_to_the_labels_there_are():
    with pytest.raises(UsageError, match="256"):
        distinct_palette(256)


def test_colourise_by_hand():
    labels = np.array([[0, 1], [2, 255]])
    np.testing.assert_array_equal(colourise(labels, PALETTE), [[PALETTE[0], PALETTE[1]], [PALETTE[2], VOID_COLOUR]])


def test_labels_without_colour_are_refused():
    with pytest.raises(DataError, match="label 3 has no colour"):
        colourise(np.array([[0, 3]], np.uint8), PALETTE)
    with pytest.raises(DataError, match="label -1"):
        colourise(np.array([[0, -1]]), PALETTE)
    with pytest.raises(UsageError, match="integers"):
        colourise(np.zeros((2, 2)), PALETTE)
    with pytest.raises(UsageError, match="palette"):
        colourise(np.zeros((2, 2), np.uint8), PALETTE.astype(float))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_indexed_png_keeps_labels_and_shows_colours(dtype):
    labels = np.array([[0, 1, 2], [255, 2, 1]], dtype)
    picture = decoded(indexed_png(labels, PALETTE))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), labels)
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), colourise(labels, PALETTE))


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.array(decoded(encode_png(image))), image)
    np.testing.assert_array_equal(np.array(decoded(encode_png(image[..., 0]))), image[..., 0])
    with pytest.raises(UsageError, match="float64"):
        encode_png(image / 255)


def test_overlay_tints_regions_and_outlines_them():
    image = np.full((9, 9, 3), 100, np.uint8)
    labels = np.zeros((9, 9), np.uint8)
    labels[:, 5:] = 1
    painted = overlay(image, labels, PALETTE, alpha=0.5)
    np.testing.assert_array_equal(painted[4, 0], [50, 50, 50])
    np.testing.assert_array_equal(painted[4, 8], [150, 50, 50])
    np.testing.assert_array_equal(painted[4, 4], PALETTE[0])  # the border, on its own side
    np.testing.assert_array_equal(painted[4, 5], PALETTE[1])
    assert (painted[:, :4] == 50).all()


def test_overlay_without_contours_and_with_an_unpainted_class():
    image = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    labels = np.zeros((6, 6), np.uint8)
    labels[2:4, 2:4] = 2
    kept = image.copy()
    painted = overlay(image, labels, PALETTE, alpha=1.0, contours=False, unpainted=0)
    np.testing.assert_array_equal(painted[labels == 0], image[labels == 0])
    np.testing.assert_array_equal(painted[labels == 2], np.tile(PALETTE[2], (4, 1)))
    np.testing.assert_array_equal(image, kept)


def test_overlay_shows_void():
    image = np.zeros((4, 4, 3), np.uint8)
    painted = overlay(image, np.full((4, 4), 255), PALETTE, alpha=1.0)
    assert (painted == VOID_COLOUR).all()


@pytest.mark.parametrize("shape", [(32, 32), (96, 128), (480, 640), (1500, 1000)])
def test_scribbles_stay_visible_when_the_picture_is_shown_small(shape):
    image = np.full((*shape, 3), 128, np.uint8)
    scribble = np.full(shape, 255, np.uint8)
    scribble[shape[0] // 2, 3:-3] = 1
    painted = scribble_overlay(image, scribble, PALETTE)
    thick = (painted[:, shape[1] // 2] == PALETTE[1]).all(1).sum()
    assert thick >= 3
    assert thick / max(shape) * 160 >= 2  # two pixels on a picture 160 pixels wide
    assert thick <= max(5, 0.03 * max(shape))


def test_thickened_scribbles_never_cover_each_other():
    scribble = np.full((40, 40), 255, np.uint8)
    scribble[10:30, 20], scribble[10:30, 22] = 1, 2
    painted = scribble_overlay(np.zeros((40, 40, 3), np.uint8), scribble, PALETTE, thickness_px=9)
    for label in (1, 2):
        assert (painted[scribble == label] == PALETTE[label]).all()
    # The space on either side belongs to the nearer one.
    assert (painted[20, 17] == PALETTE[1]).all()
    assert (painted[20, 25] == PALETTE[2]).all()


def test_an_empty_scribble_draws_nothing():
    image = np.full((5, 5, 3), 55, np.uint8)
    painted = scribble_overlay(image, np.full((5, 5), 255, np.uint8), PALETTE)
    assert (painted == painted[0, 0]).all()
    full = scribble_overlay(image, np.ones((5, 5), np.uint8), PALETTE)
    assert (full == PALETTE[1]).all()


def test_boxes_are_outlined_in_the_colour_of_their_class():
    image = np.full((40, 50, 3), 100, np.uint8)
    labels = np.zeros((40, 50), np.uint8)
    labels[5:30, 10:40] = 255
    labels[12:16, 20:24] = 2
    boxes = np.array([[1, 10, 5, 39, 29], [2, 30, 20, 80, 90]], np.int32)
    painted = box_overlay(image, labels, boxes, PALETTE, background=0)
    assert (painted[5, 10:40] == PALETTE[1]).all() and (painted[5:18, 39] == PALETTE[1]).all()
    assert (painted[29, 10:27] == PALETTE[1]).all()
    assert (painted[20, 31:] == PALETTE[2]).all()  # goes on beyond the image, and lies on top
    assert (painted[13:15, 21:23] == PALETTE[2]).all()
    assert (painted[4, 10:40] == 255).all()  # a rim
    assert (painted[0, 0] == painted[10, 15]).all() and (painted[0, 0] > 100).all()  # background is only paled
    assert (image == 100).all()
    plain = box_overlay(image, labels, boxes[:0], PALETTE)
    assert (plain[0, 0] == PALETTE[0]).all()


def test_error_map_by_hand():
    image = np.zeros((1, 4, 3), np.uint8)
    truth = np.array([[1, 1, 255, 0]], np.uint8)
    prediction = np.array([[1, 2, 0, 255]], np.uint8)
    right, wrong, void, abstained = error_map(image, truth, prediction)[0]
    assert len(set(right.tolist())) == 1  # grey
    np.testing.assert_array_equal(wrong, np.rint(0.25 * right + 0.75 * np.array(WRONG_COLOUR)))
    np.testing.assert_array_equal(void, np.rint(0.25 * right + 0.75 * np.array(ERROR_VOID)))
    np.testing.assert_array_equal(abstained, wrong)


def test_sizes_must_agree():
    image, labels = np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8)
    for paint in (overlay, scribble_overlay):
        with pytest.raises(UsageError, match="same height and width"):
            paint(image, labels, PALETTE)
    with pytest.raises(UsageError, match="same height and width"):
        error_map(image, labels.T, labels)
    with pytest.raises(UsageError, match="uint8"):
        overlay(image / 255, labels.T, PALETTE)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((100, 50), (50, 100)), ((1000, 500), (160, 320)), ((500, 1000), (320, 160)), ((1, 4000), (320, 1))],
)
def test_thumbnails_are_bounded_and_keep_their_proportions(shape, expected):
    image = np.full((*shape, 3), (10, 200, 90), np.uint8)
    thumb = thumbnail(image, side=320)
    assert (thumb.width, thumb.height) == expected
    head, data = thumb.uri.split(",")
    assert head == "data:image/jpeg;base64"
    picture = decoded(base64.b64decode(data))
    assert picture.size == expected
    assert np.abs(np.array(picture).astype(int) - (10, 200, 90)).max() <= 4


def test_borders_between_regions_are_drawn_once():
    image = np.zeros((3, 4, 3), np.uint8)
    drawn = outlined(image, np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]]))
    assert drawn.any(2).tolist() == [[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert not image.any()
    with pytest.raises(UsageError, match="same height"):
        outlined(image, np.zeros((2, 2), int))


def test_a_spotlight_dims_the_rest_and_rings_the_mask():
    image = np.full((7, 7, 3), 100, np.uint8)
    mask = np.zeros((7, 7), bool)
    mask[3, 3] = True
    drawn = spotlight(image, mask)
    assert (drawn[3, 3] == 100).all() and (drawn[0] == 50).all()
    assert (drawn[2, 2:5] == [255, 230, 0]).all() and (drawn[1] == 50).all()
    assert (spotlight(image, ~mask & mask) == 50).all()
    with pytest.raises(UsageError, match="same height and width"):
        spotlight(image, mask[:3])
