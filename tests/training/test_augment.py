from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from wss.errors import DataError
from wss.params import canonical
from wss.training.augment import AugmentParams, augment, common_size

EVERYTHING = AugmentParams(
    crop=(60, 80),
    scale=(0.5, 2.0),
    rotate_deg=20,
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue_deg=30,
    blur=0.5,
)
GEOMETRY = AugmentParams(crop=(60, 80), scale=(0.5, 2.0), rotate_deg=20, flip=0.5)


def still(**options) -> AugmentParams:
    return AugmentParams(**{"crop": None, "flip": 0.0, **options})


def photo(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def run(image, maps, params, seed=0):
    return augment(image, maps, params, np.random.default_rng(seed))


def test_nothing_changes_when_everything_is_off():
    image, rng = photo(), np.random.default_rng(1)
    maps = {
        "labels": rng.integers(0, 256, (70, 90)).astype(np.uint8),
        "edges": rng.random((70, 90), np.float32),
        "superpixels": rng.integers(-1, 2**31 - 1, (70, 90)).astype(np.int32),
    }
    result, warped, valid = run(image, maps, still())
    np.testing.assert_array_equal(result, image)
    for name, values in maps.items():
        np.testing.assert_array_equal(warped[name], values)
        assert warped[name].dtype == values.dtype
    assert valid.all()
    assert valid.dtype == bool


def test_flip_mirrors_everything():
    image = photo()
    labels = np.random.default_rng(1).integers(0, 4, (70, 90)).astype(np.uint8)
    ids = np.arange(70 * 90, dtype=np.int32).reshape(70, 90)
    result, warped, valid = run(image, {"labels": labels, "ids": ids}, still(flip=1.0))
    np.testing.assert_array_equal(result, image[:, ::-1])
    np.testing.assert_array_equal(warped["labels"], labels[:, ::-1])
    np.testing.assert_array_equal(warped["ids"], ids[:, ::-1])
    assert valid.all()


def test_sides_change_places_with_the_image():
    image, labels = photo(), np.full((70, 90), 255, np.uint8)
    labels[10:20, 5:15], labels[10:20, 60:70], labels[40:50, 30:40] = 1, 2, 3
    sides = [(1, 2), (7, 4)]
    _, plain, _ = run(image, {"labels": labels}, still(flip=1.0))
    _, found, _ = run(image, {"labels": labels}, still(flip=1.0, sides=sides))
    expected = plain["labels"].copy()
    expected[plain["labels"] == 1], expected[plain["labels"] == 2] = 2, 1
    assert (found["labels"] == expected).all() and (expected != plain["labels"]).any()
    _, same, _ = run(image, {"labels": labels}, still(sides=sides))
    assert (same["labels"] == labels).all()


@pytest.mark.parametrize("seed", range(5))
def test_crop_is_a_window_of_the_image(seed):
    image = photo()
    ids = np.arange(70 * 90, dtype=np.int32).reshape(70, 90)
    result, warped, valid = run(image, {"ids": ids}, still(crop=(20, 30)), seed)
    top, left = divmod(int(warped["ids"][0, 0]), 90)
    np.testing.assert_array_equal(warped["ids"], ids[top : top + 20, left : left + 30])
    np.testing.assert_array_equal(result, image[top : top + 20, left : left + 30])
    assert valid.all()


def test_crops_reach_every_window_and_nothing_else():
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    image = np.zeros((3, 4, 3), np.uint8)
    corners = {int(run(image, {"ids": ids}, still(crop=2), seed)[1]["ids"][0, 0]) for seed in range(200)}
    assert corners == {0, 1, 2, 4, 5, 6}


@pytest.mark.parametrize("seed", range(5))
def test_padding_is_filled_and_marked(seed):
    image = photo(10, 12)
    maps = {
        "labels": np.full((10, 12), 3, np.uint8),
        "edges": np.ones((10, 12), np.float32),
        "ids": np.zeros((10, 12), np.int32),
    }
    result, warped, valid = run(image, maps, still(crop=(16, 15), fill_rgb=(1, 2, 3)), seed)
    assert valid.sum() == 120
    top, left = (int(axis.min()) for axis in np.nonzero(valid))
    assert valid[top : top + 10, left : left + 12].all()
    np.testing.assert_array_equal(result[top : top + 10, left : left + 12], image)
    assert (result[~valid] == (1, 2, 3)).all()
    for name, inside, outside in (("labels", 3, 255), ("edges", 1, 0), ("ids", 0, -1)):
        assert (warped[name][valid] == inside).all()
        assert (warped[name][~valid] == outside).all()


def test_padding_differs_from_unlabelled():
    labels = np.full((10, 10), 255, np.uint8)
    _, warped, valid = run(photo(10, 12)[:, :10], {"labels": labels}, still(crop=14))
    assert (warped["labels"] == 255).all()
    assert valid.sum() == 100


def test_doubling_repeats_labels_and_interpolates_colours():
    image = photo()
    labels = np.random.default_rng(1).integers(0, 4, (70, 90)).astype(np.uint8)
    result, warped, _ = run(image, {"labels": labels}, still(scale=(2.0, 2.0), crop=(140, 180)))
    np.testing.assert_array_equal(warped["labels"], labels.repeat(2, 0).repeat(2, 1))
    expected = cv2.resize(image, (180, 140), interpolation=cv2.INTER_LINEAR)
    assert np.abs(result.astype(int) - expected).max() <= 2


def test_halving_averages_the_image_and_float_maps():
    image, edges = photo(), np.random.default_rng(1).random((70, 90), np.float32)
    result, warped, valid = run(image, {"edges": edges}, still(scale=(0.5, 0.5), crop=(35, 45)))
    means = image.reshape(35, 2, 45, 2, 3).mean((1, 3))
    assert np.abs(result - means).max() <= 1
    np.testing.assert_allclose(warped["edges"], edges.reshape(35, 2, 45, 2).mean((1, 3)), atol=1e-5)
    assert valid.all()


def test_float_maps_stay_in_their_range():
    edges = (np.random.default_rng(0).random((70, 90)) > 0.9).astype(np.float32)
    for seed in range(20):
        _, warped, _ = run(photo(), {"edges": edges}, GEOMETRY, seed)
        assert warped["edges"].min() >= 0
        assert warped["edges"].max() <= 1


DOTS = ((20, 25), (45, 30), (30, 60), (52, 70))


def dotted() -> tuple[np.ndarray, np.ndarray]:
    """A black image with discs of distinct brightness, a single labelled pixel in the middle of each."""
    image = np.zeros((70, 90, 3), np.uint8)
    labels = np.full((70, 90), 255, np.uint8)
    for k, (y, x) in enumerate(DOTS):
        cv2.circle(image, (x, y), 7, (60 * (k + 1),) * 3, -1)
        labels[y, x] = k
    return image, labels


@pytest.mark.parametrize("seed", range(60))
def test_labelled_points_stay_on_their_image_feature(seed):
    image, labels = dotted()
    y, x = np.mgrid[:70, :90].astype(np.float32)
    maps = {"labels": labels, "x": x, "y": y}
    result, warped, valid = run(image, maps, GEOMETRY.model_copy(update={"fill_rgb": (0, 0, 0)}), seed)
    # warped coordinates tell which source pixel every pixel of the result shows, and how large a pixel is
    step = np.median(np.hypot(np.diff(warped["x"], axis=1), np.diff(warped["y"], axis=1))[valid[:, 1:] & valid[:, :-1]])
    for k, (dot_y, dot_x) in enumerate(DOTS):
        distance = np.where(valid, np.hypot(warped["x"] - dot_x, warped["y"] - dot_y), np.inf)
        at = warped["labels"] == k
        if at.any():
            assert distance[at].max() <= 0.75 * max(step, 1) + 0.1
            assert np.abs(result[at].astype(int) - 60 * (k + 1)).max() <= 8
        else:  # the point lies outside the crop
            assert distance.min() > 0.45 * step
    assert (warped["labels"][~valid] == 255).all()


@pytest.mark.parametrize("seed", range(40))
def test_a_single_point_is_never_lost_by_scaling_or_turning(seed):
    rng = np.random.default_rng(seed)
    labels = np.full((61, 83), 255, np.uint8)
    y, x = 20 + int(rng.integers(20)), 30 + int(rng.integers(20))
    labels[y, x] = 5
    params = still(scale=(0.13, 1.1), rotate_deg=45, flip=0.5, crop=120)  # the whole picture is in the crop
    _, warped, valid = run(photo(61, 83), {"labels": labels}, params, seed)
    at = np.argwhere(warped["labels"] == 5)
    assert 1 <= len(at) <= 4
    assert valid[tuple(at[0])]


def test_points_survive_turning_alone():
    points = np.full((45, 45), 255, np.uint8)
    points[::3, ::3] = np.arange(225).reshape(15, 15)
    y, x = np.mgrid[:45, :45] - 22
    points[np.hypot(y, x) > 21] = 255  # the corners of the image may leave the crop, its inner circle may not
    for seed in range(10):
        _, warped, _ = run(photo(45, 48)[:, :45], {"labels": points}, still(rotate_deg=45, crop=80), seed)
        assert np.setdiff1d(points, warped["labels"]).size == 0


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.77])
def test_thin_strokes_stay_connected_when_the_image_shrinks(scale):
    labels = np.full((80, 100), 255, np.uint8)
    cv2.polylines(labels, [np.array([[5, 10], [90, 30], [40, 70]], np.int32)], False, 2, 1)
    _, warped, _ = run(photo(80, 100), {"labels": labels}, still(scale=(scale, scale)), 3)
    stroke = (warped["labels"] == 2).astype(np.uint8)
    assert cv2.connectedComponents(stroke, connectivity=8)[0] == 2  # background and one stroke
    assert stroke.sum() <= 1.7 * scale * (labels == 2).sum()  # its length, not its thickness, scales


