"""Probabilities as stores keep them: labels after the CRF are those of the full ones."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, one_hot

from wss.datasets import open_source
from wss.errors import StoreError, UsageError
from wss.metrics import confusion_matrix, miou
from wss.stages.crf_kernels import PRESETS, CrfParams, refine
from wss.stages.probabilities import LEAST, kept, probabilities, require_probabilities
from wss.store import PREDICTIONS, Store, StoreWriter
from wss.store.codec import encode

CLASSES = 7
IMAGES = 4


def _scores(mask, seed, sharpness):
    """Class probabilities (K,H,W) like those of a network of stride 8: smooth, right for the most part, with doubts elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    height, width = mask.shape
    size = [height // 8, width // 8]
    truth = one_hot(torch.from_numpy(np.where(mask == 255, 0, mask)).long(), CLASSES).permute(2, 0, 1)[None].float()
    doubts = [interpolate(torch.randn(1, CLASSES, n, n, generator=generator), size, mode="bilinear") for n in (3, 8)]
    logits = sharpness * interpolate(truth, size, mode="area") + 1.8 * doubts[0] + 0.6 * doubts[1]
    return interpolate(logits, [height, width], mode="bilinear").softmax(1)[0].numpy()


@pytest.fixture(scope="module")
def scenes():
    source = open_source("sample", train=IMAGES, val=1)
    samples = [source.read(i) for i in source.catalogue.splits["train"]]
    return [(s.image, s.mask, _scores(s.mask, n, 6 + 2 * (n % 2))) for n, s in enumerate(samples)]


@pytest.mark.parametrize("preset", PRESETS)
def test_labels_and_scores_after_the_crf_stay(scenes, preset):
    params = CrfParams(preset=preset)
    different = pixels = 0
    totals = np.zeros((2, CLASSES, CLASSES), np.int64)
    for image, mask, probs in scenes:
        found = [
            refine(params, image, torch.from_numpy(p.astype(np.float32))).argmax(0).numpy().astype(np.uint8)
            for p in (probs, kept(probs))
        ]
        different += int((found[0] != found[1]).sum())
        pixels += mask.size
        totals += [confusion_matrix(mask, labels, CLASSES) for labels in found]
    assert different < 1e-4 * pixels
    scores = [miou(total) for total in totals]
    assert scores[0] > 0.5
    assert f"{scores[0]:.3f}" == f"{scores[1]:.3f}"


def test_small_values_are_zero_and_take_no_space(scenes):
    for _, _, probs in scenes:
        found = kept(probs)
        assert found.dtype == np.float16
        assert (found[probs < LEAST] == 0).all()
        assert (found[probs >= LEAST] > 0).all()
        np.testing.assert_allclose(found.astype(float), probs, rtol=1e-3, atol=1.01 * LEAST)
        np.testing.assert_allclose(found.astype(float).sum(0), 1, atol=CLASSES * LEAST + 2e-3)
    sure = np.full((20, 64, 64), 1e-5, np.float32)
    sure += np.random.default_rng(0).random(sure.shape, np.float32) * 1e-5
    sure[3] = 1 - np.delete(sure, 3, 0).sum(0)
    assert encode(kept(sure), True).length < 0.05 * encode(sure.astype(np.float16), True).length


def test_they_are_read_as_dense_floats(tmp_path, scenes):
    probs = scenes[0][2]
    writer = StoreWriter(tmp_path / "p.h5", PREDICTIONS, {"key": "k", "params": "{}", "inputs": "{}"})
    labels = probs.argmax(0).astype(np.uint8)
    writer.append("with", {"labels": labels, "probs": kept(probs)})
    writer.append("without", {"labels": labels})
    writer.finish({})
    store = Store(tmp_path / "p.h5", PREDICTIONS)
    found = probabilities(store, "with")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, kept(probs).astype(np.float32))
    require_probabilities(store, ["with"], "crf")
    with pytest.raises(UsageError, match="crf needs probabilities"):
        require_probabilities(store, store.ids, "crf")
    with pytest.raises(StoreError, match="has no probs"):
        probabilities(store, "without")
