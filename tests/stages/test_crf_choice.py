"""The choice of CRF settings by labels of training images: it gains where the CRF helps and steps back where it harms."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.stages.stores import written
from tests.told import Told
from wss.errors import UsageError
from wss.params import validate
from wss.pipeline.spec import load_pipeline
from wss.stages import crf_choice
from wss.stages.crf import STAGE
from wss.stages.crf_choice import NONE, PUBLISHED, candidates, choose
from wss.stages.crf_kernels import CrfParams
from wss.stages.similarity_walk import SimilarityWalkParams
from wss.stages.stage import Context, Inputs
from wss.store import LABELS, MODEL, PREDICTIONS, SAMPLES, Store, StoreWriter

SIZE = (40, 48)


class FromRed(nn.Module):
    """Two classes by the red channel, with an error of a checkerboard where the blue channel is set."""

    def forward(self, rgb):
        score = (rgb[:, :1] - 100) / 50
        rows, columns = torch.meshgrid(*(torch.arange(n) for n in rgb.shape[2:]), indexing="ij")
        flip = ((rows // 2 + columns // 2) % 3 == 0) & (rgb[:, 2:] > 50)
        score = torch.where(flip, -score, score)
        return torch.cat([-score, score], 1)


def _scene(kind, seed):
    """An image and its mask: a bright rectangle with noisy predictions, or thin lines that the network finds."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(SIZE, np.uint8)
    image = np.zeros((*SIZE, 3), np.uint8)
    if kind == "noisy":
        top, left = generator.integers(4, 12, 2)
        mask[top : top + 20, left : left + 24] = 1
        image[..., 2] = 90
    else:
        mask[:: generator.integers(6, 9)] = 1
    image[..., 0] = np.where(mask, 150, 50)
    if kind == "lines":  # hardly darker than what is around them
        image[..., 0] = np.where(mask, 108, 94)
    return image, mask