def test_the_label_of_most_pixels_wins_where_several_meet():
    labels = np.full((12, 12), 255, np.uint8)
    labels[10] = np.repeat([0, 1, 4, 7], 3)  # so that no class depends on the pixels below
    labels[0, 0], labels[0, 1], labels[2, 2] = 7, 4, 4  # off the centre of a cell of 3x3
    labels[3, 3], labels[5, 5] = 0, 1
    _, warped, _ = run(photo(12, 12), {"labels": labels}, still(scale=(1 / 3, 1 / 3), crop=4))
    assert warped["labels"].tolist() == [[4, 255, 255, 255], [255, 1, 255, 255], [255] * 4, [0, 1, 4, 7]]


def test_a_class_covered_by_another_comes_back():
    labels = np.zeros((60, 60), np.uint8)
    labels[30, 31] = 3  # a point within a dense region, which nearest-neighbour steps may skip
    for seed in range(20):
        _, warped, _ = run(photo(60, 60), {"labels": labels}, still(scale=(0.3, 0.9), crop=60), seed)
        assert (warped["labels"] == 3).sum() == 1


def test_dense_masks_keep_their_proportions():
    labels = np.zeros((100, 100), np.uint8)
    cv2.circle(labels, (50, 50), 30, 1, -1)
    labels[90:] = 255
    for seed in range(5):
        _, warped, valid = run(
            photo(100, 100), {"labels": labels}, still(scale=(0.5, 0.9), rotate_deg=15, crop=120), seed
        )
        share = (warped["labels"] == 1).sum() / valid.sum()
        assert share == pytest.approx((labels == 1).mean(), rel=0.05)


