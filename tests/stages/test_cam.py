"""Class activation maps and the seeds that are taken from them."""

import json

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import wss.stages.cam
import wss.stages.seeds
from wss.errors import DataError, UsageError
from wss.metrics import average_precision
from wss.pipeline.document import read_pipeline
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.cam import activation, class_maps
from wss.stages.seeds import box_seeds, sec_seeds, spml_seeds
from wss.stages.stage import Context, Silent

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}


class Red(nn.Module):
    """Scores: 0, how red a pixel is, how blue, and how far right it is."""

    def forward(self, rgb):
        right = torch.linspace(0, 1, rgb.shape[3]).expand_as(rgb[:, 0])
        return torch.stack([torch.zeros_like(rgb[:, 0]), rgb[:, 0] - 100, rgb[:, 2] - 200, right], 1)


def _image():
    image = torch.full((8, 12, 3), 50, dtype=torch.uint8)
    image[2:6, 4:8, 0] = 220
    return image


def test_maps_of_a_known_network():
    maps = class_maps(Red(), _image(), [1.0], flip=False)
    assert maps.shape == (4, 8, 12)
    assert (maps[1, 2:6, 4:8] == 120).all()
    cam = activation(maps, [1, 2])
    assert (cam[1] == (maps[1] > 0)).all()  # 220 is the peak, 50 below zero
    assert (cam[2] == 0).all()  # no pixel has a positive score
    assert (cam[0] == 0).all()
    assert (cam[3] == 0).all()  # not asked for
    assert activation(maps, [1, 3])[3].max() == 1
    assert (activation(maps, []) == 0).all()


def test_scales_and_mirrors_are_averaged_in_the_image_s_frame():
    image = _image()
    plain = class_maps(Red(), image, [1.0], flip=False)
    mirrored = class_maps(Red(), image, [1.0], flip=True)
    torch.testing.assert_close(mirrored[:3], plain[:3])
    torch.testing.assert_close(mirrored[3], torch.full((8, 12), 0.5))  # right in one is left in the other
    several = class_maps(Red(), image, [1.0, 2.0], flip=False)
    doubled = class_maps(Red(), image, [2.0], flip=False)
    torch.testing.assert_close(several, (plain + doubled) / 2)
    assert class_maps(Red(), image, [0.05, 1.3], flip=True).shape == (4, 8, 12)


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_seeds_by_hand():
    cam = np.zeros((3, 2, 5), np.float16)
    cam[1] = [[1.0, 0.6, 0.3, 0.1, 0.05], [0.5, 0.4, 0.2, 0.19, 0.0]]
    cam[2, 0, :2] = 0.3, 1.0
    marked = sec_seeds(cam, threshold=0.2, background=0, background_share=0.2)
    assert marked.dtype == np.uint8
    assert marked.tolist() == [[2, 2, 1, 255, 0], [1, 1, 1, 255, 0]]  # class 2 is the smaller; 0.0 and 0.05 are lowest
    assert sec_seeds(cam, threshold=0.2, background=None, background_share=0.2).tolist()[0] == [2, 2, 1, 255, 255]
    assert sec_seeds(cam, threshold=1.0, background=0, background_share=0).tolist() == [
        [1, 2, 255, 255, 255],
        [255, 255, 255, 255, 255],
    ]


def test_pixels_without_any_activation_are_background_together():
    cam = np.zeros((3, 4, 4), np.float16)
    cam[1, :2] = 0.1
    cam[1, 0, 0] = 1
    marked = sec_seeds(cam, threshold=0.2, background=0, background_share=0.1)
    assert (marked[2:] == 0).all()
    assert marked[0, 0] == 1
    assert (marked == 255).sum() == 7
    assert (sec_seeds(cam * 0, threshold=0.2, background=0, background_share=0.1) == 0).all()


def test_seeds_are_class_seeds_even_where_activation_is_lowest():
    cam = np.ones((2, 3, 3), np.float16)
    assert (sec_seeds(cam, threshold=0.2, background=0, background_share=0.1) == 1).all()


def test_more_share_and_lower_thresholds_mark_more():
    cam = np.random.default_rng(0).random((4, 20, 20)).astype(np.float16)
    cam[0] = 0
    cam[1:] **= 6
    background = [
        (sec_seeds(cam, threshold=0.9, background=0, background_share=s) == 0).mean() for s in (0.1, 0.3, 0.6)
    ]
    assert background == sorted(background)
    assert background[0] == pytest.approx(0.1, abs=0.02)
    marked = [
        (sec_seeds(cam, threshold=t, background=None, background_share=0.1) != 255).mean() for t in (0.9, 0.5, 0.2)
    ]
    assert marked == sorted(marked)


