"""Features of a frozen backbone are computed once, and training on them is training with the backbone."""

import numpy as np
import pytest
import torch

from wss.checkpoints import build_model, load_checkpoint
from wss.errors import UsageError
from wss.methods import METHODS, Batch, Segmenter
from wss.networks import NetworkSpec, build_network
from wss.networks.stored_features import compute_again, given_features, read_stored
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages import STAGES
from wss.stages.stage import Context
from wss.training.views import View, ViewSet, grids, seen, views_of

DATASET = {"kind": "sample", "options": {"train": 5, "val": 2, "height": 40, "width": 72}}
NETWORK = {"name": "light-decoder", "backbone": "mobilenet_v2"}
SPEC = NetworkSpec(**NETWORK)
ABLE = [method for method in METHODS if method.stored_features]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(build_network(SPEC, 2).backbone.state_dict(), path)
    return str(path)


def _pipeline(weights, train=None, features=None):
    changes = {
        "features": {"network": NETWORK, "weights": weights, "amp": False, **(features or {})},
        "train": {
            "network": NETWORK,
            "amp": False,
            "batch_size": 2,
            "augment": {"crop": None},
            "phases": {"0": {"steps": 4}},
            **(train or {}),
        },
        "predict": {"amp": False},
    }
    return load_pipeline(shipped_pipelines()["pce-features"], changes, {"dataset": DATASET})


@pytest.fixture(scope="module")
def stores(tmp_path_factory, weights):
    pipeline = _pipeline(weights, features={"scales": (1.0, 0.75)}).up_to("evaluate")
    outcomes = run_pipeline(pipeline, Workspace(tmp_path_factory.mktemp("w")), Context())
    return {name: outcome.store for name, outcome in outcomes.items()}


def seen_size(view):
    return round(40 * view.scale), round(72 * view.scale)


def test_every_view_has_the_features_that_the_backbone_gives(stores, weights):
    network = build_network(SPEC, 2).eval()
    network.backbone.load_state_dict(torch.load(weights))
    normalise = Segmenter(SPEC, 2).normalise
    features = stores["features"]
    assert features.meta["views"] == [[1.0, False], [1.0, True], [0.75, False], [0.75, True]]
    assert features.meta["strides"] == {"level2": 8, "level4": 16}
    views = [View(*view) for view in features.meta["views"]]
    for image_id in stores["samples"].meta["splits"]["train"]:
        image = np.array(stores["samples"].get("image", image_id))
        for name, level, stride in (("level2", 1, 8), ("level4", 3, 16)):
            stored, at = features.get(name, image_id), 0
            for view, (height, width) in zip(views, grids((40, 72), views, stride), strict=True):
                rgb = np.pad(
                    seen(image, {}, view)[0],
                    ((0, -seen_size(view)[0] % 16), (0, -seen_size(view)[1] % 16), (0, 0)),
                    "edge",
                )
                rgb = torch.from_numpy(rgb).permute(2, 0, 1)[None]
                with torch.no_grad():
                    expected = network.backbone(normalise(rgb))[level][0]
                expected = expected[:, :height, :width]
                assert expected.shape[1:] == (height, width)
                part = stored[at : at + height * width].reshape(height, width, -1)
                np.testing.assert_allclose(part, expected.permute(1, 2, 0), atol=2e-3, rtol=2e-3)
                at += height * width
            assert at == len(stored)


def test_the_trained_network_is_whole_and_its_backbone_is_the_given_one(stores, weights):
    model = build_model(stores["train"])
    given = torch.load(weights)
    for name, value in model.network.backbone.state_dict().items():
        assert (value == given[name]).all(), name
    fresh = Segmenter(SPEC, len(stores["samples"].meta["classes"]))
    assert (model.network.classifier.weight != fresh.network.classifier.weight).any()
    assert stores["train"].meta["initialisation"]["kind"] == "file"
    predictor = load_checkpoint(stores["train"].path)
    image = stores["samples"].get("image", stores["predict"].ids[0])
    assert (predictor(image) == stores["predict"].get("labels", stores["predict"].ids[0])).all()