def test_equal_generators_give_equal_samples():
    image, labels = dotted()
    maps = {"labels": labels, "edges": np.random.default_rng(0).random((70, 90), np.float32)}
    for seed in range(10):
        one, two = run(image, maps, EVERYTHING, seed), run(image, maps, EVERYTHING, seed)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[2], two[2])
        for name in maps:
            np.testing.assert_array_equal(one[1][name], two[1][name])
    others = [run(image, maps, EVERYTHING, seed)[0] for seed in range(4)]
    assert not any(np.array_equal(others[0], other) for other in others[1:])


def test_colours_do_not_disturb_the_geometry():
    image, labels = dotted()
    for seed in range(10):
        one, two = run(image, {"labels": labels}, EVERYTHING, seed), run(image, {"labels": labels}, GEOMETRY, seed)
        np.testing.assert_array_equal(one[1]["labels"], two[1]["labels"])
        np.testing.assert_array_equal(one[2], two[2])


def test_the_input_is_left_alone_and_may_be_read_only():
    image, labels = dotted()
    image.flags.writeable = labels.flags.writeable = False
    for seed in range(5):
        result, warped, _ = run(image, {"labels": labels}, EVERYTHING, seed)
        assert result.flags.writeable
        assert result.flags.c_contiguous
        assert all(values.flags.c_contiguous for values in warped.values())
    result, _, _ = run(image, {"labels": labels}, still())
    result[:] = 0
    assert image.any()


def test_views_with_reversed_channels_work():
    bgr = photo()
    np.testing.assert_array_equal(run(bgr[:, :, ::-1], {}, still(flip=1.0))[0], bgr[:, ::-1, ::-1])


def luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114])