def test_floors_by_hand():
    maps = torch.tensor(
        [[[0.0, 0.0, 0.0, 0.0]], [[4.0, 2.0, 1.0, 1.0]], [[-4.0, -2.0, -1.0, -1.0]], [[9.0, 1.0, 1.0, 1.0]]]
    )
    assert activation(maps, [1, 2]).tolist()[1:] == [[[1, 0.5, 0.25, 0.25]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]]
    assert activation(maps, [1, 2], "mean").tolist()[1:] == [[[1, 0, 0, 0]], [[0, 0, 1, 1]], [[0, 0, 0, 0]]]
    lowest = activation(maps, [1, 2], "minimum")
    torch.testing.assert_close(lowest[1:3, 0], torch.tensor([[3.0, 1, 0, 0], [0, 2, 3, 3]]) / 3)
    for floor in ("mean", "minimum"):
        assert (activation(maps, [0], floor) == 0).all()  # constant
        assert (activation(maps, [], floor) == 0).all()
        torch.testing.assert_close(activation(maps * 3 + 5, [1, 2], floor), activation(maps, [1, 2], floor))


def test_boxes_see_the_scores_themselves_above_the_minimum():
    scores = torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(0))
    cam = activation(scores, [1], "minimum").numpy()
    boxes = np.array([[1, 2, 3, 7, 8]], np.int32)
    part = scores[1, 3:9, 2:8].numpy()
    expected = (part - part.min()) / (part.max() - part.min()) >= 0.5
    assert ((box_seeds(cam, boxes, threshold=0.5, background=0)[3:9, 2:8] == 1) == expected).all()


def test_spml_seeds_by_hand():
    # background confidences at exponent 2: 1, .25, .36, .04, .16
    cam = np.array([[[0, 0, 0, 0, 0]], [[0, 0.5, 0.3, 0.8, 0.1]], [[0, 0.2, 0.4, 0.1, 0.6]]], np.float16)
    for threshold, expected in (
        (0.0, [0, 1, 2, 1, 2]),
        (0.45, [0, 1, 255, 1, 2]),
        (0.7, [0, 255, 255, 1, 255]),
        (1.0, [0, 255, 255, 255, 255]),
    ):
        assert spml_seeds(cam, threshold=threshold, background=0, exponent=2)[0].tolist() == expected
    assert spml_seeds(cam, threshold=0.45, background=None, exponent=2)[0].tolist() == [255, 1, 255, 1, 2]
    assert spml_seeds(cam, threshold=0.0, background=None, exponent=2)[0].tolist() == [255, 1, 2, 1, 2]


def test_with_spml_s_numbers_every_pixel_is_labelled_and_the_border_lies_at_0_222():
    cam = np.zeros((2, 1, 1001))
    cam[1, 0] = np.linspace(0, 1, 1001)
    marked = spml_seeds(cam, threshold=0.2, background=0, exponent=6)[0]
    assert (marked[cam[1, 0] < 0.2219] == 0).all()
    assert (marked[cam[1, 0] > 0.222] == 1).all()
    open_ones = cam[1, 0][spml_seeds(cam, threshold=0.3, background=0, exponent=6)[0] == 255]
    assert open_ones.min() == pytest.approx(1 - 0.3 ** (1 / 6), abs=1.5e-3)
    assert open_ones.max() == pytest.approx(0.3, abs=1.5e-3)


def test_a_larger_exponent_gives_less_background():
    cam = np.random.default_rng(0).random((3, 30, 30)) ** 3
    cam[0] = 0
    shares = [(spml_seeds(cam, threshold=0, background=0, exponent=e) == 0).mean() for e in (1, 2, 6, 20)]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[-1]


