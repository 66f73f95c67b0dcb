"""Scribbles of one object are found by masks, or else by contact, and are dropped or clicked together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label as connected

from wss.errors import UsageError
from wss.scribbles import Stroke, drop, image_seed, one_each, points, rasterise, scribbled_objects, simulate

SHAPE = (12, 30)


def _line(label: int, *corners: tuple[float, float], width: int = 1) -> Stroke:
    return Stroke(label, np.array(corners, np.float64), width)


def _mask() -> np.ndarray:
    """Class 1 in two regions of which one touches itself by a corner only, class 2 between, void along a border."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 2:8] = 1
    mask[0:2, 8:12] = 1  # joined to the first at the corner
    mask[2:10, 20:28] = 1
    mask[4:8, 13:18] = 2
    mask[10, :] = 255
    return mask


STROKES = [
    _line(1, (3, 3), (3, 8)),  # first region
    _line(1, (6, 3), (6, 8)),  # first region, not touching
    _line(1, (9, 0), (10, 0)),  # joined to the first region by a corner
    _line(1, (21, 5), (26, 5)),  # second region
    _line(2, (14, 5), (16, 5)),
    _line(0, (0, 0), (0, 11)),
    _line(0, (11, 11), (14, 11)),  # background on the other side of void: another region
]


def test_a_region_of_a_mask_is_an_object() -> None:
    assert scribbled_objects(STROKES, SHAPE, _mask()).tolist() == [0, 0, 0, 1, 2, 3, 4]


def test_without_a_mask_touching_scribbles_are_one_object() -> None:
    cross = [*STROKES, _line(1, (4, 9), (5, 5), (5, 8)), _line(2, (15, 6), (15, 7)), _line(2, (3, 4), (5, 4))]
    # the first new one meets both strokes of the first region (once by a corner), the last one only strokes of another class
    assert scribbled_objects(cross, SHAPE).tolist() == [0, 0, 1, 2, 3, 4, 5, 0, 3, 6]


def test_scribbles_off_their_class_follow_those_that_they_touch() -> None:
    strays = [
        _line(1, (9, 5), (11, 5)),  # on the background, away from the others
        _line(1, (10, 6), (11, 6)),  # touches it
        _line(1, (28, 5), (29, 5)),  # on the background, touches nothing
        _line(1, (27, 4), (28, 4)),  # half on the second region, touches the one before
        _line(2, (40, 40), (41, 41)),  # outside of the image
    ]
    objects = scribbled_objects([*STROKES, *strays], SHAPE, _mask()).tolist()
    assert objects[7] == objects[8] and objects[7] not in objects[:7]
    assert objects[9] == objects[10] == objects[3]
    assert objects.count(objects[11]) == 1


def test_two_regions_stay_apart_although_scribbles_touch() -> None:
    mask = np.ones(SHAPE, np.uint8)
    mask[:, 15] = 255
    touching = [_line(1, (12, 5), (14, 5)), _line(1, (15, 5), (20, 5))]
    assert scribbled_objects(touching, SHAPE, mask).tolist() == [0, 1]
    assert scribbled_objects(touching, SHAPE).tolist() == [0, 0]


