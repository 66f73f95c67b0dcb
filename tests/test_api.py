"""The functions of ``import wss``: the examples in their docstrings, and what they refuse."""

import doctest
import importlib

import numpy as np
import pytest

import wss
from wss.errors import DataError, UsageError

EXAMPLES = ("wss", "wss.api", "wss.losses", "wss.ops", "wss.metrics", "wss.scribbles")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_say_what_comes_out(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WSS_WORKSPACE", raising=False)
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted > 2
    assert done.failed == 0


def test_everything_named_is_there():
    assert all(getattr(wss, name) is not None for name in wss.__all__)
    assert set(wss.__all__) <= set(dir(wss))
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        wss.trane  # noqa: B018


def test_samples_of_the_same_number_are_equal():
    first, again = wss.sample(5), wss.sample(5)
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != wss.sample(5, "val").image).any()
    drawn = first.scribble != 255
    assert (first.scribble[drawn] == first.mask[drawn]).mean() > 0.9


@pytest.mark.parametrize("method", ["graph-cut", "random-walk", "densecrf", "grabcut", "superpixel"])
def test_every_propagation_keeps_the_scribbles(method):
    photo = wss.sample(1)
    labels = wss.propagate(photo.image, photo.scribble, method)
    drawn = photo.scribble != 255
    assert labels.dtype == np.uint8 and labels.shape == photo.scribble.shape
    np.testing.assert_array_equal(labels[drawn], photo.scribble[drawn])


def test_propagation_uses_edges_and_settings():
    photo = wss.sample(1)
    plain = wss.propagate(photo.image, photo.scribble, "random-walk")
    walls = np.zeros(photo.scribble.shape, np.float32)
    walls[:, 64] = 1
    assert (wss.propagate(photo.image, photo.scribble, "random-walk", edges=walls) != plain).any()
    assert (wss.propagate(photo.image, photo.scribble, "densecrf", bi_rgb_std=1.0) != plain).any()
    nothing = np.full(photo.scribble.shape, 255, np.uint8)
    assert (wss.propagate(photo.image, nothing) == 255).all()


def test_unusable_arguments_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = wss.sample(1)
    with pytest.raises(UsageError, match="graph-cut"):
        wss.propagate(photo.image, photo.scribble, "graphcut")
    with pytest.raises(UsageError, match="no method 'features'"):
        wss.propagate(photo.image, photo.scribble, "features")
    with pytest.raises(UsageError, match="leave out name"):
        wss.propagate(photo.image, photo.scribble, "densecrf", name="superpixel")
    with pytest.raises(DataError, match="NumPy arrays"):
        wss.propagate(photo.image.tolist(), photo.scribble)
    with pytest.raises(UsageError, match="whole number"):
        wss.propagate(photo.image, photo.scribble, num_classes="7")
    for number, split in ((-1, "train"), (0, "test"), (1.5, "val")):
        with pytest.raises(UsageError, match="a split, train or val"):
            wss.sample(number, split)
    for settings in ({"train": 4}, ["train.batch_size=4"]):
        with pytest.raises(UsageError, match="parameters by stage"):
            wss.train(settings=settings)
    with pytest.raises(UsageError, match="method is a name"):
        wss.train(None)
    with pytest.raises(UsageError, match="does not use edges"):
        wss.propagate(photo.image, photo.scribble, edges=np.zeros((96, 128), np.float32))
    with pytest.raises(UsageError, match="smooth"):
        wss.propagate(photo.image, photo.scribble, smooth=3)
    with pytest.raises(DataError, match="96, 128"):
        wss.propagate(photo.image, photo.scribble[:50])
    with pytest.raises(UsageError, match=r"no such folder|wss init"):
        wss.open_workspace(tmp_path / "nothing")
    with pytest.raises(UsageError, match="wss init"):
        wss.train(workspace=tmp_path)
    with pytest.raises(UsageError, match="no pipeline 'pcee'"):
        wss.run("pcee")


def test_settings_may_hold_numbers_of_numpy_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phases = {"*": {"epochs": None, "steps": np.int64(1), "lr": np.float32(0.5)}}
    network = wss.train(settings={"train": {"phases": phases, "batch_size": np.int64(2), "validate_every": 0}})
    assert "numpy" not in (tmp_path / "state.yaml").read_text()
    photo = wss.sample(0, "val")
    assert network(photo.image).dtype == np.uint8
    for wrong in (photo.image / 255, photo.image[..., 0], photo.image[:0], photo.image.astype(np.uint16), [[1]]):
        with pytest.raises(DataError, match=r"expected an RGB image"):
            network(wrong)
        with pytest.raises(DataError, match=r"expected an RGB image"):
            network.probabilities(wrong)
