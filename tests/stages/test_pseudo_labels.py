"""Predictions become labels; embedding stages resume."""

from __future__ import annotations

import numpy as np
import pytest
from embedding_cases import (
    MASKS,
    SIZE,
    Colours,
    bank_of,
    run_of,
    stores,  # noqa: F401 - fixtures
)
from stores import written
from torch import nn

import wss.stages.embedding
import wss.stages.predict
import wss.stages.prototypes
import wss.stages.retrieve
import wss.stages.similarity_walk
from wss.errors import DataError, UsageError
from wss.metrics import certainty_levels
from wss.stages.pseudo_labels import entropy_share, largest_parts
from wss.store import LABELS, PREDICTIONS


def test_predictions_become_labels(stores, tmp_path):
    bank = bank_of(stores, tmp_path)
    predictions = run_of(tmp_path, "retrieve", bank, "predictions", split="train", neighbours=3)
    found = run_of(tmp_path, "pseudo-labels", {"labels": stores["labels"], "predictions": predictions})
    assert found.ids == list("abcd")
    given = stores["labels"].get("labels", "a")
    known = given != 255
    assert (found.get("labels", "a")[known] == given[known]).all() and (found.get("certainty", "a")[known] == 255).all()
    assert (found.get("labels", "a")[~known] == predictions.get("labels", "a")[~known]).all()
    assert found.meta["proposals"] == "spml, nearest segments" and found.meta["annotation"] == "scribble"
    anew = run_of(tmp_path, "pseudo-labels", {"labels": stores["tags"], "predictions": predictions}, "anew", keep=False)
    assert (anew.get("labels", "a") == predictions.get("labels", "a")).all() and anew.has("tags", "a")
    other = written(tmp_path / "other-labels.h5", LABELS, {"x": {"labels": given}})
    with pytest.raises(DataError, match="none of the images"):
        run_of(tmp_path, "pseudo-labels", {"labels": other, "predictions": predictions}, "x")


def test_pseudo_labels_are_of_the_tagged_classes_alone(stores, tmp_path):
    """The network prefers a class that is not tagged. Without probabilities its pixels stay unlabelled."""
    probs = np.zeros((4, *SIZE), np.float16)
    probs[:, :, :] = np.array([0.1, 0.25, 0.05, 0.6])[:, None, None]  # blue, which images a and d do not have
    probs[:, :10] = np.array([0.5, 0.3, 0.1, 0.1])[:, None, None]
    probs[:, -2:] = np.array([0, 0, 0, 1])[:, None, None]  # and nothing else
    rows = {i: {"labels": probs.argmax(0).astype(np.uint8), "probs": probs} for i in "abd"}
    predictions = written(tmp_path / "p.h5", PREDICTIONS, rows, method="pce")
    given = {"labels": stores["tags"], "predictions": predictions}
    found = run_of(tmp_path, "pseudo-labels", given)
    labels, certainty = found.get("labels", "a"), found.get("certainty", "a")
    assert (labels[:10] == 0).all() and (labels[10:-2] == 1).all() and (labels[-2:] == 255).all()
    shares = [0.5 / 0.9, 0.25 / 0.4, 0]  # of background, red and green together
    for part, share in zip((certainty[:10], certainty[10:-2], certainty[-2:]), shares, strict=True):
        assert (part == certainty_levels(np.array(1 - share))).all()
    assert (found.get("labels", "b")[10:] == 3).all()  # which has the class
    free = run_of(tmp_path, "pseudo-labels", given, "free", restrict=False)
    assert all((free.get("labels", i) == predictions.get("labels", i)).all() for i in "abd")
    bare = {i: {"labels": row["labels"]} for i, row in rows.items()}
    given["predictions"] = written(tmp_path / "bare.h5", PREDICTIONS, bare, method="pce")
    found = run_of(tmp_path, "pseudo-labels", given, "from bare")
    assert (found.get("labels", "a")[:10] == 0).all() and (found.get("labels", "a")[10:] == 255).all()
    assert (found.get("labels", "b")[10:] == 3).all()


def test_labels_without_tags_restrict_nothing(stores, tmp_path):
    """Scribbles need not name every class of their image."""
    probs = np.zeros((4, *SIZE), np.float16)
    probs[3] = 1
    rows = {"a": {"labels": np.full(SIZE, 3, np.uint8), "probs": probs}}
    predictions = written(tmp_path / "p.h5", PREDICTIONS, rows, method="pce")
    found = run_of(tmp_path, "pseudo-labels", {"labels": stores["labels"], "predictions": predictions})
    assert (found.get("labels", "a")[stores["labels"].get("labels", "a") == 255] == 3).all()


