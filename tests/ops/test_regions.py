import numpy as np

from wss.ops.regions import region_graph, region_means


def test_a_map_worked_by_hand():
    edges, lengths = region_graph(np.array([[0, 0, 2], [1, 0, 2], [1, 1, 1]], np.int32))
    assert edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert lengths.tolist() == [3, 2, 1]


def test_one_region_has_no_neighbours():
    for shape in ((1, 1), (3, 4)):
        edges, lengths = region_graph(np.zeros(shape, np.int32))
        assert edges.shape == (0, 2)
        assert lengths.shape == (0,)


def test_borders_are_as_long_as_changes_between_pixels():
    superpixels = np.random.default_rng(0).integers(0, 9, (13, 17))
    edges, lengths = region_graph(superpixels)
    changes = (superpixels[1:] != superpixels[:-1]).sum() + (superpixels[:, 1:] != superpixels[:, :-1]).sum()
    assert lengths.sum() == changes
    assert (edges[:, 0] < edges[:, 1]).all()
    mirrored = region_graph(superpixels[::-1, ::-1])
    assert (mirrored[0] == edges).all()
    assert (mirrored[1] == lengths).all()


def test_means_of_regions():
    superpixels = np.array([[0, 0, 3], [1, 0, 3]])
    values = np.array([[[1, 2, 5], [7, 6, 1]], [[0, 0, 1], [1, 0, 0]]])
    assert region_means(superpixels, values).tolist() == [[3, 0], [7, 1], [0, 0], [3, 0.5]]