def test_box_seeds_by_hand():
    cam = np.zeros((3, 4, 6), np.float16)
    cam[1] = np.arange(6) * 0.125  # from left to right
    cam[2] = np.arange(4)[:, None] * 0.25  # from top to bottom
    boxes = np.array([[2, 3, 1, 4, 3], [1, 1, 0, 4, 3]], np.int32)
    marked = box_seeds(cam, boxes, threshold=0.5, background=0)
    assert marked.tolist() == [
        [0, 255, 255, 1, 1, 0],
        [0, 255, 255, 1, 1, 0],  # in the smaller box, what is not of its class stays with the larger
        [0, 255, 255, 2, 2, 0],
        [0, 255, 255, 2, 2, 0],
    ]
    assert (box_seeds(cam, boxes[::-1], threshold=0.5, background=0) == marked).all()
    assert (box_seeds(cam * 2 + 0.25, boxes, threshold=0.5, background=0) == marked).all()  # each box has its own scale
    assert (box_seeds(cam, boxes, threshold=1.0, background=None)[:3] == [[255] * 4 + [1, 255]] * 3).all()
    none = np.zeros((0, 5), np.int32)
    assert (box_seeds(cam, none, threshold=0.5, background=0) == 0).all()


def test_a_box_without_activity_or_outside_the_image_stays_open():
    cam = np.zeros((2, 3, 3), np.float16)
    boxes = np.array([[1, 0, 0, 1, 1], [1, 9, 9, 12, 12], [1, 2, 2, 2, 2]], np.int32)
    for level in (0.0, 0.7):
        marked = box_seeds(cam + level, boxes, threshold=0.5, background=0)
        assert marked.tolist() == [[255, 255, 0], [255, 255, 0], [0, 0, 255]]


# --- stages ----------------------------------------------------------------------------------------------------------


def _run(folder, target, changes=None, name="sec"):
    short = {"phases": {"*": {"epochs": 1}}, "augment": {"crop": 32}, "validation_split": None}
    changes = {"train*": short, "cam*": {"scales": [1.0, 1.5]}, **(changes or {})}
    pipeline = load_pipeline(find_pipeline(name), changes, {"dataset": DATASET})
    return run_pipeline(pipeline.up_to(target), Workspace(folder), Context())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sec")
    return folder, _run(folder, "report")


def test_maps_are_zero_but_for_the_image_s_classes(done):
    samples, labels, cam = (done[1][n].store for n in ("samples", "tags", "cam"))
    assert cam.ids == samples.meta["splits"]["train"]
    for image_id in cam.ids:
        maps, tags = cam.get("cam", image_id), labels.get("tags", image_id)
        assert maps.dtype == np.float16
        assert maps.shape == (7, *samples.get("image", image_id).shape[:2])
        peaks = maps.max((1, 2))
        assert (peaks[tags == 0] == 0).all()
        assert peaks[0] == 0
        assert set(peaks[1:][tags[1:] == 1].tolist()) <= {0.0, 1.0}
        assert maps.min() >= 0
    scores = np.stack([cam.get("scores", i) for i in cam.ids])
    present = np.stack([labels.get("tags", i) for i in cam.ids]) == 1
    for name, value in cam.meta["average_precision"].items():
        expected = average_precision(scores[:, int(name)], present[:, int(name)])
        assert value == (None if np.isnan(expected) else pytest.approx(expected))
    assert set(cam.meta["average_precision"]) == {"1", "2", "3", "4", "5", "6"}
    json.dumps(cam.meta, allow_nan=False)


def test_seeds_keep_their_tags_and_say_what_they_are(done):
    labels, cam, marked = (done[1][n].store for n in ("tags", "cam", "seeds"))
    assert marked.ids == cam.ids
    assert marked.meta == {"annotation": "tag", "simulated": True, "options": {}}
    for image_id in marked.ids:
        assert (marked.get("tags", image_id) == labels.get("tags", image_id)).all()
        values = np.unique(marked.get("labels", image_id))
        assert set(values.tolist()) <= {255, *np.flatnonzero(labels.get("tags", image_id)).tolist()}
        expected = sec_seeds(cam.get("cam", image_id), threshold=0.2, background=0, background_share=0.1)
        assert (marked.get("labels", image_id) == expected).all()


def test_the_report_says_that_tags_were_the_supervision(done):
    page = (done[0] / "report.html").read_text()
    assert "image tags" in page
    assert "upper bound" not in page


def test_other_seeds_are_named(done):
    changes = {"seeds": {"method": {"threshold": 0.5, "background_share": 0.3}}, "tags": {"fraction": 0.5}}
    marked = _run(done[0], "seeds", changes)["seeds"].store
    assert marked.meta["options"] == {"fraction": 0.5, "threshold": 0.5, "background_share": 0.3}
    assert len(marked) == 2