def _stores(tmp_path, kind, labels_of=lambda mask: mask, model="train", held_out=lambda mask: mask):
    """Four training images, and one of the scored split, which has labels too (``held_out``)."""
    scenes = {f"t{n}": _scene(kind, n) for n in range(4)} | {"v0": _scene(kind, 9)}
    names = {"classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]]}
    samples = written(
        tmp_path / "samples.h5",
        SAMPLES,
        {i: {"image": s[0]} for i, s in scenes.items()},
        splits={"train": [i for i in scenes if i != "v0"], "val": ["v0"]},
        **names,
    )
    labels = written(
        tmp_path / "labels.h5",
        LABELS,
        {i: {"labels": (held_out if i == "v0" else labels_of)(s[1])} for i, s in scenes.items()},
        annotation="scribble",
    )
    image = torch.from_numpy(scenes["v0"][0]).permute(2, 0, 1)[None].float()
    probs = FromRed()(image).softmax(1)[0].numpy()
    predictions = written(
        tmp_path / "predict.h5",
        PREDICTIONS,
        {"v0": {"labels": probs.argmax(0).astype(np.uint8), "probs": probs.astype(np.float16)}},
        split="val",
        crf=None,
        model=model,
        test_time={"scales": [1.0]},
        bfloat16=None,
        **names,
    )
    writer = StoreWriter(tmp_path / "train.h5", MODEL, {"key": "train", "params": '{"split": "train"}'})
    writer.finish({})
    trained = Store(tmp_path / "train.h5", MODEL)
    return {"samples": samples, "predictions": predictions, "model": trained, "labels": labels}, scenes["v0"][1]


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setattr(crf_choice, "build_model", lambda store: FromRed())


def _run(stores, tmp_path, **params):
    told = Told()
    output = StoreWriter(tmp_path / "out.h5", PREDICTIONS, {"key": "out"})
    inputs = Inputs({role: (store,) for role, store in stores.items()})
    STAGE.run(CrfParams(preset="auto", **params), inputs, output, Context(progress=told))
    output.finish({})
    return Store(tmp_path / "out.h5", PREDICTIONS), told.lines


def test_settings_that_help_on_training_images_are_used(tmp_path):
    stores, truth = _stores(tmp_path, "noisy")
    out, told = _run(stores, tmp_path)
    choice = out.meta["crf_choice"]
    assert choice["chosen"] != NONE and choice["images"] == 4
    scores = choice["miou_on_training_labels"]
    assert scores[choice["chosen"]] == max(scores.values()) > scores[NONE] + 0.05
    assert out.meta["crf"]["iterations"] == 10 and out.meta["crf"]["bi_weight"] > 0
    before = (stores["predictions"].get("labels", "v0") == truth).mean()
    assert (out.get("labels", "v0") == truth).mean() > before + 0.05
    assert told == [
        f"crf: {choice['chosen']}: mIoU {scores[choice['chosen']]:.3f} on labelled pixels of 4 training images, "
        f"{scores[NONE]:.3f} without CRF"
    ]


def test_a_crf_that_harms_is_left_out(tmp_path):
    stores, _ = _stores(tmp_path, "lines")
    out, told = _run(stores, tmp_path)
    scores = out.meta["crf_choice"]["miou_on_training_labels"]
    assert min(scores.values()) < 0.9, "no candidate harms, so that the test tells nothing"
    assert out.meta["crf_choice"]["chosen"] == NONE and out.meta["crf"] is None
    np.testing.assert_array_equal(out.get("labels", "v0"), stores["predictions"].get("labels", "v0"))
    assert "left out" in told[0]


def test_a_crf_that_was_asked_for_is_not_left_out(tmp_path):
    stores, _ = _stores(tmp_path, "lines")
    out, told = _run(stores, tmp_path, may_leave_out=False)
    choice = out.meta["crf_choice"]
    scores = {name: score for name, score in choice["miou_on_training_labels"].items() if name != NONE}
    assert choice["chosen"] == max(scores, key=scores.get) and out.meta["crf"] is not None
    assert "no setting gains there" in told[0]


@pytest.mark.parametrize("labels_of", [lambda mask: np.full_like(mask, 255), lambda mask: np.where(mask == 1, 255, 0)])
def test_without_labels_of_two_classes_the_usual_preset_is_used_and_said(tmp_path, labels_of):
    stores, _ = _stores(tmp_path, "noisy", lambda mask: labels_of(mask).astype(np.uint8))
    out, told = _run(stores, tmp_path)
    assert out.meta["crf_choice"] == {"chosen": "resnet101", "images": 0, "miou_on_training_labels": {}}
    assert "fewer than two classes" in told[0]
    assert out.meta["crf"] == {"iterations": 10, **CrfParams().kernels()}


def test_only_labelled_pixels_decide(tmp_path):
    """Labels on the upper half, where all is flat: the noise of the lower half cannot tell."""
    stores, _ = _stores(tmp_path, "noisy")
    choice = choose(
        CrfParams(preset="auto"), *(stores[r] for r in ("samples", "predictions", "model", "labels")), Context()
    )
    full = choice.scores[NONE]
    (tmp_path / "part").mkdir()
    right = FromRed()

    def where_right(mask):
        image = (
            torch.from_numpy(np.dstack([np.where(mask, 150, 50), 0 * mask, 0 * mask + 90]))
            .permute(2, 0, 1)[None]
            .float()
        )
        return np.where(right(image).argmax(1)[0].numpy() == mask, mask, 255).astype(np.uint8)

    stores, _ = _stores(tmp_path / "part", "noisy", where_right)
    choice = choose(
        CrfParams(preset="auto"), *(stores[r] for r in ("samples", "predictions", "model", "labels")), Context()
    )
    assert full < 0.8 and choice.scores[NONE] == 1.0


def test_another_network_is_refused(tmp_path):
    stores, _ = _stores(tmp_path, "noisy", model="other")
    with pytest.raises(UsageError, match="did not make the input `predictions`"):
        _run(stores, tmp_path)


def test_large_images_are_cut_around_their_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(crf_choice, "WINDOW", 16)
    seen = []
    refine = crf_choice.refine
    monkeypatch.setattr(
        crf_choice, "refine", lambda p, image, *rest: seen.append(image.shape) or refine(p, image, *rest)
    )

    def corner(mask):
        labels = np.full_like(mask, 255)
        labels[30:38, 40:46], labels[28, 38] = 0, 1
        return labels

    stores, _ = _stores(tmp_path, "noisy", corner)
    out, _ = _run(stores, tmp_path)
    assert set(seen) == {(16, 16, 3)} and out.meta["crf_choice"]["images"] == 4


def test_few_large_images_decide(tmp_path, monkeypatch):
    monkeypatch.setattr(crf_choice, "PIXELS", 2 * SIZE[0] * SIZE[1])
    stores, _ = _stores(tmp_path, "noisy")
    assert _run(stores, tmp_path)[0].meta["crf_choice"]["images"] == 2


def test_labels_of_the_scored_split_are_never_read(tmp_path):
    def background_only(mask):
        return np.zeros_like(mask)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    stores, _ = _stores(tmp_path / "a", "noisy", background_only)  # only the scored image has labels of both classes
    out, told = _run(stores, tmp_path / "a")
    assert out.meta["crf_choice"]["images"] == 0 and "fewer than two classes" in told[-1]
    wrong, _ = _stores(tmp_path / "b", "noisy", held_out=lambda mask: 1 - mask)
    right, _ = _stores(tmp_path, "noisy")
    choices = [
        _run(stores, place)[0].meta["crf_choice"] for stores, place in ((wrong, tmp_path / "b"), (right, tmp_path))
    ]
    assert choices[0] == choices[1] and choices[0]["images"] == 4


def test_labels_in_opposite_corners_still_decide(tmp_path, monkeypatch):
    monkeypatch.setattr(crf_choice, "WINDOW", 16)

    def corners(mask):
        labels = np.full_like(mask, 255)
        labels[:4, -6:-3], labels[:4, -3:] = 0, 1
        labels[-3:, :3] = 0
        return labels

    stores, _ = _stores(tmp_path, "noisy", corners)
    choice = _run(stores, tmp_path)[0].meta["crf_choice"]
    assert choice["images"] == 4 and all(0 <= score <= 1 for score in choice["miou_on_training_labels"].values())


def test_one_large_image_leaves_the_small_ones(tmp_path, monkeypatch):
    size = SIZE[0] * SIZE[1]
    images = {"large": (4 * SIZE[0], SIZE[1])} | {f"s{n}": SIZE for n in range(6)}
    pixels = {i: {"image": np.zeros((*shape, 3), np.uint8)} for i, shape in images.items()}
    samples = written(tmp_path / "s.h5", SAMPLES, pixels, splits={"train": list(images)}, classes=["a", "b"])
    known = {i: {"labels": np.arange(h * w, dtype=np.uint8).reshape(h, w) % 2} for i, (h, w) in images.items()}
    labels = written(tmp_path / "l.h5", LABELS, known, annotation="scribble")
    monkeypatch.setattr(crf_choice, "PIXELS", 10 * size)
    assert list(crf_choice._deciding(samples, labels, "train")) == list(images)
    monkeypatch.setattr(crf_choice, "PIXELS", 8 * size)
    assert len(crf_choice._deciding(samples, labels, "train")) == 5


def test_scaled_candidates_follow_size_and_colours():
    generator = np.random.default_rng(0)
    small = [generator.integers(0, 100, (50, 50, 3), dtype=np.uint8)]
    large = [generator.integers(0, 200, (100, 100, 3), dtype=np.uint8)]
    for name, (share, *_) in crf_choice.SCALED.items():
        first, second = (candidates(CrfParams(preset="auto"), images)[name].kernels() for images in (small, large))
        assert first["bi_xy_std"] == pytest.approx(share * 50) and second["bi_xy_std"] == pytest.approx(share * 100)
        assert second["bi_rgb_std"] == pytest.approx(2 * first["bi_rgb_std"], rel=0.05)
    flat = candidates(CrfParams(preset="auto", iterations=3), [np.zeros((2, 1, 3), np.uint8)])
    assert set(PUBLISHED) < set(flat) and flat["wide"].bi_rgb_std > 0 and flat["wide"].iterations == 3


def test_auto_chooses_all_kernels():
    with pytest.raises(UsageError, match="preset auto chooses bi_rgb_std itself"):
        validate(CrfParams, {"preset": "auto", "bi_rgb_std": 5}, "crf")
    with pytest.raises(UsageError, match="for the stage `crf` alone"):
        validate(SimilarityWalkParams, {"crf": {"preset": "auto"}}, "walk")


def test_missing_inputs_are_refused_before_anything_runs(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "extends: pce\nstages:\n  - id: crf\n    inputs: {model: null}\n",
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match=r"preset: auto needs the input 'model'"):
        load_pipeline(path)


def test_a_named_preset_reads_neither_network_nor_labels(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("extends: pce\nstages:\n  - id: crf\n    params: {preset: msc}\n", encoding="utf-8")
    node = load_pipeline(path).nodes["crf"]
    assert not node.inputs.get("model") and not node.inputs.get("labels")
