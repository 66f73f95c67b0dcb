"""A command that has nothing to do imports little, and reads no file twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from wss import yaml_text
from wss.cli.console import Terminal
from wss.cli.session import Session


def loaded(code, *names):
    """Those of the modules that a fresh process has loaded after running the code."""
    code = f"import sys\n{code}\nprint('loaded', *sorted({set(names)} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.split("loaded")[-1].split()


def test_a_session_imports_nothing_that_only_work_needs():
    names = "torch._dynamo", "joblib", "jinja2", "skimage.morphology", "skimage.segmentation", "matplotlib", "sympy"
    assert loaded("import wss.cli.session", *names) == []


def test_checks_of_a_training_leave_the_compiler_of_torch_alone():
    code = """
import torch
from wss.methods import METHODS, Phase
from wss.networks import NetworkSpec
from wss.networks.build import build_network
from wss.training.optimiser import trained_groups
with torch.device("meta"):
    for method in METHODS:
        model = method().build(NetworkSpec(), 7)
        trained_groups(model, Phase(epochs=1, terms={sorted(method.term_names)[0]: 1.0}))
        assert "torch._dynamo" not in sys.modules, method
    for name, backbone in (
        ("deeplab-v2", "resnet18"), ("deeplab-v3plus", "mobilenet_v2"), ("pspnet", "resnet18"),
        ("deeplab-largefov", "vgg16"), ("deeplab-msc-largefov", "vgg16"), ("deeplab-vgg16", "vgg16"), ("segformer", "mit_b0"),
    ):
        build_network(NetworkSpec(name=name, backbone=backbone), 7)
        assert "torch._dynamo" not in sys.modules, name
"""
    assert loaded(code, "torch._dynamo") == []


@pytest.mark.parametrize("method", ["pce", "bpg"])
def test_a_training_parses_each_file_once(method, fresh, monkeypatch):
    texts = []

    class Counting(yaml_text._Loader):
        def __init__(self, text):
            texts.append(text)
            super().__init__(text)

    monkeypatch.setattr(yaml_text, "_Loader", Counting)
    yaml_text._parsed.cache_clear()
    with Session(Path(), Terminal(quiet=True)) as session:
        changes = session.prepared(method)
        assert session.trainings(method) == ["train"]
        session.pipeline(method, changes)
    assert len(texts) > 1
    assert len(texts) == len(set(texts))


def test_what_is_read_again_is_not_what_was_changed():
    first = yaml_text.parse("a: {b: [1]}")
    first["a"]["b"].append(2)
    assert yaml_text.parse("a: {b: [1]}") == {"a": {"b": [1]}}
