"""``wss export``: which network, which file, and what is refused."""

import json

import pytest
import torch
from commands import artifact


def test_exports_what_was_trained_last(work, wss):
    result = wss("export", "--format", "torchscript", "--output", "logits")
    assert result.code == 0, result.err
    assert result.out.startswith("pce.torchscript.pt: RGB uint8 (B,3,H,W), values 0..255 -> logits float32 (B,7,H,W)")
    logits = torch.jit.load("pce.torchscript.pt")(torch.zeros(1, 3, 40, 41, dtype=torch.uint8))
    assert logits.shape == (1, 7, 40, 41)


def test_says_that_a_walk_at_test_time_is_no_part_of_the_file(work, wss):
    said = "test_time.walk of the stage predict is not part of the network"
    assert said not in wss("export", "-f", "torch").said
    quick = ("--set", "train.phases=[{epochs: 1, terms: {pce: 1}, lr: 0.01, head_multiplier: 1}]")
    assert wss("train", *quick, "--set", "predict.test_time.walk=true").code == 0
    result = wss("export", "-f", "torch")
    assert result.code == 0, result.err
    assert said in result.said


def test_names_a_network_by_file_or_key(work, wss, tmp_path):
    path = artifact(work, "train")
    for named in (path, path.stem, path.stem[:8]):
        out = tmp_path / "net.pt"
        found = wss("export", "-f", "torch", "-o", out, "--checkpoint", named, "--json").json
        assert (found["file"], found["key"], found["format"]) == (str(out), path.stem, "torch")
        assert json.loads(torch.load(out, weights_only=True)["wss"])["classes"] == found["classes"]


def test_what_is_not_there_is_named(work, wss):
    result = wss("export", "--checkpoint", "0123abcd")
    assert result.code == 1
    assert "--checkpoint 0123abcd: neither a file nor the beginning of a key" in result.said
    result = wss("export", "--checkpoint", "wss.yaml")
    assert result.code == 1
    assert "wss.yaml" in result.said


def test_nothing_trained_yet(fresh, wss):
    result = wss("export")
    assert result.code == 2
    assert "no network was trained" in result.said
    assert "wss train" in result.said
    assert not list(fresh.glob("artifacts"))


@pytest.mark.parametrize("size", [("0", "10"), ("10",)])
def test_a_size_is_two_positive_numbers(work, wss, size):
    assert wss("export", "--size", *size).code == 2


def test_onnx_is_written_or_says_what_to_install(work, wss):
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ModuleNotFoundError:
        result = wss("export", "--size", 32, 48)
        assert result.code == 2
        assert "pip install 'wss[onnx]'" in result.said
        return
    result = wss("export", "--size", 32, 48)
    assert result.code == 0, result.err
    session = onnxruntime.InferenceSession("pce.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 32, 48]
