import numpy as np
import pytest
import torch
import yaml

from wss.datasets.source import Catalogue
from wss.errors import UsageError
from wss.methods import PartialCrossEntropy
from wss.networks import NetworkSpec
from wss.params import validate
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context
from wss.stages.train import STAGE
from wss.stages.train_params import TrainParams

DATASET = {"kind": "sample", "options": {"train": 2, "val": 1, "height": 32, "width": 32}}


def _train(name, network, lr, method="pce", fresh=(), **inputs):
    phase = {"epochs": 1, "terms": {"pce": 1}, "lr": lr, "schedule": "constant", "weight_decay": 0}
    params = {
        "method": {"name": method},
        "network": network,
        "phases": [phase],
        "augment": {"crop": 32},
        "fresh": fresh,
    }
    return {
        "id": name,
        "stage": "train",
        "inputs": {"samples": "samples", "labels": "prepare", **inputs},
        "params": params,
    }


def _run(tmp_path, second_network, methods=("pce", "pce"), fresh=()):
    stages = [
        {"stage": "samples"},
        {"stage": "prepare", "inputs": {"samples": "samples"}},
        _train("first", {"name": "unet"}, 0.01, methods[0]),
        _train("second", second_network, 1e-12, methods[1], fresh, initial="first"),
    ]
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"title": "two", "stages": stages}))
    return run_pipeline(load_pipeline(path, everywhere={"dataset": DATASET}), Workspace(tmp_path / "w"), Context())


def test_training_continues_from_another_network(tmp_path):
    outcomes = _run(tmp_path, {"name": "unet"})
    first, second = (outcomes[name].store.tree("state") for name in ("first", "second"))
    for name, value in first.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.allclose(second[name], value, atol=1e-6), name
    assert outcomes["second"].store.meta["initialisation"]["continued_from"] == outcomes["first"].store.key


def test_another_architecture_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not fit this stage's network"):
        _run(tmp_path, {"name": "deeplab-v3plus", "backbone": "resnet18"})


def test_a_method_may_add_parts_and_not_remove_them(tmp_path):
    outcomes = _run(tmp_path, {"name": "unet"}, ("pce", "crf-rnn"))
    first, second = (outcomes[name].store.tree("state") for name in ("first", "second"))
    assert set(second) - set(first) == {name for name in second if name.startswith("crf.")}
    assert torch.allclose(second["network.classifier.weight"], first["network.classifier.weight"], atol=1e-6)
    assert outcomes["second"].store.meta["initialisation"]["new"] == ["crf"]
    with pytest.raises(UsageError, match=r"it has crf\..*, which this one lacks"):
        _run(tmp_path, {"name": "unet"}, ("crf-rnn", "pce"))


def test_parts_may_start_anew(tmp_path):
    outcomes = _run(tmp_path, {"name": "unet"}, fresh=["network.classifier"])
    first, second = (outcomes[name].store.tree("state") for name in ("first", "second"))
    torch.manual_seed(0)
    new = PartialCrossEntropy().build(NetworkSpec(), len(outcomes["samples"].store.meta["classes"])).state_dict()
    for name, value in first.items():
        if name.startswith("network.classifier"):
            assert torch.allclose(second[name], new[name], atol=1e-6), name
            assert not torch.allclose(second[name], value, atol=1e-4), name
        elif not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.allclose(second[name], value, atol=1e-6), name
    meta = outcomes["second"].store.meta["initialisation"]
    assert meta["new"] == ["network.classifier"] and meta["continued_from"] == outcomes["first"].store.key


def test_parts_that_are_not_there_are_refused_before_anything_runs():
    catalogue = Catalogue("sample", ("background", "ball", "box"), np.zeros((3, 3), np.uint8), {"train": ("a",)})
    network = {"name": "deeplab-v2", "backbone": "resnet101"}
    phases = [{"epochs": 1, "terms": {"classifier": 1}}]
    for fresh, message in (
        (["clasifier"], "begins with 'clasifier'; did you mean 'classifier'"),
        (["classifier"], None),
    ):
        values = {"method": {"name": "spml"}, "network": network, "phases": phases, "fresh": fresh}
        params = validate(TrainParams, values, "test")
        if message is None:
            STAGE.check(params, catalogue)
        else:
            with pytest.raises(UsageError, match=message):
                STAGE.check(params, catalogue)


def test_parts_start_anew_only_where_others_do_not(tmp_path):
    stages = [
        {"stage": "samples"},
        {"stage": "prepare", "inputs": {"samples": "samples"}},
        _train("only", {"name": "unet"}, 0.01, fresh=["network.classifier"]),
    ]
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({"title": "one", "stages": stages}))
    with pytest.raises(UsageError, match="continues from the input `initial`, and this stage has no such input"):
        run_pipeline(load_pipeline(path, everywhere={"dataset": DATASET}), Workspace(tmp_path / "w"), Context())
