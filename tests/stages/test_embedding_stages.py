"""Pseudo-labels, prototypes and retrieval by an embedding that is known: the colour of 4x4 cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import wss.stages.embedding
import wss.stages.predict
import wss.stages.prototypes
import wss.stages.retrieve
import wss.stages.similarity_walk
from tests.reference import similar_pixels
from wss.errors import DataError, UsageError
from wss.methods.coarse import cell_means
from wss.methods.spml import EmbeddingSegmenter
from wss.metrics import certainty_levels
from wss.params import validate
from wss.stages import STAGES
from wss.stages.embedding import embedded, enlarged
from wss.stages.pseudo_labels import entropy_share, largest_parts
from wss.stages.similarity_walk import SimilarityWalkParams, walked, with_background
from wss.stages.stage import Context, Inputs
from wss.store import CAM, LABELS, MODEL, PREDICTIONS, SAMPLES, Store, StoreWriter

CLASSES = ["background", "red", "green", "blue"]
COLOURS = np.array([[90, 90, 90], [200, 10, 10], [10, 200, 10], [10, 10, 200]], np.uint8)
SIZE = (26, 33)


class Colours(EmbeddingSegmenter):
    """Embeds cells as their mean colour; its logits say next to nothing in the last columns."""

    def __init__(self):
        nn.Module.__init__(self)
        self.stride = 4

    def embed(self, rgb):
        return functional.normalize(cell_means(rgb, 4, "replicate") + 1, dim=1)

    def forward(self, rgb):
        shades = torch.from_numpy(COLOURS).to(rgb)
        logits = -(rgb[:, None] - shades[None, :, :, None, None]).abs().mean(2) / 25
        logits[..., -12:] = torch.tensor([0, 0, 0, 0.1]).view(-1, 1, 1)
        return logits


def _write(path, schema, rows, **meta):
    writer = StoreWriter(path, schema, {"key": path.stem})
    for image_id, arrays in rows.items():
        writer.append(image_id, arrays)
    writer.meta.update(meta)
    writer.finish({})
    return Store(path, schema)


def _mask(first, second):
    """Two classes on grey ground, both reaching under the last columns."""
    mask = np.zeros(SIZE, np.uint8)
    mask[2:12, 4:], mask[15:24, 4:] = first, second
    return mask


MASKS = {"a": _mask(1, 2), "b": _mask(2, 3), "c": _mask(3, 1), "d": _mask(1, 1), "v": _mask(3, 2)}


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.setattr(wss.stages.embedding, "build_model", lambda store: Colours())
    noise = np.random.default_rng(0)
    images = {i: (COLOURS[m] + noise.integers(-5, 6, (*SIZE, 3))).astype(np.uint8) for i, m in MASKS.items()}
    scribbles = {i: np.full(SIZE, 255, np.uint8) for i in "abcd"}
    for i in "abc":
        for y in (6, 13, 20):
            scribbles[i][y, 5:10] = MASKS[i][y, 5]
    tags = {i: np.isin(np.arange(4), MASKS[i]).astype(np.uint8) for i in MASKS}
    cams = {}
    for i in "ab":
        seen = np.zeros((4, *SIZE), np.float16)  # not much is seen on the right
        for k in np.unique(MASKS[i])[1:]:
            seen[k] = np.where(np.arange(SIZE[1]) < 12, np.where(MASKS[i] == k, 1, 0.1), 0.25)
        cams[i] = {"cam": seen}
    catalogue = {"classes": CLASSES, "palette": COLOURS.tolist(), "background": 0}
    labels = {"annotation": "scribble", "simulated": False, "options": {}}
    return {
        "samples": _write(
            tmp_path / "samples.h5",
            SAMPLES,
            {i: {"image": image, "mask": MASKS[i]} for i, image in images.items()},
            splits={"train": list("abcd"), "val": ["v"], "none": []},
            **catalogue,
        ),
        "labels": _write(tmp_path / "labels.h5", LABELS, {i: {"labels": s} for i, s in scribbles.items()}, **labels),
        "tags": _write(
            tmp_path / "tags.h5",
            LABELS,
            {i: {"labels": np.full(SIZE, 255, np.uint8), "tags": t} for i, t in tags.items()},
            **{**labels, "annotation": "tag"},
        ),
        "cam": _write(tmp_path / "cam.h5", CAM, cams),
        "model": _write(
            tmp_path / "model.h5", MODEL, {}, method={"name": "spml"}, network={"name": "unet"}, initialisation={}
        ),
        "other model": _write(tmp_path / "other.h5", MODEL, {}, method={"name": "spml"}),
    }


def _run(tmp_path, stage, stores, name="out", **params):
    stage = STAGES[stage]
    inputs = Inputs({role: (stores[role],) for role in stage.inputs if role in stores})
    writer = StoreWriter(tmp_path / f"{name}.h5", stage.output, {"key": name})
    stage.run(validate(stage.params, params, "test"), inputs, writer, Context())
    writer.finish({})
    return Store(tmp_path / f"{name}.h5", stage.output)


def _only(stores, *roles):
    return {role: stores[role] for role in ("samples", "model", *roles)}


def _error(found, image_id):
    return float((found.get("labels", image_id) != MASKS[image_id]).mean())


# --- grids -----------------------------------------------------------------------------------------------------------


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


# --- similarity-walk -------------------------------------------------------------------------------------------------


def test_walks_label_what_the_classifier_does_not_see(stores, tmp_path):
    found = _run(tmp_path, "similarity-walk", _only(stores, "labels"), stride=4)
    still = _run(tmp_path, "similarity-walk", _only(stores, "labels"), "still", stride=4, steps=0)
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
    coarse = _run(tmp_path, "similarity-walk", _only(stores, "labels"), stride=8)
    sharp = _run(
        tmp_path,
        "similarity-walk",
        _only(stores, "labels"),
        "sharp",
        stride=8,
        crf={"bi_xy_std": 20},
    )
    assert all(_error(sharp, i) < _error(coarse, i) - 0.02 for i in "abc")


def test_only_classes_of_the_image_unless_told_otherwise(stores, tmp_path):
    stores["labels"] = stores["tags"]
    found = _run(tmp_path, "similarity-walk", _only(stores, "labels"))
    assert all(set(np.unique(found.get("labels", i))) <= set(np.unique(MASKS[i])) for i in found.ids)
    assert all((found.get("tags", i) == stores["tags"].get("tags", i)).all() for i in found.ids)
    free = _run(tmp_path, "similarity-walk", _only(stores, "labels"), "free", restrict=False, steps=0)
    assert any(not set(np.unique(free.get("labels", i))) <= set(np.unique(MASKS[i])) for i in free.ids)


def test_walks_start_from_class_activation_maps(stores, tmp_path):
    stores["labels"] = stores["tags"]
    found = _run(tmp_path, "similarity-walk", _only(stores, "labels", "cam"), stride=4)
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
    plain = _run(tmp_path, "similarity-walk", _only(stores, "labels"), steps=0)
    rescaled = _run(tmp_path, "similarity-walk", _only(stores, "labels"), "rescaled", steps=0, rescale=True)
    assert (plain.get("certainty", "a") != rescaled.get("certainty", "a")).any()


# --- prototypes and retrieval ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["split", "majority"])
def test_prototypes_are_the_labelled_segments(stores, tmp_path, labels):
    found = _run(tmp_path, "prototypes", stores, labels=labels, segments={"grid": 4})
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


def _bank(stores, tmp_path, **params):
    stores["prototypes"] = _run(tmp_path, "prototypes", stores, "prototypes", **params)
    return _only(stores, "prototypes")


def test_new_images_take_the_labels_of_similar_segments(stores, tmp_path):
    bank = _bank(stores, tmp_path)
    found = _run(tmp_path, "retrieve", bank, neighbours=3)
    assert found.ids == ["v"]
    assert _error(found, "v") < 0.15
    probs = found.get("probs", "v")
    assert probs.dtype == np.float16 and np.abs(probs.astype(float).sum(0) - 1).max() < 2e-3
    assert (probs.argmax(0) == found.get("labels", "v")).mean() > 0.99  # float16 may make equals
    assert found.meta["method"] == "spml, nearest segments"
    several = _run(tmp_path, "retrieve", bank, "several", neighbours=3, scales=[1.0, 1.5], flip=True, probs=False)
    assert _error(several, "v") < 0.15 and not several.has("probs", "v")
    fine = _run(tmp_path, "retrieve", bank, "fine", neighbours=3, segments={"stride": 1})
    assert _error(fine, "v") < 0.15


def test_labels_restrict_who_votes(stores, tmp_path):
    bank = _bank(stores, tmp_path)
    only_red = np.full(SIZE, 255, np.uint8)
    only_red[0, 0] = 1
    labels = _write(tmp_path / "red.h5", LABELS, {"v": {"labels": only_red}, "a": {"labels": only_red * 0 + 255}})
    found = _run(tmp_path, "retrieve", {**bank, "labels": labels})
    assert (found.get("labels", "v") == 1).all()
    with pytest.raises(DataError, match="name no class for any image of split 'train'"):
        _run(tmp_path, "retrieve", {**bank, "labels": labels}, "none", split="train")


def test_an_image_s_own_segments_do_not_vote(stores, tmp_path):
    # Of the images with labels only b is both green and blue: alone in the bank, it has nobody to learn from.
    labels = _write(
        tmp_path / "one.h5", LABELS, {"b": {"labels": stores["labels"].get("labels", "b")}}, annotation="scribble"
    )
    bank = _bank({**stores, "labels": labels}, tmp_path)
    stores["prototypes"] = bank["prototypes"]
    own = _run(tmp_path, "retrieve", bank, "own", split="train", others=False)
    assert _error(own, "b") < 0.15
    others = _run(tmp_path, "retrieve", bank, "others", split="train", neighbours=3)
    assert (others.get("probs", "b") == 0).all()
    assert (others.get("probs", "a") > 0).any()


def test_prototypes_of_another_network_are_refused(stores, tmp_path):
    bank = _bank(stores, tmp_path)
    for stage in ("retrieve", "retrieval-pictures"):
        with pytest.raises(UsageError, match="another network"):
            _run(tmp_path, stage, {**bank, "model": stores["other model"]})


def test_pictures_show_a_segment_and_its_neighbours(stores, tmp_path):
    found = _run(tmp_path, "retrieval-pictures", _bank(stores, tmp_path), neighbours=4)
    tiles = found.get("tiles", "v")
    assert tiles.shape == (5, *SIZE, 3) and found.meta["captions"][0] == "Segment"
    assert (tiles[4] == 255).all()  # only three images have labels
    # A blue or green segment shines on its image, and the nearest ones have its colour.
    bright = [tile[(tile.max(2) > 150) & ~((tile[..., 0] > 200) & (tile[..., 1] > 200))] for tile in tiles[:3]]
    assert all(len(pixels) > 10 for pixels in bright)
    assert bright[0].mean(0).argmax() == bright[1].mean(0).argmax() in (1, 2)


# --- pseudo-labels ---------------------------------------------------------------------------------------------------


def test_predictions_become_labels(stores, tmp_path):
    bank = _bank(stores, tmp_path)
    predictions = _run(tmp_path, "retrieve", bank, "predictions", split="train", neighbours=3)
    found = _run(tmp_path, "pseudo-labels", {"labels": stores["labels"], "predictions": predictions})
    assert found.ids == list("abcd")
    given = stores["labels"].get("labels", "a")
    known = given != 255
    assert (found.get("labels", "a")[known] == given[known]).all() and (found.get("certainty", "a")[known] == 255).all()
    assert (found.get("labels", "a")[~known] == predictions.get("labels", "a")[~known]).all()
    assert found.meta["proposals"] == "spml, nearest segments" and found.meta["annotation"] == "scribble"
    anew = _run(tmp_path, "pseudo-labels", {"labels": stores["tags"], "predictions": predictions}, "anew", keep=False)
    assert (anew.get("labels", "a") == predictions.get("labels", "a")).all() and anew.has("tags", "a")
    other = _write(tmp_path / "other-labels.h5", LABELS, {"x": {"labels": given}})
    with pytest.raises(DataError, match="none of the images"):
        _run(tmp_path, "pseudo-labels", {"labels": other, "predictions": predictions}, "x")


def test_pseudo_labels_are_of_the_tagged_classes_alone(stores, tmp_path):
    """Of a network that prefers a class that is not tagged. Without probabilities its pixels stay unlabelled."""
    probs = np.zeros((4, *SIZE), np.float16)
    probs[:, :, :] = np.array([0.1, 0.25, 0.05, 0.6])[:, None, None]  # blue, which images a and d do not have
    probs[:, :10] = np.array([0.5, 0.3, 0.1, 0.1])[:, None, None]
    probs[:, -2:] = np.array([0, 0, 0, 1])[:, None, None]  # and nothing else
    rows = {i: {"labels": probs.argmax(0).astype(np.uint8), "probs": probs} for i in "abd"}
    predictions = _write(tmp_path / "p.h5", PREDICTIONS, rows, method="pce")
    given = {"labels": stores["tags"], "predictions": predictions}
    found = _run(tmp_path, "pseudo-labels", given)
    labels, certainty = found.get("labels", "a"), found.get("certainty", "a")
    assert (labels[:10] == 0).all() and (labels[10:-2] == 1).all() and (labels[-2:] == 255).all()
    shares = [0.5 / 0.9, 0.25 / 0.4, 0]  # of background, red and green together
    for part, share in zip((certainty[:10], certainty[10:-2], certainty[-2:]), shares, strict=True):
        assert (part == certainty_levels(np.array(1 - share))).all()
    assert (found.get("labels", "b")[10:] == 3).all()  # which has the class
    free = _run(tmp_path, "pseudo-labels", given, "free", restrict=False)
    assert all((free.get("labels", i) == predictions.get("labels", i)).all() for i in "abd")
    bare = {i: {"labels": row["labels"]} for i, row in rows.items()}
    given["predictions"] = _write(tmp_path / "bare.h5", PREDICTIONS, bare, method="pce")
    found = _run(tmp_path, "pseudo-labels", given, "from bare")
    assert (found.get("labels", "a")[:10] == 0).all() and (found.get("labels", "a")[10:] == 255).all()
    assert (found.get("labels", "b")[10:] == 3).all()


def test_labels_without_tags_restrict_nothing(stores, tmp_path):
    """Scribbles need not name every class of their image."""
    probs = np.zeros((4, *SIZE), np.float16)
    probs[3] = 1
    rows = {"a": {"labels": np.full(SIZE, 3, np.uint8), "probs": probs}}
    predictions = _write(tmp_path / "p.h5", PREDICTIONS, rows, method="pce")
    found = _run(tmp_path, "pseudo-labels", {"labels": stores["labels"], "predictions": predictions})
    assert (found.get("labels", "a")[stores["labels"].get("labels", "a") == 255] == 3).all()


def _one(tmp_path, stores, probs, name="p"):
    rows = {"a": {"labels": probs.argmax(0).astype(np.uint8), "probs": probs.astype(np.float16)}}
    return {"labels": stores["labels"], "predictions": _write(tmp_path / f"{name}.h5", PREDICTIONS, rows, method="pce")}


def test_only_what_the_network_is_sure_of_becomes_a_label(stores, tmp_path):
    """By hand: entropies of 0, 0.1, 0.5 and 1 of log 4."""
    probs = np.zeros((4, *SIZE))
    probs[:, :] = np.array([1, 0, 0, 0])[:, None, None]
    probs[:, :, 9:17] = np.array([0.0252, 0.9748, 0, 0])[:, None, None]  # 0.1172 nats are 0.0845 of log 4
    probs[:, :, 17:25] = np.array([0.5, 0.5, 0, 0])[:, None, None]
    probs[:, :, 25:] = 0.25
    given = _one(tmp_path, stores, probs)
    scribbles = given["labels"].get("labels", "a")
    known = scribbles != 255
    for limit, columns in ((0.05, 9), (0.08, 9), (0.09, 17), (0.49, 17), (0.51, 25), (0.99, 25), (None, 33)):
        found = _run(tmp_path, "pseudo-labels", given, f"below {limit}", entropy_below=limit)
        labels, certainty = found.get("labels", "a"), found.get("certainty", "a")
        assert (labels[known] == scribbles[known]).all() and (certainty[known] == 255).all()
        inside = ~known & (np.arange(33) < columns)
        assert (labels[inside] == probs.argmax(0)[inside]).all()
        assert (labels[~known & ~inside] == 255).all() and (certainty[~known & ~inside] == 0).all()
        assert (certainty[~known & (np.arange(33) < 9)] == 255).all()


def test_how_sure_it_is_counts_among_the_tagged_classes(stores, tmp_path):
    stores["labels"] = stores["tags"]  # of a: background, red, green
    probs = np.zeros((4, *SIZE))
    probs[:, :] = np.array([0, 0.5, 0, 0.5])[:, None, None]
    found = _run(tmp_path, "pseudo-labels", _one(tmp_path, stores, probs), entropy_below=0.1)
    assert (found.get("labels", "a") == 1).all()
    given = _one(tmp_path, stores, probs, "q")
    free = _run(tmp_path, "pseudo-labels", given, "free", entropy_below=0.1, restrict=False)
    assert (free.get("labels", "a") == 255).all()


def test_without_probabilities_it_is_not_known_how_sure_it_is(stores, tmp_path):
    rows = {"a": {"labels": np.zeros(SIZE, np.uint8)}}
    bare = _write(tmp_path / "bare.h5", PREDICTIONS, rows, method="pce")
    given = {"labels": stores["labels"], "predictions": bare}
    with pytest.raises(UsageError, match=r"entropy_below needs probabilities.*`probs: true`"):
        _run(tmp_path, "pseudo-labels", given, entropy_below=0.1)
    found = _run(tmp_path, "pseudo-labels", given, "whole", largest=True)
    assert not (found.get("labels", "a") == 255).any()


def test_entropies_are_shares_of_the_largest():
    assert entropy_share(np.full((5, 2, 3), 0.2)) == pytest.approx(1)
    assert entropy_share(np.eye(3)[:, :, None]) == pytest.approx(0)
    assert entropy_share(np.array([0.25, 0.75]).reshape(2, 1, 1)) == pytest.approx(0.811278)
    assert (entropy_share(np.ones((1, 2, 3))) == 0).all()


def test_only_the_largest_part_of_each_class_stays(stores, tmp_path):
    """Parts that touch at a corner are two; those of different classes do not compete."""
    labels = np.array(
        [
            [1, 1, 0, 1, 1],
            [1, 2, 0, 0, 1],
            [2, 1, 255, 0, 1],
            [0, 1, 2, 2, 2],
        ],
        np.uint8,
    )
    expected = np.array(
        [
            [255, 255, 0, 1, 1],
            [255, 255, 0, 0, 1],
            [255, 255, 255, 0, 1],
            [255, 255, 2, 2, 2],
        ],
        np.uint8,
    )
    assert (largest_parts(labels) == expected).all()
    assert (largest_parts(np.full((2, 2), 255, np.uint8)) == 255).all()
    probs = np.zeros((4, *SIZE))
    probs[0], probs[3, :4, :4], probs[0, :4, :4] = 1, 1, 0
    probs[3, -2:, -2:], probs[0, -2:, -2:] = 1, 0
    probs[:, 4:6, :4] = np.array([0, 0, 0.4, 0.6])[:, None, None]  # not sure: no part of the upper square
    probs[:, 5, :] = np.array([0, 0, 0, 1])[:, None]  # a line, larger than the squares, cuts the ground
    given = _one(tmp_path, stores, probs)
    found = _run(tmp_path, "pseudo-labels", given, entropy_below=0.1, largest=True).get("labels", "a")
    scribbles = given["labels"].get("labels", "a")
    known = scribbles != 255
    assert (found[known] == scribbles[known]).all()
    wanted = np.full(SIZE, 0, np.uint8)
    wanted[:5], wanted[5], wanted[-2:, -2:] = 255, 3, 255
    assert (found[~known] == wanted[~known]).all()


def test_both_rounds_from_tags_keep_to_the_tags(stores, tmp_path, monkeypatch):
    """The chain of spml-tag: every store of labels, though the network says blue in the last columns of every image."""
    monkeypatch.setattr(wss.stages.predict, "build_model", lambda store: Colours())
    stores["labels"] = stores["tags"]
    predictions = _run(tmp_path, "predict", stores, "predictions", split="train")
    assert (predictions.get("labels", "a")[:, -1] == 3).all()
    made = [_run(tmp_path, "pseudo-labels", {**stores, "predictions": predictions}, "first")]
    stores["prototypes"] = _run(tmp_path, "prototypes", {**stores, "labels": made[0]}, "prototypes")
    for i in "abcd":
        assert set(np.unique(stores["prototypes"].get("labels", i))) <= set(np.unique(MASKS[i]))
    retrieved = _run(tmp_path, "retrieve", stores, "retrieved", split="train", neighbours=3)
    made.append(_run(tmp_path, "pseudo-labels", {**stores, "predictions": retrieved}, "second"))
    for i in "abcd":
        assert (made[0].get("labels", i) == MASKS[i])[:, :-12].mean() > 0.9
        for labels in made:
            assert set(np.unique(labels.get("labels", i))) <= {*np.unique(MASKS[i]), 255}


# --- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "module", "function"),
    [
        ("similarity-walk", wss.stages.similarity_walk, "walked"),
        ("prototypes", wss.stages.prototypes, "labelled_segments"),
        ("retrieve", wss.stages.retrieve, "retrieved"),
    ],
)
def test_resume_with_the_remaining_images(stores, tmp_path, monkeypatch, stage, module, function):
    _bank(stores, tmp_path)
    params = {"split": "train"}
    inputs = {
        name: store for name, store in stores.items() if name not in ("cam", "labels" if stage == "retrieve" else "")
    }
    expected = _run(tmp_path, stage, inputs, "expected", **params)
    real, calls = getattr(module, function), []

    def counted(*arguments):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, function, counted)
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, stage, inputs, "again", **params)
    stop = -1
    assert _run(tmp_path, stage, inputs, "again", **params).digest == expected.digest
    assert len(calls) == len(expected) - (stage == "similarity-walk")


@pytest.mark.parametrize("stage", ["similarity-walk", "prototypes"])
def test_a_split_without_labels_is_refused(stores, tmp_path, stage):
    with pytest.raises(DataError, match="no image of split 'val' has"):
        _run(tmp_path, stage, stores, split="val")


def test_networks_that_do_not_embed_are_refused(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(wss.stages.embedding, "build_model", lambda store: nn.Identity())
    with pytest.raises(UsageError, match="trained by spml"):
        _run(tmp_path, "prototypes", stores)