def _batch(classes=3, size=(48, 64)):
    generator = torch.Generator().manual_seed(0)
    labels = torch.full((2, *size), 255)
    labels[:, 5:9, 5:40], labels[:, 20:24, 10:50], labels[:, 40:44, 3:30] = 0, 1, 2
    maps = {"edges": torch.rand(2, *size, generator=generator)}
    rgb = torch.randint(0, 256, (2, 3, *size), generator=generator).float()
    tags = torch.ones(2, classes, dtype=torch.bool)
    return Batch(rgb, labels, torch.ones(2, *size, dtype=torch.bool), maps, tags, 0)


@pytest.mark.parametrize("kind", ABLE, ids=lambda kind: kind.model_fields["name"].default)
def test_losses_from_stored_features_are_those_from_the_backbone(kind):
    method, batch = kind(), _batch()
    terms = sorted(method.term_names)
    torch.manual_seed(0)
    model = method.build(SPEC, 3).eval()
    for parameter in model.network.classifier.parameters():
        torch.nn.init.normal_(parameter)  # from small ones no loss would show what the features are
    torch.manual_seed(1)
    expected = method.losses(model, batch, terms)
    backbone = model.network.backbone
    with torch.no_grad():
        maps = backbone(model.normalise(batch.rgb))
    (stored,) = read_stored(model)
    assert not any(name.startswith("network.backbone") for name in model.state_dict())
    asked = []
    backbone.register_forward_hook(lambda *_: asked.append(1))
    torch.manual_seed(1)
    with given_features(model, [None, maps[1], None, maps[3]]):
        found = method.losses(model, batch, terms)
    assert not asked  # the backbone itself
    for name in terms:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4)
    with given_features(model, [None, maps[1] + 1, None, maps[3] - 1]):
        other = method.losses(model, batch, terms)
    assert any(float((other[name] - found[name]).detach().abs()) > 1e-4 for name in other)
    compute_again(model)
    assert model.network.backbone is backbone is stored.itself


