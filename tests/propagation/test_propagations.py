"""What holds for every algorithm, on scenes of two flat regions and on the smallest images."""

import itertools

import numpy as np
import pytest

from tests.reference import scribblesup
from wss.datasets.sample import SampleSource
from wss.errors import DataError, UsageError
from wss.metrics import confusion_matrix, miou
from wss.propagation import PROPAGATIONS, DenseCRF, FeatureHead, GrabCut, GraphCut, RandomWalk, Superpixel
from wss.scribbles import rasterise
from wss.superpixels import Felzenszwalb

ALL = [*(method() for method in PROPAGATIONS), Superpixel(fill="none"), RandomWalk(model="skimage")]
IDS = [f"{m.name}-{getattr(m, 'fill', getattr(m, 'model', ''))}".rstrip("-") for m in ALL]


def _scene(size=(40, 60), noise=12):
    """A red disc on green ground with a scribble in each; the classes are 3 and 1 of 5."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.where((y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (size[0] / 3) ** 2, 3, 1).astype(np.uint8)
    image = np.where((mask == 3)[..., None], [200, 40, 40], [40, 180, 60]) + rng.integers(0, noise, (*size, 3))
    scribble = np.full(size, 255, np.uint8)
    scribble[size[0] // 2, size[1] // 2 - 4 : size[1] // 2 + 4] = 3
    scribble[2, 5:-5] = 1
    return image.astype(np.uint8), mask, scribble


def _propagate(method, image, scribble, num_classes=5, **extras):
    if "superpixels" in method.needs and "superpixels" not in extras:
        extras["superpixels"] = Felzenszwalb(min_size=5).segment(image)
    if "features" in method.needs:
        extras = {"features": np.moveaxis(image, 2, 0) / np.float32(255)}
    return method.propagate(image, scribble, num_classes, **extras)


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_finds_two_regions_of_different_colour(method):
    image, mask, scribble = _scene()
    proposal = _propagate(method, image, scribble)
    assert proposal.labels.dtype == np.uint8
    said = proposal.labels != 255
    assert (proposal.labels == mask)[said].mean() > 0.98
    assert said.all() or method == Superpixel(fill="none")
    assert said.sum() > (scribble != 255).sum()


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_scribbles_stay_and_only_their_classes_occur(method):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    scribble = np.full((24, 31), 255, np.uint8)
    scribble[rng.random((24, 31)) < 0.05] = 4
    scribble[rng.random((24, 31)) < 0.05] = 0
    scribble[3, 3] = 2
    labels = _propagate(method, image, scribble).labels
    labelled = scribble != 255
    assert (labels == scribble)[labelled].all()
    assert set(np.unique(labels)) <= {0, 2, 4, 255}


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_an_image_without_scribbles_stays_without_labels(method):
    image, _, scribble = _scene()
    proposal = _propagate(method, image, np.full_like(scribble, 255))
    assert (proposal.labels == 255).all()


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_one_class_is_the_only_one(method):
    image, _, scribble = _scene()
    scribble[scribble == 1] = 255
    labels = _propagate(method, image, scribble).labels
    assert set(np.unique(labels)) <= {3, 255}
    assert (labels == 3).all() or method == Superpixel(fill="none")


@pytest.mark.parametrize("method", ALL, ids=IDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 7), (7, 1), (2, 2)])
def test_tiny_images(method, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for scribble in (np.zeros(size, np.uint8), np.arange(np.prod(size), dtype=np.uint8).reshape(size)):
        assert (_propagate(method, image, scribble, num_classes=9).labels == scribble).all()
    scribble = np.full(size, 255, np.uint8)
    scribble[0, 0] = 1
    scribble[-1, -1] = 2
    assert set(np.unique(_propagate(method, image, scribble).labels)) <= {1, 2, 255}


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_one_pixel_per_class_in_a_flat_image(method):
    image = np.full((20, 30, 3), 90, np.uint8)
    scribble = np.full((20, 30), 255, np.uint8)
    scribble[10, 2], scribble[10, 27] = 0, 4
    labels = _propagate(method, image, scribble, superpixels=np.arange(600).reshape(20, 30)).labels
    assert labels[10, 2] == 0
    assert labels[10, 27] == 4


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_equal_arguments_give_equal_results_whatever_their_memory_layout(method):
    rng = np.random.default_rng(2)
    image, _, scribble = _scene()
    image = np.minimum(image.astype(int) + rng.integers(0, 60, image.shape), 255).astype(np.uint8)
    superpixels = Felzenszwalb(min_size=5).segment(image)
    first = _propagate(method, image, scribble, superpixels=superpixels)
    rng.random(100)  # and whatever was drawn in between
    image = np.ascontiguousarray(image.transpose(1, 0, 2)).transpose(1, 0, 2)
    second = _propagate(method, image, np.asfortranarray(scribble), superpixels=np.asfortranarray(superpixels))
    assert (first.labels == second.labels).all()
    assert (first.doubt is None) == (second.doubt is None)
    assert first.doubt is None or (first.doubt == second.doubt).all()


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_relabelling_classes_relabels_the_result(method):
    image, _, scribble = _scene()
    renamed = np.select([scribble == 1, scribble == 3], [0, 4], 255).astype(np.uint8)
    before, after = (_propagate(method, image, s).labels for s in (scribble, renamed))
    assert (np.select([before == 1, before == 3], [0, 4], 255) == after).all()


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_what_does_not_fit_is_refused(method):
    image, _, scribble = _scene()
    superpixels = np.zeros(scribble.shape, np.int32)
    given = {"features": np.zeros((2, *scribble.shape), np.float32)} if "features" in method.needs else {}
    with pytest.raises(DataError, match="0 to 2"):
        method.propagate(image, scribble, 3, superpixels=superpixels, **given)
    with pytest.raises(DataError, match="of that size"):
        method.propagate(image, scribble[1:], 5, superpixels=superpixels, **given)
    with pytest.raises(DataError, match="uint8"):
        method.propagate(image, scribble.astype(np.int64), 5, superpixels=superpixels, **given)
    with pytest.raises(DataError, match=r"\(H, W, 3\)"):
        method.propagate(image[..., 0], scribble, 5, superpixels=superpixels, **given)
    with pytest.raises(DataError, match="expected superpixels as integers"):
        method.propagate(image, scribble, 5, superpixels=superpixels[1:], **given)
    with pytest.raises(DataError, match="ids from 0"):
        method.propagate(image, scribble, 5, superpixels=superpixels - 1, **given)
    probs = np.full((5, *scribble.shape), 0.2)
    for wrong, message in ((probs[1:], "expected probs"), (probs * np.nan, "0..1"), (probs * 20, "0..1")):
        with pytest.raises(DataError, match=message):
            method.propagate(image, scribble, 5, superpixels=superpixels, probs=wrong, **given)
    if "superpixels" in method.needs:
        with pytest.raises(UsageError, match="needs superpixels"):
            method.propagate(image, scribble, 5)


# --- single algorithms -----------------------------------------------------------------------------------------------


def test_superpixels_take_the_majority_and_the_others_the_nearest():
    superpixels = np.repeat([[0, 1, 2, 3]], 3, 0).repeat(2, 1)  # four columns of 3x2 pixels
    image = np.zeros((3, 8, 3), np.uint8)
    image[:, 2:4], image[:, 4:6] = 250, 40
    scribble = np.full((3, 8), 255, np.uint8)
    scribble[0, 0:2], scribble[2, 0], scribble[1, 6] = 1, 2, 0
    scribble[0, 3] = 2
    none = Superpixel(fill="none").propagate(image, scribble, 3, superpixels=superpixels).labels
    assert none[1].tolist() == [1, 1, 2, 2, 255, 255, 0, 0]
    assert none[2, 0] == 2
    nearest = Superpixel().propagate(image, scribble, 3, superpixels=superpixels).labels
    assert nearest[1].tolist() == [1, 1, 2, 2, 0, 0, 0, 0]
    image[:, 4:6] = 250  # now like the superpixel of class 2
    assert Superpixel().propagate(image, scribble, 3, superpixels=superpixels).labels[1, 4] == 2
    close = Superpixel(colour_weight=0).propagate(image, scribble, 3, superpixels=superpixels).labels
    assert close[1, 4] in (0, 2)


def test_the_graph_cut_runs_between_unlike_superpixels():
    superpixels = np.repeat([[0, 1, 2, 3, 4]], 4, 0).repeat(4, 1)
    image = np.zeros((4, 20, 3), np.uint8)
    image[:, 12:] = (10, 200, 90)  # superpixels 3 and 4
    scribble = np.full((4, 20), 255, np.uint8)
    scribble[0, 0], scribble[0, 19] = 0, 1
    labels = GraphCut().propagate(image, scribble, 2, superpixels=superpixels).labels
    assert labels[1, ::4].tolist() == [0, 0, 0, 1, 1]


def test_the_network_moves_the_graph_cut_unless_smoothness_outweighs_it():
    superpixels = np.repeat([[0, 1, 2]], 3, 0).repeat(3, 1)
    image = np.full((3, 9, 3), 100, np.uint8)
    scribble = np.full((3, 9), 255, np.uint8)
    scribble[0, 0], scribble[0, 8] = 0, 1
    probs = np.empty((4, 3, 9), np.float16)
    probs[0], probs[1], probs[2], probs[3] = 0.1, 0.2, 0.7, 0  # class 2 is not scribbled
    for favourite, other in ((0, 1), (1, 0)):
        probs[favourite, :, 3:6], probs[other, :, 3:6] = 0.6, 0.1
        labels = GraphCut().propagate(image, scribble, 4, superpixels=superpixels, probs=probs).labels
        assert labels[1].tolist() == [0, 0, 0, favourite, favourite, favourite, 1, 1, 1]
    scribble[0, 8] = 255
    scribble[0, 4] = 1
    probs[0], probs[1] = 0.6, 0.4  # superpixel 2 prefers 0, and its neighbour is 1
    free = GraphCut(smoothness=0.1).propagate(image, scribble, 4, superpixels=superpixels, probs=probs).labels
    stiff = GraphCut(smoothness=10).propagate(image, scribble, 4, superpixels=superpixels, probs=probs).labels
    assert (free[1, 8], stiff[1, 8]) == (0, 1)


PUBLISHED = GraphCut(energy="published")


@pytest.mark.parametrize("method", [GraphCut(), PUBLISHED, GraphCut(sigma_texture=0.4, border=False, smoothness=2.5)])
def test_costs_of_neighbours_are_those_of_the_equation(method):
    """Colour, texture, borders and smoothness, written out in loops."""
    image, superpixels = _mosaic()
    edges, costs = method.pairwise(image, superpixels)
    cumulative = method.histograms == "cumulative"
    expected = scribblesup.pairwise(image, superpixels, method.sigma_colour, method.sigma_texture, cumulative)
    assert sorted(expected) == [tuple(edge) for edge in edges.tolist()]
    borders = scribblesup.borders(superpixels)
    mean = sum(borders.values()) / len(borders)
    for pair, cost in zip(map(tuple, edges.tolist()), costs, strict=True):
        length = borders[pair] / mean if method.border else 1
        assert cost == pytest.approx(method.smoothness * expected[pair] * length, rel=1e-10)


@pytest.mark.parametrize("method", [GraphCut(smoothness=0.5), PUBLISHED, GraphCut(unary="sum", smoothness=20)])
@pytest.mark.parametrize("seed", range(6))
def test_the_labelling_has_the_least_energy_of_all(method, seed):
    """Of all labellings of nine superpixels with two classes; expansion moves are exact for two."""
    image, superpixels = _mosaic(seed)
    rng = np.random.default_rng(seed)
    scribble = np.full(superpixels.shape, 255, np.uint8)
    scribble[superpixels == 0], scribble[superpixels == 8] = 1, 2
    share = rng.uniform(0.45, 0.55, superpixels.shape)
    probs = np.stack([np.zeros_like(share), share, 1 - share])
    edges, costs = method.pairwise(image, superpixels)
    found = method.propagate(image, scribble, 3, superpixels=superpixels, probs=probs).labels
    labels = np.array([found[superpixels == i][0] for i in range(9)])
    energies = {
        x: scribblesup.energy(
            x,
            superpixels,
            scribble,
            probs,
            dict(zip(map(tuple, edges.tolist()), costs, strict=True)),
            total=method.unary == "sum",
        )
        for x in itertools.product((1, 2), repeat=9)
    }
    assert energies[tuple(labels.tolist())] == pytest.approx(min(energies.values()), rel=1e-9)
    assert len({round(v, 9) for v in energies.values() if v < np.inf}) > 100


def test_the_published_energy_is_a_name_for_its_parameters():
    named = {
        "histograms": "joint",
        "smoothness": 1,
        "sigma_colour": 5,
        "sigma_texture": 10,
        "border": False,
        "unary": "sum",
    }
    assert GraphCut(energy="published", **named) == PUBLISHED
    assert PUBLISHED.model_dump() == GraphCut(**named).model_dump() | {"energy": "published"}
    assert GraphCut(energy="published", sigma_colour=3).sigma_colour == 3
    image, superpixels = _mosaic()
    assert (PUBLISHED.pairwise(image, superpixels)[1] > 0.96).all()


@pytest.mark.parametrize("method", [GraphCut(), GraphCut(energy="published", sigma_texture=0.1)])
def test_texture_alone_decides_where_colours_are_alike(method):
    """Vertical stripes beside horizontal ones of the same two greys: equal histograms of colour."""
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :44][:, np.arange(44) % 4 < 2] = 90
    image[:, 44:][np.arange(32) % 4 < 2] = 90
    superpixels = np.repeat([np.arange(64) // 4 // 4], 32, 0)
    superpixels[:, 32:44], superpixels[:, 44:48], superpixels[:, 48:] = 2, 3, 4
    scribble = np.full((32, 64), 255, np.uint8)
    scribble[3, 3], scribble[3, 60] = 0, 1
    _, costs = method.pairwise(image, superpixels)
    assert costs[2] < 0.8 * costs[[0, 1]].min()
    labels = method.propagate(image, scribble, 2, superpixels=superpixels).labels
    assert labels[1, [2, 18, 34, 45, 50]].tolist() == [0, 0, 0, 1, 1]


def test_without_smoothness_the_first_class_fills_the_image():
    image, _, scribble = _scene()
    superpixels = np.arange(40 * 60).reshape(40, 60)
    labels = GraphCut(smoothness=0).propagate(image, scribble, 5, superpixels=superpixels).labels
    assert (labels[scribble == 255] == 1).all()
    assert (labels == 3).sum() == (scribble == 3).sum()


def test_the_default_is_better_than_no_smoothness_and_than_the_published_energy():
    source = SampleSource()
    found = {}
    for method in (GraphCut(), GraphCut(smoothness=0), PUBLISHED):
        total = 0
        for image_id in source.catalogue.splits["train"][:40]:
            sample = source.read(image_id)
            scribble = rasterise(sample.strokes, sample.mask.shape)
            labels = _propagate(
                method, sample.image, scribble, 7, superpixels=Felzenszwalb().segment(sample.image)
            ).labels
            total = total + confusion_matrix(sample.mask, labels, 7)
        found[method] = miou(total)
    ours, none, published = found.values()
    assert ours > none > published


def _mosaic(seed=0):
    """Nine noisy superpixels of different sizes, colours and textures."""
    rng = np.random.default_rng(seed)
    superpixels = np.repeat(np.repeat(np.arange(9).reshape(3, 3), (3, 5, 4), 0), (6, 4, 5), 1)
    image = rng.integers(0, 256, (9, 3))[superpixels] * 0.3 + 80 + rng.integers(0, 60, (*superpixels.shape, 3))
    return image.astype(np.uint8), superpixels


def test_features_are_histograms_of_colour_and_of_differences():
    from wss.propagation.graph_cut import superpixel_features

    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = (255, 100, 0)
    superpixels = np.repeat([[0, 0, 0, 1, 1, 1]], 4, 0)
    colour, texture = superpixel_features(image, superpixels, 2)
    assert colour.shape == (2, 75)
    assert texture.shape == (2, 20)
    assert colour.sum(1) == pytest.approx([3, 3])
    assert texture.sum(1) == pytest.approx([2, 2])
    assert colour[1, 24] == 1  # 255 in the last of 25 bins
    assert colour[1, 25 + 9] == 1  # 100 * 25 / 256 = 9.8
    assert texture[0, 9] == pytest.approx(1 / 3)  # the column beside the step, steeper than the last bin's edge
    assert texture[0, 10 + 5] == 1  # no vertical change: the first bin above zero


def test_the_doubt_of_the_crf_is_a_probability():
    image, _, scribble = _scene()
    proposal = DenseCRF(iterations=0).propagate(image, scribble, 5)
    assert (proposal.doubt[scribble != 255] == 0).all()
    assert (proposal.doubt[scribble == 255] == 0.5).all()  # two equally likely classes
    probs = np.zeros((5, *scribble.shape), np.float32)
    probs[1], probs[3], probs[0] = 0.1, 0.3, 0.6
    proposal = DenseCRF(iterations=0).propagate(image, scribble, 5, probs=probs)
    assert (proposal.labels[scribble == 255] == 3).all()
    np.testing.assert_allclose(proposal.doubt[scribble == 255], 0.1 / 0.4, rtol=1e-6)


def test_the_doubt_of_grabcut_counts_disagreeing_cuts():
    image, mask, scribble = _scene()
    proposal = GrabCut().propagate(image, scribble, 5)
    assert (proposal.doubt[proposal.labels == mask] <= 0.5).mean() > 0.95
    assert set(np.unique(proposal.doubt)) <= {0, 0.5, 1}
    assert np.median(proposal.doubt) == 0


def test_walks_stop_at_edges_and_their_probability_leaves_the_doubt():
    image = np.full((5, 21, 3), 100, np.uint8)
    scribble = np.full((5, 21), 255, np.uint8)
    scribble[:, 0], scribble[:, 20] = 2, 4
    flat = RandomWalk().propagate(image, scribble, 5)
    assert flat.labels[2, 9] == 2
    assert flat.labels[2, 11] == 4
    assert flat.doubt[2, 1] < flat.doubt[2, 9] < 0.5
    assert flat.doubt[2, 10] == pytest.approx(0.5, abs=1e-12)
    edges = np.zeros((5, 21), np.float32)
    edges[:, 14] = 1
    walled = RandomWalk(strength=20).propagate(image, scribble, 5, edges=edges)
    assert (walled.labels[:, :14] == 2).all()
    assert (walled.labels[:, 15:] == 4).all()
    assert (walled.doubt[:, 13] < 1e-6).all()
    image[:, 15:] = 200  # where the image itself has the edge
    seen = RandomWalk().propagate(image, scribble, 5)
    assert (seen.labels == walled.labels)[:, :14].all()
    assert (seen.labels == walled.labels)[:, 16:].all()


def test_the_walk_of_scikit_image_is_that_of_scikit_image():
    from skimage.segmentation import random_walker

    image, _, scribble = _scene((16, 20), noise=80)
    grey = np.repeat(image[..., :1], 3, 2)
    seeds = np.select([scribble == 1, scribble == 3], [1, 2], 0)
    for given, values, axis in ((image, image / 255, -1), (grey, grey[..., 0] / 255, None)):
        expected = random_walker(values, seeds, beta=30, mode="bf", channel_axis=axis)
        found = RandomWalk(model="skimage", beta=30).propagate(given, scribble, 5).labels
        assert (found == np.array([0, 1, 3])[expected]).all()


def test_a_head_on_features_finds_what_is_alike_wherever_it_is():
    """Cells of two kinds in a chequered order, with one scribbled cell of each."""
    kinds = np.indices((6, 8)).sum(0) % 2
    features = np.stack([kinds, 1 - kinds, np.zeros((6, 8))]).astype(np.float32)
    image = np.zeros((6 * 4 - 1, 8 * 4 - 2, 3), np.uint8)  # the last cells are cut off
    scribble = np.full(image.shape[:2], 255, np.uint8)
    scribble[1, 1], scribble[1, 5:7] = 2, 4
    found = FeatureHead().propagate(image, scribble, 5, features=features)
    centres = found.labels[1::4, 1::4]
    np.testing.assert_array_equal(centres, np.where(kinds == 0, 2, 4))
    assert found.scale == 4 and found.margin.shape == (6, 8)


def test_a_head_on_features_counts_classes_alike():
    """A class with one scribbled cell is not drowned by one with many."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.3, (4, 10, 20)).astype(np.float32)
    features[0, :, 10:] += 4
    scribble = np.full((10, 20), 255, np.uint8)
    scribble[:, :9], scribble[5, 15] = 0, 1
    found = FeatureHead().propagate(np.zeros((10, 20, 3), np.uint8), scribble, 2, features=features)
    assert (found.labels[:, 10:] == 1).mean() > 0.5


def test_features_that_do_not_cover_the_image_are_refused():
    image, _, scribble = _scene((40, 60))
    for shape, message in (((2, 7, 11), "do not cover"), ((40, 60), "finite numbers")):
        with pytest.raises(DataError, match=message):
            FeatureHead().propagate(image, scribble, 5, features=np.zeros(shape, np.float32))
    with pytest.raises(DataError, match="finite numbers"):
        FeatureHead().propagate(image, scribble, 5, features=np.full((2, 4, 6), np.nan, np.float32))
    with pytest.raises(UsageError, match="needs features"):
        FeatureHead().propagate(image, scribble, 5)
