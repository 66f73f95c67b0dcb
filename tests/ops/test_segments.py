import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference import similar_pixels as reference
from wss.errors import UsageError
from wss.ops import segment_labels, segment_prototypes, split_segments


def maps(*highs, size=(3, 6, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, high, size, generator=generator) for high in highs]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("partitions", [0, 1, 2])
def test_agree_with_the_definition(padded, partitions):
    clusters, regions, labels = maps(4, 3, 2)
    clusters[0, 0], regions[1] = -1, regions[1] * 10**12 - 5
    labels[labels == 1] = 255
    valid = torch.ones_like(clusters, dtype=torch.bool)
    valid[2, :, 3:] = not padded
    parts = [regions, labels][:partitions]
    found = split_segments(clusters, *parts, valid=valid if padded else None)
    want = reference.segments([m.numpy() for m in (clusters, *parts)], (valid & (clusters >= 0)).numpy())
    assert np.array_equal(found.ids.numpy(), want)
    assert found.count == want.max() + 1
    for s in range(found.count):
        assert set(np.argwhere(want == s)[:, 0]) == {int(found.image[s])}


def test_by_hand():
    clusters = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, -1]]])
    regions = torch.tensor([[[0, 0, 0, 9]], [[0, 0, 0, 0]]])
    labels = torch.tensor([[[255, 2, 2, 2]], [[1, 255, 1, 1]]])
    found = split_segments(clusters, regions, labels)
    assert found.ids.tolist() == [[[1, 0, 2, 3]], [[4, 5, 4, -1]]]
    assert found.image.tolist() == [0, 0, 0, 0, 1, 1]
    assert segment_labels(labels, found, 3).tolist() == [2, 255, 2, 2, 1, 255]
    embeddings = torch.tensor([[[[3.0, 1, 0, 0]], [[0.0, 0, 2, 1]]], [[[1.0, 0, 0, 7]], [[0.0, -1, 1, 7]]]])
    root = 0.5**0.5
    want = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [root, root], [0, -1]])
    assert torch.allclose(segment_prototypes(embeddings, found), want)


@pytest.mark.parametrize("clusters", [torch.full((2, 3, 4), -1), torch.empty(0, 3, 4, dtype=torch.int64)])
def test_no_pixel_makes_no_segment(clusters):
    found = split_segments(clusters, torch.zeros_like(clusters))
    assert found.count == 0 and found.ids.shape == clusters.shape
    assert segment_prototypes(torch.ones(len(clusters), 5, 3, 4), found).shape == (0, 5)
    assert segment_labels(clusters.clamp(min=0), found, 3).shape == (0,)


def test_prototypes_are_mean_directions():
    clusters, regions = maps(3, 2)
    found = split_segments(clusters, regions)
    embeddings = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prototypes = segment_prototypes(embeddings.transpose(2, 3).contiguous().transpose(2, 3), found)
    rows = embeddings.permute(0, 2, 3, 1)
    for s in range(found.count):
        mean = rows[found.ids == s].mean(0)
        assert torch.allclose(prototypes[s], mean / mean.norm())


def test_prototypes_are_differentiable():
    clusters, regions = maps(2, 2, size=(2, 3, 4))
    clusters[0, 0, 0] = -1
    found = split_segments(clusters, regions)
    embeddings = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert gradcheck(lambda e: segment_prototypes(e, found), embeddings.requires_grad_())
    (gradient,) = torch.autograd.grad(segment_prototypes(embeddings, found)[:, 0].sum(), embeddings)
    assert (gradient[0, :, 0, 0] == 0).all()


def test_the_majority_of_the_labelled_pixels_names_a_segment():
    clusters, labels = maps(6, 4)
    labels[torch.rand(labels.shape, generator=torch.Generator().manual_seed(3)) < 0.6] = 255
    labels[clusters == 2] = 255
    clusters[:, 0] = -1
    found = split_segments(clusters)
    assert segment_labels(labels, found, 4).tolist() == reference.majority(labels.numpy(), found.ids.numpy(), 255)
    assert 255 in segment_labels(labels, found, 4)


def test_refuse_maps_that_do_not_fit():
    clusters, regions = maps(3, 2)
    found = split_segments(clusters)
    for bad in (regions[:2], regions.float(), regions[..., :3]):
        with pytest.raises(UsageError, match="partitions must be int64"):
            split_segments(clusters, bad)
    with pytest.raises(UsageError, match="clusters must be int64"):
        split_segments(clusters.int())
    with pytest.raises(UsageError, match="of a batch"):
        segment_prototypes(torch.zeros(3, 2, 6, 8), found)
    with pytest.raises(UsageError, match="of a batch"):
        segment_labels(regions[:1], found, 2)