def mild() -> np.ndarray:
    """Colours far enough from black and white that no jitter clips them."""
    return (90 + photo().astype(int) * 70 // 255).astype(np.uint8)


def test_brightness_multiplies():
    image = mild()
    result = run(image, {}, still(brightness=0.5), 3)[0]
    factor = result.mean() / image.mean()
    assert abs(factor - 1) > 0.02
    assert 0.5 <= factor <= 1.5
    assert np.abs(result - factor * image).max() <= 1


def test_contrast_keeps_the_mean_grey():
    image = mild()
    result = run(image, {}, still(contrast=0.5), 4)[0]
    assert luma(result).mean() == pytest.approx(luma(image).mean(), abs=0.6)
    factor = result.std() / image.std()
    assert abs(factor - 1) > 0.02
    mean = luma(image).mean()
    assert np.abs(result - (mean + factor * (image - mean))).max() <= 2


@pytest.mark.parametrize("options", [{"saturation": 0.8}, {"hue_deg": 60}])
def test_saturation_and_hue_keep_luma_and_greys(options):
    image = mild()
    result = run(image, {}, still(**options), 3)[0]
    assert np.abs(result.astype(int) - image).max() > 5
    assert np.abs(luma(result) - luma(image)).max() <= 1
    grey = np.repeat(image[:, :, :1], 3, 2)
    assert np.abs(run(grey, {}, still(**options), 3)[0].astype(int) - grey).max() <= 1


def test_hue_turns_back():
    forth = run(mild(), {}, still(hue_deg=60), 3)[0]
    assert np.abs(forth.astype(int) - mild()).max() > 5
    # the chroma of every pixel keeps its length
    chroma = [
        np.linalg.norm((x @ np.array([[0.5959, 0.2115], [-0.2746, -0.5227], [-0.3213, 0.3112]])), axis=2)
        for x in (mild(), forth)
    ]
    assert np.abs(chroma[0] - chroma[1]).max() <= 2


def test_blur_smooths_the_image_only():
    image, labels = photo(), dotted()[1]
    result, warped, _ = run(image, {"labels": labels}, still(blur=1.0, blur_sigma_px=(2.0, 2.0)))
    expected = cv2.GaussianBlur(image, (0, 0), 2.0, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(warped["labels"], labels)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_tiny_images_work(size):
    image, labels = np.full((*size, 3), 9, np.uint8), np.full(size, 1, np.uint8)
    for seed in range(10):
        result, warped, valid = run(image, {"labels": labels}, EVERYTHING, seed)
        assert result.shape == (60, 80, 3)
        assert (warped["labels"] == 1).any()
        assert valid.any()
        assert valid.shape == warped["labels"].shape == (60, 80)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 3), np.uint8), r"'x'.*\(70, 90\).*\(3, 3\)"),
        (np.zeros((70, 90), np.int64), "'x'.*int64"),
        (np.zeros((70, 90), np.float64), "'x'.*float64"),
    ],
)
def test_maps_that_do_not_fit_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        run(photo(), {"x": values}, still())


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 0},
        {"crop": (0, 5)},
        {"scale": (2.0, 1.0)},
        {"scale": (0.0, 1.0)},
        {"flip": 1.1},
        {"sides": [(1, 2), (2, 3)]},
        {"sides": [(1, 255)]},
        {"blur_sigma_px": (0.0, 1.0)},
        {"fill_rgb": (0, 0, 256)},
        {"rotate": 10},
    ],
)
def test_impossible_parameters_are_refused(options):
    with pytest.raises(ValidationError):
        AugmentParams(**options)


def test_resizing_brings_the_whole_image_to_one_size():
    image, labels = photo(), np.zeros((70, 90), np.uint8)
    labels[:, 45:] = 1
    result, warped, valid = run(image, {"labels": labels}, still(resize=(35, 45)))
    np.testing.assert_array_equal(result, cv2.resize(image, (45, 35), interpolation=cv2.INTER_AREA))
    assert valid.all()
    assert (warped["labels"][:, :22] == 0).all()
    assert (warped["labels"][:, 23:] == 1).all()
    square, _, valid = run(image, {}, still(resize=40))
    assert square.shape == (40, 40, 3)
    assert valid.all()


