"""Networks and stores for tests of the embedding stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stores import written
from torch import nn
from torch.nn import functional

import wss.stages.embedding
import wss.stages.predict
import wss.stages.prototypes
import wss.stages.retrieve
import wss.stages.similarity_walk
from wss.methods.coarse import cell_means
from wss.methods.spml import EmbeddingSegmenter
from wss.params import validate
from wss.stages import STAGES
from wss.stages.stage import Context, Inputs
from wss.store import CAM, LABELS, MODEL, SAMPLES, Store, StoreWriter

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


def mask_of(first, second):
    """Two classes on grey ground, both reaching under the last columns."""
    mask = np.zeros(SIZE, np.uint8)
    mask[2:12, 4:], mask[15:24, 4:] = first, second
    return mask


MASKS = {"a": mask_of(1, 2), "b": mask_of(2, 3), "c": mask_of(3, 1), "d": mask_of(1, 1), "v": mask_of(3, 2)}


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
        "samples": written(
            tmp_path / "samples.h5",
            SAMPLES,
            {i: {"image": image, "mask": MASKS[i]} for i, image in images.items()},
            splits={"train": list("abcd"), "val": ["v"], "none": []},
            **catalogue,
        ),
        "labels": written(tmp_path / "labels.h5", LABELS, {i: {"labels": s} for i, s in scribbles.items()}, **labels),
        "tags": written(
            tmp_path / "tags.h5",
            LABELS,
            {i: {"labels": np.full(SIZE, 255, np.uint8), "tags": t} for i, t in tags.items()},
            **{**labels, "annotation": "tag"},
        ),
        "cam": written(tmp_path / "cam.h5", CAM, cams),
        "model": written(
            tmp_path / "model.h5", MODEL, {}, method={"name": "spml"}, network={"name": "unet"}, initialisation={}
        ),
        "other model": written(tmp_path / "other.h5", MODEL, {}, method={"name": "spml"}),
    }


def run_of(tmp_path, stage, stores, name="out", **params):
    stage = STAGES[stage]
    inputs = Inputs({role: (stores[role],) for role in stage.inputs if role in stores})
    writer = StoreWriter(tmp_path / f"{name}.h5", stage.output, {"key": name})
    stage.run(validate(stage.params, params, "test"), inputs, writer, Context())
    writer.finish({})
    return Store(tmp_path / f"{name}.h5", stage.output)


def only_of(stores, *roles):
    return {role: stores[role] for role in ("samples", "model", *roles)}


def bank_of(stores, tmp_path, **params):
    stores["prototypes"] = run_of(tmp_path, "prototypes", stores, "prototypes", **params)
    return only_of(stores, "prototypes")