def test_the_rules_of_spml(done, tmp_path):
    marked = _run(done[0], "seeds", {"seeds": {"method": {"name": "spml", "threshold": 0.4}}})["seeds"].store
    assert marked.meta["options"] == {"threshold": 0.4}
    cam = done[1]["cam"].store
    for image_id in marked.ids:
        expected = spml_seeds(cam.get("cam", image_id), threshold=0.4, background=0, exponent=6)
        assert (marked.get("labels", image_id) == expected).all()
    with pytest.raises(UsageError, match=r"the labels of 'train-0000' have none .*--annotation box"):
        _run(done[0], "seeds", {"seeds": {"method": {"name": "box"}}})


def test_boxes_from_the_data_set_to_seeds_and_a_network(tmp_path):
    document = read_pipeline(find_pipeline("sec"))
    stages = {stage.get("id", stage["stage"]): stage for stage in document["stages"]}
    stages["tags"]["params"] = {"annotation": "box"}
    stages["train"]["params"]["method"] = {"name": "pce"}
    stages["train"]["params"]["phases"][0]["terms"] = {"pce": 1}
    path = tmp_path / "boxes.yaml"
    path.write_text(yaml.safe_dump(document))
    done = _run(tmp_path, "report", {"seeds": {"method": {"name": "box"}}}, name=str(path))
    boxes, cam, marked = (done[n].store for n in ("tags", "cam", "seeds"))
    assert marked.meta == {"annotation": "box", "simulated": False, "options": {}}
    for image_id in marked.ids:
        given = boxes.get("boxes", image_id)
        assert (marked.get("boxes", image_id) == given).all()
        assert (marked.get("tags", image_id) == boxes.get("tags", image_id)).all()
        expected = box_seeds(cam.get("cam", image_id), given, threshold=0.5, background=0)
        assert (marked.get("labels", image_id) == expected).all()
        assert (expected[boxes.get("labels", image_id) == 0] == 0).all()
    page = (tmp_path / "report.html").read_text()
    assert "upper bound" not in page
    assert ">boxes<" in page


@pytest.mark.parametrize(
    ("node", "module", "function"), [("cam", wss.stages.cam, "activation"), ("seeds", wss.stages.seeds, "_seeds")]
)
def test_resumes_with_the_remaining_images(done, monkeypatch, node, module, function):
    expected = done[1][node].store
    content = expected.path.read_bytes()
    expected.path.unlink()
    real, calls = getattr(module, function), []

    def counted(*arguments, **named):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(module, function, counted)
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        _run(done[0], node)
    stop = -1
    again = _run(done[0], node)[node].store
    assert len(calls) == 4
    assert again.digest == expected.digest
    expected.path.write_bytes(content)


def test_a_network_that_is_no_classifier_is_refused(done, tmp_path):
    document = yaml.safe_load(find_pipeline("sec").read_text())
    other = {"id": "cam-2", "stage": "cam", "inputs": {"samples": "samples", "labels": "tags", "model": "train"}}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**document, "stages": [*document["stages"][:7], other]}))
    with pytest.raises(UsageError, match=r"trained with the method 'classifier', but this one was trained with 'sec'"):
        _run(done[0], "cam-2", name=str(path))


def test_a_split_without_tags_is_refused(done, tmp_path):
    document = read_pipeline(find_pipeline("sec"))
    scribbles = {"id": "scribbles", "stage": "prepare", "inputs": {"samples": "samples"}}
    other = {
        "id": "cam-2",
        "stage": "cam",
        "inputs": {"samples": "samples", "labels": "scribbles", "model": "train-classifier"},
    }
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**document, "stages": [*document["stages"][:3], scribbles, other]}))
    with pytest.raises(DataError, match="no image of split 'train' has tags"):
        _run(done[0], "cam-2", name=str(path))


@pytest.mark.parametrize("augment", [{"crop": 16}, {"crop": None, "resize": 32}])
def test_crops_of_images_with_tags_are_doubted(done, augment):
    class Heard(Silent):
        lines = []

        def say(self, message):
            self.lines.append(message)

    changes = {"train*": {"phases": {"*": {"epochs": 1}}, "augment": augment, "validation_split": None}}
    pipeline = load_pipeline(find_pipeline("sec"), changes, {"dataset": DATASET}).up_to("train-classifier")
    Heard.lines = []
    run_pipeline(pipeline, Workspace(done[0]), Context(progress=Heard()))
    assert any("a crop may lack a tagged class" in line for line in Heard.lines) == (augment["crop"] is not None)