def test_resizing_may_stretch():
    """Half as high and twice as wide: rows are averaged, columns interpolated."""
    image = photo()
    result, _, valid = run(image, {}, still(resize=(35, 180)))
    halved = cv2.resize(image, (90, 35), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(halved, (180, 35), interpolation=cv2.INTER_LINEAR)
    assert valid.all()
    assert np.abs(result.astype(int) - expected).max() <= 2


def test_crops_are_taken_of_the_resized_image():
    image = photo()
    result, _, valid = run(image, {}, still(resize=(140, 180), crop=(150, 180)))
    assert valid.sum() == 140 * 180
    whole, _, _ = run(image, {}, still(resize=(140, 180)))
    np.testing.assert_array_equal(result[valid].reshape(140, 180, 3), whole)
    scaled, _, valid = run(image, {}, still(resize=(140, 180), scale=(0.5, 0.5)))
    assert scaled.shape == (140, 180, 3)
    assert valid.sum() == 70 * 90


def _whole(height, width, params, size, seed=0):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    maps = {
        "labels": rng.integers(0, 5, (height, width)).astype(np.uint8),
        "edges": rng.random((height, width), np.float32),
        "ids": rng.integers(0, 9, (height, width)).astype(np.int32),
    }
    return image, maps, augment(image, maps, params, np.random.default_rng(seed), size)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("height", "width"), [(15, 19), (8, 1), (1, 19), (7, 12)])
def test_whole_images_are_padded_at_the_right_and_at_the_bottom(height, width, seed):
    params = still(whole=True, fill_rgb=(1, 2, 3))
    image, maps, (result, warped, valid) = _whole(height, width, params, (15, 19), seed)
    np.testing.assert_array_equal(result[:height, :width], image)
    inside = np.zeros((15, 19), bool)
    inside[:height, :width] = True
    np.testing.assert_array_equal(valid, inside)
    assert (result[~inside] == (1, 2, 3)).all()
    for name, outside in (("labels", 255), ("edges", 0), ("ids", -1)):
        np.testing.assert_array_equal(warped[name][:height, :width], maps[name])
        assert (warped[name][~inside] == outside).all()


def test_mirrored_whole_images_keep_their_place():
    image, maps, (result, warped, valid) = _whole(7, 12, still(whole=True, flip=1.0), (9, 20))
    np.testing.assert_array_equal(result[:7, :12], image[:, ::-1])
    np.testing.assert_array_equal(warped["labels"][:7, :12], maps["labels"][:, ::-1])
    assert valid.sum() == 7 * 12
    assert valid[:7, :12].all()


def test_whole_images_without_a_common_size_have_their_own():
    image, _, (result, _, valid) = _whole(7, 12, still(whole=True), None)
    np.testing.assert_array_equal(result, image)
    assert valid.all()
    _, _, (result, _, valid) = _whole(7, 12, still(whole=True, scale=(2.0, 2.0)), None)
    assert result.shape == (14, 24, 3)
    assert valid.all()


@pytest.mark.parametrize("seed", range(8))
def test_scaled_images_stay_whole(seed):
    """Every point of the image is in the result, however large it is drawn."""
    params = still(whole=True, scale=(0.5, 1.9), flip=0.5)
    sizes = [(11, 30), (25, 9)]
    size = common_size(sizes, params)
    for height, width in sizes:
        image = np.full((height, width, 3), 200, np.uint8)
        labels = np.full((height, width), 255, np.uint8)
        labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1] = 1, 2, 3, 4
        _, warped, valid = augment(image, {"labels": labels}, params, np.random.default_rng(seed), size)
        assert valid.shape == size
        rows, columns = (np.flatnonzero(valid.any(axis)) for axis in (1, 0))
        assert valid.sum() == len(rows) * len(columns)
        assert len(rows) / height == pytest.approx(len(columns) / width, abs=0.1)
        assert set(np.unique(warped["labels"])) == {1, 2, 3, 4, 255}


def test_the_common_size_holds_the_largest_height_and_width():
    assert common_size([(7, 9), (11, 5), (8, 8)], still(whole=True)) == (11, 9)
    assert common_size([(7, 9), (11, 5)], still(whole=True, scale=(0.5, 2.0))) == (22, 18)
    assert common_size([(7, 9), (11, 5)], still(whole=True, resize=(6, 4), scale=(0.5, 1.5))) == (9, 6)


def test_whole_images_are_not_cut():
    with pytest.raises(DataError, match=r"a whole image of \(7, 12\) pixels does not fit into \(7, 11\)"):
        _whole(7, 12, still(whole=True), (7, 11))
    with pytest.raises(ValidationError, match=r"whole images are not cropped, and crop is 321; set crop to null"):
        AugmentParams(whole=True)


def test_keys_of_augmentations_before_whole_images_stay():
    assert "whole" not in canonical(AugmentParams())
    assert canonical(still(whole=True))["whole"] is True
