import pytest
import torch
import yaml

from wss.errors import UsageError
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context

DATASET = {"kind": "sample", "options": {"train": 2, "val": 1, "height": 32, "width": 32}}


def _train(name, network, lr, method="pce", **inputs):
    phase = {"epochs": 1, "terms": {"pce": 1}, "lr": lr, "schedule": "constant", "weight_decay": 0}
    params = {"method": {"name": method}, "network": network, "phases": [phase], "augment": {"crop": 32}}
    return {
        "id": name,
        "stage": "train",
        "inputs": {"samples": "samples", "labels": "prepare", **inputs},
        "params": params,
    }


def _run(tmp_path, second_network, methods=("pce", "pce")):
    torch.set_num_threads(1)
    stages = [
        {"stage": "samples"},
        {"stage": "prepare", "inputs": {"samples": "samples"}},
        _train("first", {"name": "unet"}, 0.01, methods[0]),
        _train("second", second_network, 1e-12, methods[1], initial="first"),
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
    with pytest.raises(UsageError, match="is another one than this stage's"):
        _run(tmp_path, {"name": "deeplab-v3plus", "backbone": "resnet18"})


def test_a_method_may_add_parts_and_not_remove_them(tmp_path):
    outcomes = _run(tmp_path, {"name": "unet"}, ("pce", "crf-rnn"))
    first, second = (outcomes[name].store.tree("state") for name in ("first", "second"))
    assert set(second) - set(first) == {name for name in second if name.startswith("crf.")}
    assert torch.allclose(second["network.classifier.weight"], first["network.classifier.weight"], atol=1e-6)
    assert outcomes["second"].store.meta["initialisation"]["new"] == ["crf"]
    with pytest.raises(UsageError, match=r"it has crf\..*, which this one lacks"):
        _run(tmp_path, {"name": "unet"}, ("crf-rnn", "pce"))