def _reference(strokes: list[Stroke], mask: np.ndarray | None) -> list[set[int]]:
    """Groups of strokes by comparing every two of them, from the definition."""
    drawn = [rasterise([s], SHAPE) != 255 for s in strokes]
    home: list[tuple[int, int] | None] = []
    for stroke, pixels in zip(strokes, drawn, strict=True):
        home.append(None)
        if mask is not None:
            regions, count = connected(mask == stroke.label, np.ones((3, 3)))
            sizes = [int((regions[pixels] == region).sum()) for region in range(1, count + 1)]
            if sizes and max(sizes):
                home[-1] = (stroke.label, 1 + int(np.argmax(sizes)))

    def touch(a: int, b: int) -> bool:
        wide = np.pad(drawn[b], 1)
        near = np.any([np.roll(wide, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], 0)
        return strokes[a].label == strokes[b].label and bool((drawn[a] & near[1:-1, 1:-1]).any())

    every = range(len(strokes))
    strays = [{index} for index in every if home[index] is None]
    for a in every:
        for b in every:
            if home[a] is None and home[b] is None and touch(a, b):
                joined = next(g for g in strays if a in g) | next(g for g in strays if b in g)
                strays = [g for g in strays if not g & joined] + [joined]
    for group in list(strays):
        touched = [region for i in every if (region := home[i]) is not None and any(touch(a, i) for a in group)]
        if touched:
            strays.remove(group)
            for index in group:
                home[index] = min(touched)
    known = [{i for i in every if home[i] == region} for region in set(home) - {None}]
    return sorted([*known, *strays], key=min)


@pytest.mark.parametrize("masked", [True, False])
def test_groups_are_those_of_the_definition(masked: bool) -> None:
    rng = np.random.default_rng(5)
    sizes = set()
    for _ in range(60):
        mask = rng.integers(0, 3, (4, 6), np.uint8).repeat(3, 0).repeat(5, 1) if masked else None
        strokes = []
        for _ in range(9):
            start = rng.integers(0, (28, 10), 2)
            strokes.append(_line(int(rng.integers(0, 3)), tuple(start), tuple(start + rng.integers(-3, 4, 2))))
        objects = scribbled_objects(strokes, SHAPE, mask)
        found = [set(np.flatnonzero(objects == number).tolist()) for number in range(objects.max() + 1)]
        assert found == _reference(strokes, mask)
        sizes |= {len(group) for group in found}
        order = rng.permutation(len(strokes))
        again = scribbled_objects([strokes[i] for i in order], SHAPE, mask)
        assert ((again[:, None] == again) == (objects[order][:, None] == objects[order])).all()
    assert {1, 2, 3} <= sizes


def test_raster_scribbles_are_grouped_as_strokes_are() -> None:
    raster = rasterise(STROKES, SHAPE)
    for mask in (_mask(), None):
        ids = scribbled_objects(raster, SHAPE, mask)
        assert ((ids == -1) == (raster == 255)).all()
        per_stroke = [set(ids[rasterise([s], SHAPE) != 255].tolist()) for s in STROKES]
        assert all(len(found) == 1 for found in per_stroke)
        objects = scribbled_objects(STROKES, SHAPE, mask)
        same = np.array([[a == b for b in per_stroke] for a in per_stroke])
        assert (same == (objects[:, None] == objects)).all()


def test_an_object_loses_all_its_scribbles_or_none() -> None:
    mask = _mask()
    objects = scribbled_objects(STROKES, SHAPE, mask)
    ids = scribbled_objects(rasterise(STROKES, SHAPE), SHAPE, mask)
    outcomes = set()
    for seed in range(40):
        kept = [any(s is k for k in drop(STROKES, 0.5, seed, objects=objects)) for s in STROKES]
        assert kept[0] == kept[1] == kept[2]
        outcomes.add((kept[0], kept[3]))
        rest = drop(rasterise(STROKES, SHAPE), 0.5, seed, objects=ids)
        assert all(len(set((rest[ids == number] == 255).tolist())) == 1 for number in range(objects.max() + 1))
    assert len(outcomes) == 4


def test_one_click_per_object() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[8:56, 5:40] = 1
    mask[20:50, 50:75] = 2
    strokes = [*simulate(mask, 1), *simulate(mask, 2), *simulate(mask, 3)]
    objects = scribbled_objects(strokes, (60, 80), mask)
    assert objects.max() + 1 == 3 and len(strokes) > 6
    clicks = points(strokes, 7)
    chosen = set()
    for seed in range(12):
        kept = one_each(clicks, objects, image_seed(seed, "a"))
        places = [next(i for i, c in enumerate(clicks) if c is k) for k in kept]
        assert sorted(objects[places].tolist()) == [0, 1, 2] and places == sorted(places)
        chosen |= set(places)
    assert len(chosen) > 6  # every stroke of an object has its chance
    raster = rasterise(
        [_line(1, (8, 10), (30, 10)), _line(1, (8, 20), (30, 20)), _line(2, (55, 30), (70, 30))], (60, 80)
    )
    ids = scribbled_objects(raster, (60, 80), mask)
    for seed in range(4):
        one = one_each(points(raster, seed), ids, seed)
        assert [int((one == k).sum()) for k in (1, 2)] == [1, 1]
        assert (one[one != 255] == raster[one != 255]).all()


def test_objects_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="mask of the image's shape"):
        scribbled_objects(STROKES, SHAPE, np.zeros((3, 3), np.uint8))
    with pytest.raises(UsageError, match="scribble of the image's shape"):
        scribbled_objects(np.zeros((3, 3), np.uint8), SHAPE)
    with pytest.raises(UsageError, match="one per stroke"):
        drop(STROKES, 0.5, 0, objects=np.zeros(3, np.int64))
    assert scribbled_objects([], SHAPE).tolist() == []
