import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.reference import similar_pixels as reference
from wss.errors import UsageError
from wss.ops import spherical_kmeans
from wss.ops.spherical_kmeans import cluster_sums


def unit(batch, channels, height, width, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(batch, channels, height, width, generator=generator, dtype=dtype), dim=1)


def padding(batch, height, width):
    valid = torch.ones(batch, height, width, dtype=torch.bool)
    for image in range(batch):
        valid[image, height - image * 2 :] = False
        valid[image, :, width - image :] = False
    return valid


@pytest.mark.parametrize("size", [(7, 10), (1, 9), (8, 1), (1, 1), (13, 5)])
@pytest.mark.parametrize(("grid", "iterations", "scale"), [(3, 10, 1.0), ((2, 4), 3, 0.0), (6, 1, 2.0), (3, 0, 1.0)])
def test_agrees_with_the_definition(size, grid, iterations, scale):
    embeddings = unit(3, 4, *size)
    valid = padding(3, *size)
    found = spherical_kmeans(embeddings, grid=grid, iterations=iterations, location_scale=scale, valid=valid)
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    for image in range(3):
        want = reference.spherical_kmeans(
            embeddings[image].numpy(), rows, columns, iterations, scale, valid[image].numpy()
        )
        assert np.array_equal(found[image].numpy(), want)


def test_two_colours_become_two_clusters_wherever_the_grid_began():
    # The left 3 columns have one embedding and the right 5 the other, and the grid's halves meet between the fourth and fifth.
    embeddings = torch.zeros(1, 2, 4, 8)
    embeddings[:, 0, :, :3] = embeddings[:, 1, :, 3:] = 1
    found = spherical_kmeans(embeddings, grid=(1, 2), iterations=3)
    assert found[0].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 4


def test_iterations_never_lower_the_objective():
    embeddings = unit(1, 5, 12, 12)
    values = [
        reference.objective(embeddings[0].numpy(), spherical_kmeans(embeddings, iterations=n)[0].numpy(), 1.0)
        for n in range(8)
    ]
    assert values == sorted(values)
    assert values[-1] > values[0] + 1


def test_an_image_is_clustered_as_if_it_were_alone():
    embeddings = unit(3, 4, 9, 9, dtype=torch.float32)
    together = spherical_kmeans(embeddings)
    assert all(torch.equal(together[i : i + 1], spherical_kmeans(embeddings[i : i + 1])) for i in range(3))


def test_padding_has_no_cluster_and_no_influence():
    valid = padding(2, 10, 11)
    embeddings = unit(2, 4, 10, 11)
    other = torch.where(valid[:, None], embeddings, unit(2, 4, 10, 11, seed=1))
    found = spherical_kmeans(embeddings, valid=valid)
    assert torch.equal(found, spherical_kmeans(other, valid=valid))
    assert torch.equal(found < 0, ~valid)
    assert (spherical_kmeans(embeddings, valid=torch.zeros_like(valid)) == -1).all()


def test_equal_pixels_share_a_cluster_and_empty_ones_win_nothing():
    embeddings = torch.zeros(1, 3, 6, 6)
    embeddings[:, 0] = 1
    assert (spherical_kmeans(embeddings, location_scale=0.0) == 0).all()
    # One pixel points away from both means, which are equal: the second cluster becomes empty, and as a zero vector it would
    # be closer to this pixel.
    embeddings[0, :, 0, 0] = torch.tensor([-1.0, 0, 0])
    found = spherical_kmeans(embeddings, grid=(1, 2), location_scale=0.0)
    assert (found == 0).all()


def test_a_view_of_halves_without_gradient():
    wide = unit(2, 4, 9, 18, dtype=torch.float32).requires_grad_()
    view = wide[..., ::2]
    found = spherical_kmeans(view)
    assert found.dtype == torch.int64 and not found.requires_grad and found.is_contiguous()
    assert torch.equal(found, spherical_kmeans(view.detach().contiguous()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found, spherical_kmeans(view))
    assert spherical_kmeans(view.half()).shape == (2, 9, 9)


def test_sums_of_clusters_by_adding_and_by_multiplying():
    points = unit(3, 4, 5, 6).flatten(2).transpose(1, 2)
    clusters = torch.randint(0, 5, (3, 30), generator=torch.Generator().manual_seed(1))
    want = torch.stack(
        [torch.stack([p[c == s].sum(0) for s in range(4)]) for p, c in zip(points, clusters, strict=True)]
    )
    for adding in (True, False, None):
        assert torch.allclose(cluster_sums(points, clusters, 4, adding=adding), want)


@pytest.mark.parametrize(
    ("embeddings", "options"),
    [
        (torch.zeros(2, 3, 4), {}),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), {}),
        (torch.zeros(1, 3, 0, 4), {}),
        (torch.zeros(1, 3, 4, 4), {"grid": 0}),
        (torch.zeros(1, 3, 4, 4), {"grid": (2, 0)}),
        (torch.zeros(1, 3, 4, 4), {"iterations": -1}),
        (torch.zeros(1, 3, 4, 4), {"location_scale": float("nan")}),
        (torch.zeros(1, 3, 4, 4), {"valid": torch.ones(1, 4, 5, dtype=torch.bool)}),
        (torch.zeros(1, 3, 4, 4), {"valid": torch.ones(1, 4, 4)}),
    ],
)
def test_refuses_what_it_cannot_cluster(embeddings, options):
    with pytest.raises(UsageError):
        spherical_kmeans(embeddings, **options)
