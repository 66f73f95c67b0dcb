import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.reference import similar_pixels as reference
from wss.errors import UsageError
from wss.ops import nearest, vote


def vectors(count, seed):
    return normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


@pytest.mark.parametrize("k", [1, 4, 40])
@pytest.mark.parametrize("entries", [2**24, 60, 1])
def test_majority_of_the_nearest(k, entries, monkeypatch):
    monkeypatch.setattr(sys.modules["wss.ops.nearest"], "_ENTRIES", entries)
    queries, prototypes = vectors(7, 0), vectors(25, 1)
    labels = torch.arange(25) % 3
    similarity, index = nearest(queries, prototypes, k)
    assert similarity.shape == index.shape == (7, min(k, 25))
    assert (similarity.diff(dim=1) <= 0).all()
    assert torch.allclose(similarity, (queries[:, None] * prototypes[index]).sum(2))
    shares = vote(similarity, labels[index], 3)
    assert torch.allclose(shares.sum(1), torch.ones(7, dtype=torch.float64))
    assert shares.argmax(1).tolist() == reference.nearest_labels(queries.numpy(), prototypes.numpy(), labels.numpy(), k)


def test_prototypes_that_are_not_allowed_have_no_vote():
    queries, prototypes = vectors(4, 0), vectors(9, 1)
    allowed = torch.arange(9) % 3 == 0
    similarity, index = nearest(queries, prototypes, 5, allowed=allowed)
    kept, place = nearest(queries, prototypes[allowed], 5)
    assert torch.equal(similarity[:, :3], kept) and torch.equal(index[:, :3], torch.arange(9)[allowed][place])
    assert (similarity[:, 3:] == -torch.inf).all()
    shares = vote(similarity, torch.where(allowed, 0, 1)[index], 2)
    assert torch.equal(shares, torch.tensor([[1.0, 0]], dtype=torch.float64).expand(4, 2))
    nothing = nearest(queries, prototypes, 2, allowed=torch.zeros(9, dtype=torch.bool))
    assert (vote(nothing[0], torch.zeros_like(nothing[1]), 2) == 0).all()


@pytest.mark.parametrize("entries", [2**24, 10])
def test_each_query_has_prototypes_of_its_own(entries, monkeypatch):
    monkeypatch.setattr(sys.modules["wss.ops.nearest"], "_ENTRIES", entries)
    queries, prototypes = vectors(4, 0), vectors(9, 1)
    allowed = torch.arange(9) % 4 == torch.arange(4)[:, None]
    similarity, index = nearest(queries, prototypes, 3, allowed=allowed)
    for query in range(4):
        kept, place = nearest(queries[query, None], prototypes, 3, allowed=allowed[query])
        finite = kept[0].isfinite()
        assert torch.allclose(similarity[query], kept[0]) and index[query][finite].equal(place[0][finite])
    with pytest.raises(UsageError, match=r"allowed must be \(S,\) or \(Q,S\); got 3 and \(9, 4\)"):
        nearest(queries, prototypes, 3, allowed=allowed.T)


def test_more_votes_beat_higher_similarity_which_breaks_ties():
    labels = torch.tensor([[0, 1, 1], [2, 0, 1]])
    similarity = torch.tensor([[1.0, -1, -1], [0.9, 0.5, 0.1]])
    assert vote(similarity, labels, 3).argmax(1).tolist() == [1, 2]


def test_half_precision_prototypes():
    queries, prototypes = vectors(5, 0).float(), vectors(30, 1)
    found = nearest(queries, prototypes.half(), 3)
    assert found[0].dtype == torch.float32
    assert np.abs(found[0].numpy() - nearest(queries.double(), prototypes, 3)[0].numpy()).max() < 2e-3


def test_refuses_what_has_no_neighbours():
    for queries, prototypes, k in [((2, 3), (0, 3), 1), ((2, 3), (4, 2), 1), ((2, 3), (4, 3), 0), ((3,), (4, 3), 1)]:
        with pytest.raises(UsageError):
            nearest(torch.zeros(queries), torch.zeros(prototypes), k)
    with pytest.raises(UsageError):
        nearest(torch.zeros(2, 3), torch.zeros(4, 3), 1, allowed=torch.ones(3, dtype=torch.bool))
