import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.reference import similar_pixels as reference
from wss.errors import UsageError
from wss.ops import similarity_walk

extended = pytest.mark.skipif(np.finfo(np.longdouble).maxexp < 16384, reason="no extended precision here")


def maps(batch=2, channels=3, classes=4, size=(3, 5), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = normalize(torch.randn(batch, channels, *size, generator=generator, dtype=dtype), dim=1)
    return embeddings, torch.rand(batch, classes, *size, generator=generator, dtype=dtype)


@extended
@pytest.mark.parametrize("normalised", ["before", "after"])
@pytest.mark.parametrize(("gamma", "beta", "steps"), [(5.0, 20.0, 6), (1.0, 2.0, 1), (5.0, 20.0, 64), (2.0, 3.0, 0)])
@pytest.mark.parametrize("entries", [2**17, 64, 1])
def test_agrees_with_the_definition(normalised, gamma, beta, steps, entries, monkeypatch):
    monkeypatch.setattr(sys.modules["wss.ops.similarity_walk"], "_ENTRIES", {"cpu": entries})
    embeddings, scores = maps()
    found = similarity_walk(embeddings, scores, gamma=gamma, beta=beta, steps=steps, normalised=normalised)
    for image in range(2):
        want = reference.similarity_walk(
            embeddings[image].numpy(), scores[image].numpy(), gamma, beta, steps, normalised
        )
        assert np.abs(found[image].numpy() - want).max() < 1e-9


def test_single_precision_is_close_to_double():
    embeddings, scores = maps(channels=8, size=(20, 20))
    for normalised in ("before", "after"):
        exact = similarity_walk(embeddings, scores, normalised=normalised)
        single = similarity_walk(embeddings.float(), scores.float(), normalised=normalised)
        assert single.dtype == torch.float32
        assert (single - exact).abs().max() < 1e-3


def test_scores_stay_among_pixels_that_look_alike():
    # Two groups at right angles; one pixel of each is sure, the others undecided but for a trace of the other group's class.
    embeddings = torch.zeros(1, 2, 2, 6)
    embeddings[0, 0, :, :3] = embeddings[0, 1, :, 3:] = 1
    scores = torch.full((1, 2, 2, 6), 0.1)
    scores[0, 0, :, 3:] = scores[0, 1, :, :3] = 0.12
    scores[0, 0, 0, 0] = scores[0, 1, 0, 5] = 1
    for normalised in ("before", "after"):
        found = similarity_walk(embeddings, scores, normalised=normalised)
        assert (found.argmax(1)[0] == torch.tensor([0, 0, 0, 1, 1, 1])).all()
        assert torch.allclose(found.sum(1), torch.ones(1, 2, 6))


def test_as_printed_a_pixel_like_no_other_overrules_all():
    # 59 pixels that are alike say class 0, one at 60 degrees from them says class 1.
    embeddings = torch.zeros(1, 2, 6, 10, dtype=torch.float64)
    embeddings[0, 0] = 1
    embeddings[0, :, 0, 0] = torch.tensor([0.5, 0.75**0.5])
    scores = torch.tensor([0.9, 0.1], dtype=torch.float64).view(1, 2, 1, 1).repeat(1, 1, 6, 10)
    scores[0, :, 0, 0] = scores[0, :, 0, 0].flip(0)
    kept = similarity_walk(embeddings, scores).argmax(1)
    assert kept.sum() == kept[0, 0, 0] == 1
    assert similarity_walk(embeddings, scores, normalised="before").argmax(1).sum() == 60


def test_one_pixel_one_class_and_nothing_at_all():
    embeddings, scores = maps(1, size=(1, 1))
    assert torch.allclose(similarity_walk(embeddings, scores), scores / scores.sum(1, keepdim=True))
    embeddings, scores = maps(classes=1)
    assert torch.allclose(similarity_walk(embeddings, scores), torch.ones_like(scores))
    for normalised in ("before", "after"):
        assert (similarity_walk(embeddings, torch.zeros_like(scores), normalised=normalised) == 0).all()


def test_relabelling_classes_relabels_the_result():
    embeddings, scores = maps()
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(similarity_walk(embeddings, scores)[:, order], similarity_walk(embeddings, scores[:, order]))


def test_autocast_and_views_change_nothing():
    embeddings, scores = maps(dtype=torch.float32, size=(4, 6))
    plain = similarity_walk(embeddings[..., ::2].contiguous(), scores[..., ::2].contiguous())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(similarity_walk(embeddings[..., ::2], scores[..., ::2]), plain)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((1, 2, 3, 3), (1, 2, 3, 4)), {}),
        (((2, 2, 3, 3), (1, 2, 3, 3)), {}),
        (((2, 3, 3), (2, 3, 3)), {}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"gamma": 0.0}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"beta": float("inf")}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"steps": -1}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"normalised": "never"}),
    ],
)
def test_refuses_what_it_cannot_walk(shapes, options):
    with pytest.raises(UsageError):
        similarity_walk(*(torch.ones(shape) for shape in shapes), **options)