def _one(tmp_path, stores, probs, name="p"):
    rows = {"a": {"labels": probs.argmax(0).astype(np.uint8), "probs": probs.astype(np.float16)}}
    return {
        "labels": stores["labels"],
        "predictions": written(tmp_path / f"{name}.h5", PREDICTIONS, rows, method="pce"),
    }


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
        found = run_of(tmp_path, "pseudo-labels", given, f"below {limit}", entropy_below=limit)
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
    found = run_of(tmp_path, "pseudo-labels", _one(tmp_path, stores, probs), entropy_below=0.1)
    assert (found.get("labels", "a") == 1).all()
    given = _one(tmp_path, stores, probs, "q")
    free = run_of(tmp_path, "pseudo-labels", given, "free", entropy_below=0.1, restrict=False)
    assert (free.get("labels", "a") == 255).all()


def test_without_probabilities_it_is_not_known_how_sure_it_is(stores, tmp_path):
    rows = {"a": {"labels": np.zeros(SIZE, np.uint8)}}
    bare = written(tmp_path / "bare.h5", PREDICTIONS, rows, method="pce")
    given = {"labels": stores["labels"], "predictions": bare}
    with pytest.raises(UsageError, match=r"entropy_below needs probabilities.*`probs: true`"):
        run_of(tmp_path, "pseudo-labels", given, entropy_below=0.1)
    found = run_of(tmp_path, "pseudo-labels", given, "whole", largest=True)
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
    found = run_of(tmp_path, "pseudo-labels", given, entropy_below=0.1, largest=True).get("labels", "a")
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
    predictions = run_of(tmp_path, "predict", stores, "predictions", split="train")
    assert (predictions.get("labels", "a")[:, -1] == 3).all()
    made = [run_of(tmp_path, "pseudo-labels", {**stores, "predictions": predictions}, "first")]
    stores["prototypes"] = run_of(tmp_path, "prototypes", {**stores, "labels": made[0]}, "prototypes")
    for i in "abcd":
        assert set(np.unique(stores["prototypes"].get("labels", i))) <= set(np.unique(MASKS[i]))
    retrieved = run_of(tmp_path, "retrieve", stores, "retrieved", split="train", neighbours=3)
    made.append(run_of(tmp_path, "pseudo-labels", {**stores, "predictions": retrieved}, "second"))
    for i in "abcd":
        assert (made[0].get("labels", i) == MASKS[i])[:, :-12].mean() > 0.9
        for labels in made:
            assert set(np.unique(labels.get("labels", i))) <= {*np.unique(MASKS[i]), 255}


@pytest.mark.parametrize(
    ("stage", "module", "function"),
    [
        ("similarity-walk", wss.stages.similarity_walk, "walked"),
        ("prototypes", wss.stages.prototypes, "labelled_segments"),
        ("retrieve", wss.stages.retrieve, "retrieved"),
    ],
)
def test_resume_with_the_remaining_images(stores, tmp_path, monkeypatch, stage, module, function):
    bank_of(stores, tmp_path)
    params = {"split": "train"}
    inputs = {
        name: store for name, store in stores.items() if name not in ("cam", "labels" if stage == "retrieve" else "")
    }
    expected = run_of(tmp_path, stage, inputs, "expected", **params)
    real, calls = getattr(module, function), []

    def counted(*arguments):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, function, counted)
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path, stage, inputs, "again", **params)
    stop = -1
    assert run_of(tmp_path, stage, inputs, "again", **params).digest == expected.digest
    assert len(calls) == len(expected) - (stage == "similarity-walk")


@pytest.mark.parametrize("stage", ["similarity-walk", "prototypes"])
def test_a_split_without_labels_is_refused(stores, tmp_path, stage):
    with pytest.raises(DataError, match="no image of split 'val' has"):
        run_of(tmp_path, stage, stores, split="val")


def test_networks_that_do_not_embed_are_refused(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(wss.stages.embedding, "build_model", lambda store: nn.Identity())
    with pytest.raises(UsageError, match="trained by spml"):
        run_of(tmp_path, "prototypes", stores)