def test_a_sample_is_cut_along_the_grid_of_the_features():
    """Each cell holds its own place and view, so that what belongs together is seen."""
    size, views = (50, 70), views_of((1.0, 2.0), True)
    rows, columns = np.indices(size)
    image = np.stack([rows, columns, rows * 0], 2).astype(np.uint8)

    def features(image_id):
        parts = {"level2": [], "level4": []}
        for number, view in enumerate(views):
            whole = seen(image, {}, view)[0]
            for name, stride in (("level2", 8), ("level4", 16)):
                height, width = grids(size, [view], stride)[0]
                cells = np.zeros((height, width, 3), np.float16)
                corners = whole[::stride, ::stride]
                cells[..., :2], cells[..., 2] = corners[..., :2], number
                parts[name].append(cells.reshape(-1, 3))
        return {name: np.concatenate(values) for name, values in parts.items()}

    def read(image_id):
        return image, {"labels": (columns // 2).astype(np.uint8)}

    data = ViewSet(["a"], read, features, views, {"level2": 8, "level4": 16}, (32, 48), 0.5, (1, 2, 3), 0)
    numbers = set()
    for draw in range(60):
        sample = data[0, draw]
        assert sample["rgb"].shape == (32, 48, 3)
        for name, stride in (("level2", 8), ("level4", 16)):
            cells = sample["maps"][name]
            assert cells.shape == (32 // stride, 48 // stride, 3)
            inside = sample["valid"][::stride, ::stride]
            assert (sample["rgb"][::stride, ::stride][inside][:, :2] == cells[inside][:, :2]).all()
            assert (cells[~inside] == 0).all()
            numbers.update(np.unique(cells[inside][:, 2]).tolist())
        assert (sample["rgb"][~sample["valid"]] == (1, 2, 3)).all()
        assert (sample["maps"]["labels"][~sample["valid"]] == 255).all()
        again = data[0, draw]
        assert all((sample["maps"][name] == again["maps"][name]).all() for name in sample["maps"])
    assert numbers == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phases": {"0": {"freeze": []}}}, r"set train.phases.0.freeze=\[backbone\]"),
        ({"augment": {"crop": None, "rotate_deg": 10}}, "changed by augment.rotate_deg"),
        ({"augment": {"crop": 40}}, "augment.crop must be a multiple of 16"),
        ({"weights": "imagenet"}, "set them there"),
        ({"network": {**NETWORK, "output_stride": 8}}, "made with network.output_stride None"),
        ({"network": {"name": "deeplab-v3plus", "backbone": "mobilenet_v2"}}, "lacks the feature maps level1"),
    ],
)
def test_refuses_what_stored_features_cannot_give(tmp_path, weights, change, message):
    with pytest.raises(UsageError, match=message):
        run_pipeline(_pipeline(weights, train=change).up_to("train"), Workspace(tmp_path), Context())


def test_refuses_before_features_are_computed(tmp_path, weights):
    changes = ({"phases": {"0": {"freeze": []}}}, {"network": {**NETWORK, "output_stride": 8}})
    for change in changes:
        with pytest.raises(UsageError):
            run_pipeline(_pipeline(weights, train=change).up_to("train"), Workspace(tmp_path), Context())
    assert not list((tmp_path / "artifacts").glob("*/*.h5"))


def test_refuses_methods_that_see_images_in_other_ways(tmp_path, weights):
    pipeline = _pipeline(weights, train={"method": {"name": "rw-ss"}, "phases": {"0": {"terms": {"pce": 1.0}}}})
    with pytest.raises(UsageError, match="method 'rw-ss' cannot learn from stored features"):
        run_pipeline(pipeline.up_to("train"), Workspace(tmp_path), Context())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "random weights gives useless features"),
        ({"network": {"name": "unet", "backbone": None}}, "network unet has no backbone"),
    ],
)
def test_refuses_before_anything_runs(tmp_path, weights, change, message):
    pipeline = _pipeline(weights, features=change)
    with pytest.raises(UsageError, match=message):
        run_pipeline(pipeline.up_to("features"), Workspace(tmp_path), Context())
    assert not list((tmp_path / "artifacts").glob("samples/*.h5"))


def test_an_interrupted_extraction_goes_on(tmp_path, weights, monkeypatch):
    from wss.stages import features

    pipeline = _pipeline(weights).up_to("features")
    whole = run_pipeline(pipeline, Workspace(tmp_path / "whole"), Context())["features"].store
    count, call = [], features._Extraction.__call__

    def stops(self, image_id):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(image_id)
        return call(self, image_id)

    monkeypatch.setattr(features._Extraction, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(pipeline, Workspace(tmp_path / "cut"), Context())
    monkeypatch.setattr(features._Extraction, "__call__", lambda self, i: count.append(i) or call(self, i))
    cut = run_pipeline(pipeline, Workspace(tmp_path / "cut"), Context())["features"].store
    assert sorted(count) == sorted(whole.ids)
    assert cut.digest == whole.digest


def test_it_is_a_stage():
    assert STAGES["features"].output.name == "features"


def test_the_protocol_tells_the_weights(weights):
    from wss.pipeline.catalogues import catalogues
    from wss.pipeline.protocol import protocols

    pipeline = _pipeline(weights)
    found = protocols(pipeline, catalogues(pipeline))
    assert found["features"]["weights"] == weights
    assert found["train"]["initialisation"] == f"{weights} (backbone), random (the rest)"


def test_disk_is_estimated(stores, weights):
    from wss.pipeline.catalogues import catalogues
    from wss.pipeline.disk import needs

    pipeline = _pipeline(weights, features={"scales": (1.0, 0.75)})
    estimate = needs(pipeline, catalogues(pipeline), {})["features"].store
    actual = stores["features"].path.stat().st_size - sum(v.numel() * 4 for v in torch.load(weights).values())
    assert 0.7 < estimate / actual < 1.5
