"""Pseudo-labels, prototypes and retrieval by an embedding that is known: the colour of 4x4 cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from embedding_cases import (
    COLOURS,
    MASKS,
    SIZE,
    Colours,
    bank_of,
    only_of,
    run_of,
    stores,  # noqa: F401 - fixtures
)
from stores import written
from torch.nn import functional

import wss.stages.embedding
import wss.stages.predict
import wss.stages.prototypes
import wss.stages.retrieve
import wss.stages.similarity_walk
from tests.reference import similar_pixels
from wss.errors import DataError, UsageError
from wss.methods.coarse import cell_means
from wss.stages.embedding import embedded, enlarged
from wss.stages.similarity_walk import SimilarityWalkParams, walked, with_background
from wss.store import LABELS


def _error(found, image_id):
    return float((found.get("labels", image_id) != MASKS[image_id]).mean())


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_embeddings_come_on_any_grid_of_powers_of_two(stride):
    rgb = torch.from_numpy(np.repeat(COLOURS[MASKS["a"]][None], 2, 0)).permute(0, 3, 1, 2).float()
    found = embedded(Colours(), rgb, stride)
    assert found.shape == (2, 3, -(-26 // stride), -(-33 // stride))
    assert torch.allclose(found.norm(dim=1), torch.ones(()))
    if stride < 8:  # larger cells hold several colours
        red = functional.normalize(torch.from_numpy(COLOURS[1]).float() + 1, dim=0)
        assert torch.allclose(found[0, :, 7 // stride, 20 // stride], red, atol=1e-3)


def test_strides_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="multiple or a divisor"):
        embedded(Colours(), torch.zeros(1, 3, 9, 9), 3)


def test_cells_average_what_there_is_and_are_enlarged_in_place():
    maps = torch.arange(15.0).view(1, 1, 3, 5)
    assert torch.equal(cell_means(maps, 2, "replicate")[0, 0], torch.tensor([[3.0, 5, 6.5], [10.5, 12.5, 14]]))
    assert torch.equal(cell_means(maps[..., :1, :1] + 7, 8, "replicate"), torch.full((1, 1, 1, 1), 7.0))
    whole = enlarged(cell_means(maps, 2, "replicate"), 2, (3, 5))
    assert whole.shape == (1, 1, 3, 5) and (whole.diff(dim=3) >= 0).all()


def test_walks_label_what_the_classifier_does_not_see(stores, tmp_path):
    found = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"), stride=4)
    still = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"), "still", stride=4, steps=0)
    assert found.ids == list("abcd")
    for i in "abc":
        assert _error(still, i) > 0.18  # the last columns
        assert _error(found, i) < 0.12  # cells are coarser than the mask
        given = stores["labels"].get("labels", i)
        known = given != 255
        assert (found.get("labels", i)[known] == given[known]).all()
        assert (found.get("certainty", i)[known] == 255).all()
        assert set(np.unique(found.get("labels", i))) == set(np.unique(given[known]))
    assert (found.get("labels", "d") == 255).all() and (found.get("certainty", "d") == 0).all()
    assert found.meta == {"annotation": "scribble", "simulated": False, "options": {}, "proposals": "similarity-walk"}


def test_a_crf_sharpens_the_borders_of_cells(stores, tmp_path):
    coarse = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"), stride=8)
    sharp = run_of(
        tmp_path,
        "similarity-walk",
        only_of(stores, "labels"),
        "sharp",
        stride=8,
        crf={"bi_xy_std": 20},
    )
    assert all(_error(sharp, i) < _error(coarse, i) - 0.02 for i in "abc")


def test_only_classes_of_the_image_unless_told_otherwise(stores, tmp_path):
    stores["labels"] = stores["tags"]
    found = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"))
    assert all(set(np.unique(found.get("labels", i))) <= set(np.unique(MASKS[i])) for i in found.ids)
    assert all((found.get("tags", i) == stores["tags"].get("tags", i)).all() for i in found.ids)
    free = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"), "free", restrict=False, steps=0)
    assert any(not set(np.unique(free.get("labels", i))) <= set(np.unique(MASKS[i])) for i in free.ids)


def test_walks_start_from_class_activation_maps(stores, tmp_path):
    stores["labels"] = stores["tags"]
    found = run_of(tmp_path, "similarity-walk", only_of(stores, "labels", "cam"), stride=4)
    assert found.ids == ["a", "b"]
    assert all(_error(found, i) < 0.12 for i in "ab")


def test_background_of_activation_maps_by_hand():
    cam = np.zeros((3, 1, 3), np.float16)
    cam[1, 0], cam[2, 0] = [1, 0.5, 0], [0, 0.25, 0]
    scores = with_background(cam, 0, 2.0)
    assert scores.tolist() == [[[0, 0.25, 1]], [[1, 0.5, 0]], [[0, 0.25, 0]]]
    assert (with_background(cam, None, 2.0) == cam).all()


@pytest.mark.skipif(np.finfo(np.longdouble).maxexp < 16384, reason="no extended precision here")
@pytest.mark.parametrize("normalised", ["before", "after"])
def test_each_parameter_of_the_walk_is_the_one_of_the_equation(normalised):
    generator = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(1, 3, 3, 5, generator=generator, dtype=torch.float64), dim=1)
    scores = torch.rand(4, 3, 5, generator=generator, dtype=torch.float64)
    image = np.zeros((3, 5, 3), np.uint8)
    params = SimilarityWalkParams(gamma=1.5, beta=4, steps=3, stride=1, normalised=normalised)
    expected = similar_pixels.similarity_walk(embeddings[0].numpy(), scores.numpy(), 1.5, 4, 3, normalised)
    np.testing.assert_allclose(walked(params, image, scores, embeddings).numpy(), expected, atol=1e-9)
    published = SimilarityWalkParams()
    assert (published.gamma, published.beta, published.steps, published.stride) == (5, 20, 6, 8)


def test_rescaled_scores_reach_one(stores, tmp_path):
    plain = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"), steps=0)
    rescaled = run_of(tmp_path, "similarity-walk", only_of(stores, "labels"), "rescaled", steps=0, rescale=True)
    assert (plain.get("certainty", "a") != rescaled.get("certainty", "a")).any()


@pytest.mark.parametrize("labels", ["split", "majority"])
def test_prototypes_are_the_labelled_segments(stores, tmp_path, labels):
    found = run_of(tmp_path, "prototypes", stores, labels=labels, segments={"grid": 4})
    assert found.ids == list("abc")  # d has no label
    shades = functional.normalize(torch.from_numpy(COLOURS).float() + 1, dim=1).numpy()
    for i in found.ids:
        prototypes, classes, segments = (found.get(n, i) for n in ("prototypes", "labels", "segments"))
        assert prototypes.dtype == np.float16 and prototypes.shape == (len(classes), 3)
        assert segments.shape == (7, 9)
        assert np.unique(segments).tolist() == list(range(-1, len(classes)))
        assert np.allclose(np.linalg.norm(prototypes.astype(float), axis=1), 1, atol=2e-3)
        if labels == "split":
            coarse = wss.stages.prototypes.coarse_labels(
                torch.from_numpy(stores["labels"].get("labels", i)).long()[None], 4, 4
            )[0].numpy()
            assert ((segments >= 0) == (coarse != 255)).all()
            assert (classes[segments[segments >= 0]] == coarse[segments >= 0]).all()
            assert ((prototypes @ shades.T).argmax(1) == classes).mean() > 0.7  # the others lie across borders
        else:
            assert (segments >= 0).sum() > (stores["labels"].get("labels", i) != 255).sum() / 16
    assert found.meta["annotation"] == "scribble" and found.meta["model"] == "model"


def test_new_images_take_the_labels_of_similar_segments(stores, tmp_path):
    bank = bank_of(stores, tmp_path)
    found = run_of(tmp_path, "retrieve", bank, neighbours=3)
    assert found.ids == ["v"]
    assert _error(found, "v") < 0.15
    probs = found.get("probs", "v")
    assert probs.dtype == np.float16 and np.abs(probs.astype(float).sum(0) - 1).max() < 2e-3
    assert (probs.argmax(0) == found.get("labels", "v")).mean() > 0.99  # float16 may make equals
    assert found.meta["method"] == "spml, nearest segments"
    several = run_of(tmp_path, "retrieve", bank, "several", neighbours=3, scales=[1.0, 1.5], flip=True, probs=False)
    assert _error(several, "v") < 0.15 and not several.has("probs", "v")
    fine = run_of(tmp_path, "retrieve", bank, "fine", neighbours=3, segments={"stride": 1})
    assert _error(fine, "v") < 0.15


def test_labels_restrict_who_votes(stores, tmp_path):
    bank = bank_of(stores, tmp_path)
    only_red = np.full(SIZE, 255, np.uint8)
    only_red[0, 0] = 1
    labels = written(tmp_path / "red.h5", LABELS, {"v": {"labels": only_red}, "a": {"labels": only_red * 0 + 255}})
    found = run_of(tmp_path, "retrieve", {**bank, "labels": labels})
    assert (found.get("labels", "v") == 1).all()
    with pytest.raises(DataError, match="name no class for any image of split 'train'"):
        run_of(tmp_path, "retrieve", {**bank, "labels": labels}, "none", split="train")


def test_an_image_s_own_segments_do_not_vote(stores, tmp_path):
    # Of the images with labels only b is both green and blue: alone in the bank, it has nobody to learn from.
    labels = written(
        tmp_path / "one.h5", LABELS, {"b": {"labels": stores["labels"].get("labels", "b")}}, annotation="scribble"
    )
    bank = bank_of({**stores, "labels": labels}, tmp_path)
    stores["prototypes"] = bank["prototypes"]
    own = run_of(tmp_path, "retrieve", bank, "own", split="train", others=False)
    assert _error(own, "b") < 0.15
    others = run_of(tmp_path, "retrieve", bank, "others", split="train", neighbours=3)
    assert (others.get("probs", "b") == 0).all()
    assert (others.get("probs", "a") > 0).any()


def test_prototypes_of_another_network_are_refused(stores, tmp_path):
    bank = bank_of(stores, tmp_path)
    for stage in ("retrieve", "retrieval-pictures"):
        with pytest.raises(UsageError, match="another network"):
            run_of(tmp_path, stage, {**bank, "model": stores["other model"]})


def test_pictures_show_a_segment_and_its_neighbours(stores, tmp_path):
    found = run_of(tmp_path, "retrieval-pictures", bank_of(stores, tmp_path), neighbours=4)
    tiles = found.get("tiles", "v")
    assert tiles.shape == (5, *SIZE, 3) and found.meta["captions"][0] == "Segment"
    assert (tiles[4] == 255).all()  # only three images have labels
    # A blue or green segment shines on its image, and the nearest ones have its colour.
    bright = [tile[(tile.max(2) > 150) & ~((tile[..., 0] > 200) & (tile[..., 1] > 200))] for tile in tiles[:3]]
    assert all(len(pixels) > 10 for pixels in bright)
    assert bright[0].mean(0).argmax() == bright[1].mean(0).argmax() in (1, 2)
