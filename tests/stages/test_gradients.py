"""The gradients stage on an image made by hand: a bright square on dark ground."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from stores import written

from wss.errors import UsageError
from wss.methods.regularised_losses import DenseCRF, KernelCut, NormalizedCut
from wss.params import validate
from wss.stages.gradients import STAGE, GradientsParams, gradient
from wss.stages.stage import Context, Inputs
from wss.store import PICTURES, PREDICTIONS, SAMPLES, Store, StoreWriter

SQUARE = np.zeros((16, 16), bool)
SQUARE[4:12, 4:12] = True
SIGMAS = {"sigma_rgb": 15.0, "sigma_xy": 100.0}


def _probs(share):
    """Probabilities of background, square and a third class: ``share`` of the square is seen, and nothing is certain."""
    probs = np.full((3, 16, 16), 0.05, np.float16)
    seen = SQUARE.copy()
    seen[:, int(16 * share) :] = False
    probs[0], probs[1, seen], probs[0, seen] = 0.9, 0.9, 0.05
    return probs


@pytest.fixture
def inputs(tmp_path):
    image = np.full((16, 16, 3), 20, np.uint8)
    image[SQUARE] = 220
    names = [f"i{n}" for n in range(4)]
    samples = written(
        tmp_path / "samples.h5",
        SAMPLES,
        {n: {"image": image} for n in names},
        classes=["background", "square", "cat"],
        background=0,
    )

    def with_predictions(probs, drop=False):
        rows = {n: {"labels": probs.argmax(0).astype(np.uint8)} | ({} if drop else {"probs": probs}) for n in names}
        predictions = written(tmp_path / "predictions.h5", PREDICTIONS, rows)
        return Inputs({"samples": (samples,), "predictions": (predictions,)})

    return with_predictions


def _run(path, inputs, **params):
    writer = StoreWriter(path, PICTURES, {"key": path.stem})
    STAGE.run(validate(GradientsParams, params, "test"), inputs, writer, Context())
    writer.finish({})
    return Store(path, PICTURES)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *itertools.product(["densecrf", "ncut", "kernelcut"], [{"sigma_rgb": 400.0}, {"sigma_xy": 3.0}]),
        ("kernelcut", {"gamma": 50.0}),
    ],
)
def test_pictures_have_the_settings_of_their_losses(inputs, tmp_path, name, changed):
    """Fig. 1 shows the gradients of training only if the bandwidths are those of training."""
    given = inputs(_probs(0.5))
    plain = _run(tmp_path / "plain.h5", given, losses=[{"name": name}], images=1).get("tiles", "i0")
    other = _run(tmp_path / "other.h5", given, losses=[{"name": name, **changed}], images=1).get("tiles", "i0")
    assert (plain[0] == other[0]).all()
    assert (plain[1] != other[1]).any()


def test_the_pictures_are_of_the_class_and_its_missing_part_turns_red(inputs, tmp_path):
    store = _run(tmp_path / "out.h5", inputs(_probs(0.5)), losses=[{"name": "ncut", **SIGMAS}], images=2)
    assert store.meta["captions"] == ["Network output", "NC gradient"]
    assert store.ids == ["i0", "i2"]
    assert "segment of square" in store.meta["titles"]["i0"]
    output, gradients = store.get("tiles", "i0")
    assert output[8, 5].tolist() == [229] * 3  # 0.9 in half precision, of 255
    assert output[8, 10].tolist() == [13] * 3
    missing, ground = SQUARE.copy(), ~SQUARE
    missing[:, :8] = False
    assert (gradients[missing][:, 0] > 100).all()  # red: the loss asks for the rest of the square
    assert (gradients[missing][:, 1] == 0).all()
    assert (gradients[ground][:, 1] > 0).all()  # yellow: and for less of it outside
    assert (gradients[..., 2] == 0).all()


def test_there_is_a_picture_of_each_loss(inputs, tmp_path):
    store = _run(tmp_path / "out.h5", inputs(_probs(1)))
    assert store.meta["captions"] == ["Network output", "NC gradient", "CRF gradient", "KC gradient"]
    assert store.get("tiles", "i3").shape == (4, 16, 16, 3)
    assert len(store.ids) == 4


def test_where_only_background_is_predicted_the_likeliest_class_is_shown(inputs, tmp_path):
    probs = np.stack([np.full((16, 16), p, np.float16) for p in (0.7, 0.1, 0.2)])
    store = _run(tmp_path / "out.h5", inputs(probs))
    assert "segment of cat" in store.meta["titles"]["i0"]


def test_needs_probabilities(inputs, tmp_path):
    with pytest.raises(UsageError, match="probs: true"):
        _run(tmp_path / "out.h5", inputs(_probs(1), drop=True))


def test_gradients_are_those_of_the_equations():
    """(11): -2 W S, here of the share that is cut; kernel cut is the sum of both."""
    rng = np.random.default_rng(0)
    rgb = torch.from_numpy(rng.integers(0, 256, (1, 3, 5, 6))).float()
    probs = torch.from_numpy(rng.dirichlet(np.ones(3), 30).T.reshape(1, 3, 5, 6)).float()
    crf = gradient(DenseCRF(**SIGMAS), probs, rgb)
    cut = gradient(NormalizedCut(**SIGMAS), probs, rgb)
    both = gradient(KernelCut(**SIGMAS, gamma=0.2), probs, rgb)
    assert (crf < 0).all()
    assert (cut < 0).any()
    assert (cut > 0).any()
    torch.testing.assert_close(both, crf + 0.2 * cut)
    assert not probs.requires_grad
    # With respect to the scores z: dR/dz_k = S_k (g_k - sum_j S_j g_j).
    expected = probs * (crf - (probs * crf).sum(1, keepdim=True))
    torch.testing.assert_close(gradient(DenseCRF(**SIGMAS), probs, rgb, "score"), expected, atol=1e-7, rtol=1e-4)


def test_gradients_of_scores_say_what_the_network_is_told(inputs, tmp_path):
    losses = [{"name": "densecrf", **SIGMAS}]
    store = _run(tmp_path / "out.h5", inputs(_probs(0.5)), losses=losses, of="score")
    assert "score of square: red (negative) asks for more" in store.meta["titles"]["i0"]
    gradients = store.get("tiles", "i0")[1]
    missing = SQUARE.copy()
    missing[:, :8] = False
    assert (gradients[missing][:, 0] > gradients[missing][:, 1]).all()
    assert (gradients[~SQUARE][:, 0] == gradients[~SQUARE][:, 1]).all()
    assert gradients[~SQUARE].any()
