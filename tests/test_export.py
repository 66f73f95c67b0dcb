"""Exported files give what the network gives, at every size, and say what they are."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import torch

from wss import export
from wss.checkpoints import build_model, model_meta
from wss.errors import StoreError, UsageError, WssError
from wss.export import export_model
from wss.methods import Bpg, CrfRnn, PartialCrossEntropy
from wss.networks import DeepLabV3Plus, NetworkSpec, load_pretrained
from wss.networks.mobilenet_v2 import MobileNetV2
from wss.store import MODEL, Store, StoreWriter

CATALOGUE = {"classes": ["sky", "sea", "land"], "palette": [[0, 0, 0], [1, 2, 3], [9, 9, 9]], "background": 0}
LIGHT = NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2", output_stride=32)


def trained(folder, method=None, network=None):
    """A model store with random weights whose outputs differ from pixel to pixel."""
    method, network = method or PartialCrossEntropy(), network or LIGHT
    torch.manual_seed(0)
    model = method.build(network, 3)
    model.eval()
    with torch.no_grad():
        spread = model.network(model.normalise(images(1, 64, 64))).std()
        for parameter in model.network.classifier.parameters():
            parameter.div_(spread)
    writer = StoreWriter(folder / "model.h5", MODEL, {"key": "k" * 8})
    writer.put_tree("state", model.state_dict())
    writer.meta.update(model_meta(method, network, {"kind": "none"}, CATALOGUE))
    writer.finish({})
    return folder / "model.h5"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trained"))


def images(batch, height, width, seed=5):
    return torch.randint(
        0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def expected(checkpoint, image, output="probs"):
    with torch.no_grad():
        logits = build_model(Store(checkpoint, MODEL)).eval()(image)
    return logits.softmax(1) if output == "probs" else logits


def run_onnx(path, image):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])


def run_torchscript(path, image):
    return torch.jit.load(str(path))(image)


KINDS = {"onnx": run_onnx, "torchscript": run_torchscript}


def needs(kind):
    if kind == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["probs", "logits"])
def test_a_file_gives_the_networks_output_at_any_size(checkpoint, tmp_path, kind, output):
    needs(kind)
    path = tmp_path / "sub" / "net"
    found = export_model(checkpoint, path, kind=kind, output=output)
    assert found.path == path
    assert found.difference < 1e-3
    for shape in ((1, 64, 64), (2, 41, 87), (1, 120, 33)):
        image = images(*shape)
        wanted = expected(checkpoint, image, output)
        assert wanted.std() > 0.05
        torch.testing.assert_close(KINDS[kind](path, image), wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_one_size_takes_no_other(checkpoint, tmp_path, kind):
    needs(kind)
    found = export_model(checkpoint, tmp_path / "net", kind=kind, size=(48, 56), dtype="float32")
    assert found.metadata["input"] == "RGB float32 (1,3,48,56), values 0..255"
    assert found.metadata["output"] == "probs float32 (1,3,48,56)"
    image = images(1, 48, 56).float()
    torch.testing.assert_close(KINDS[kind](tmp_path / "net", image), expected(checkpoint, image), atol=1e-3, rtol=1e-3)
    if kind == "onnx":
        with pytest.raises(Exception, match="Got"):
            run_onnx(tmp_path / "net", images(1, 48, 57).float())


def test_onnx_carries_names_palette_and_shapes(checkpoint, tmp_path):
    needs("onnx")
    import onnx

    meta = export_model(checkpoint, tmp_path / "net.onnx").metadata
    model = onnx.load(str(tmp_path / "net.onnx"))
    properties = {item.key: item.value for item in model.metadata_props}
    assert json.loads(properties["classes"]) == ["sky", "sea", "land"]
    assert json.loads(properties["palette"]) == CATALOGUE["palette"]
    assert json.loads(properties["network"])["backbone"] == "mobilenet_v2"
    assert properties["input"] == meta["input"] == "RGB uint8 (B,3,H,W), values 0..255"
    assert set(properties) == set(meta)
    (taken,), (given,) = model.graph.input, model.graph.output
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = [d.dim_param or d.dim_value for d in taken.type.tensor_type.shape.dim]
    assert shape == ["batch", 3, "height", "width"]
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_torchscript_carries_them_too(checkpoint, tmp_path):
    meta = export_model(checkpoint, tmp_path / "net.pt", kind="torchscript").metadata
    extra = {"wss.json": ""}
    torch.jit.load(str(tmp_path / "net.pt"), _extra_files=extra)
    assert json.loads(extra["wss.json"]) == json.loads(json.dumps(meta))
    assert meta["classes"] == ["sky", "sea", "land"]
    assert meta["normalisation"] == {"inside": True, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def test_plain_tensors_load_without_code_and_start_another_training(checkpoint, tmp_path):
    export_model(checkpoint, tmp_path / "net.pt", kind="torch")
    content = torch.load(tmp_path / "net.pt", weights_only=True)
    assert json.loads(content["wss"])["classes"] == ["sky", "sea", "land"]
    state = build_model(Store(checkpoint, MODEL)).state_dict()
    assert set(content["state_dict"]) == set(state)
    assert all(torch.equal(content["state_dict"][name], value) for name, value in state.items())
    other = DeepLabV3Plus(MobileNetV2(16), 5)
    load_pretrained(other, tmp_path / "net.pt")
    assert torch.equal(other.backbone.features[0][0].weight, state["network.backbone.features.0.0.weight"])


ALL_SIZES = {
    "unet": (PartialCrossEntropy(), NetworkSpec()),
    "several scales": (PartialCrossEntropy(), LIGHT.model_copy(update={"multi_scale": (0.5,)})),
    "bpg": (Bpg(), LIGHT),
    "segformer": (PartialCrossEntropy(), NetworkSpec(name="segformer", backbone="mit_b0")),
    "pspnet": (PartialCrossEntropy(), NetworkSpec(name="pspnet", backbone="mobilenet_v2")),
}


@pytest.mark.parametrize("name", ALL_SIZES)
def test_networks_export_for_any_size(name, tmp_path):
    checkpoint = trained(tmp_path, *ALL_SIZES[name])
    export_model(checkpoint, tmp_path / "net.pt", kind="torchscript")
    image = images(2, 53, 70)
    torch.testing.assert_close(
        run_torchscript(tmp_path / "net.pt", image), expected(checkpoint, image), atol=1e-3, rtol=1e-3
    )
    try:
        needs("onnx")
    except pytest.skip.Exception:
        return
    export_model(checkpoint, tmp_path / "net.onnx")
    torch.testing.assert_close(
        run_onnx(tmp_path / "net.onnx", image), expected(checkpoint, image), atol=1e-3, rtol=1e-3
    )


def test_what_needs_one_size_says_so(checkpoint, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such operator\nand a page of details")

    monkeypatch.setattr(export, "_onnx", fail)
    with pytest.raises(
        UsageError, match=r"cannot be exported to onnx for images of any size \(no such operator\); set a size"
    ):
        export_model(checkpoint, tmp_path / "net.onnx")
    with pytest.raises(WssError, match=r"images of 48x96 \(no such operator\); use another size or --format torch"):
        export_model(checkpoint, tmp_path / "net.onnx", size=(48, 96))
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_crf_layer_has_no_such_form(tmp_path, kind):
    checkpoint = trained(tmp_path, CrfRnn())
    with pytest.raises(UsageError, match=r"'crf-rnn' ends with a CRF layer.*--format torch"):
        export_model(checkpoint, tmp_path / "net", kind=kind)
    assert not (tmp_path / "net").exists()
    assert (
        "crf.compatibility" in torch.load(export_model(checkpoint, tmp_path / "net", kind="torch").path)["state_dict"]
    )


def test_a_file_that_differs_is_not_written(checkpoint, tmp_path, monkeypatch):
    real = export._torchscript

    def wrong(*arguments):
        data, run = real(*arguments)
        return data, lambda image: run(image) + 0.01

    monkeypatch.setattr(export, "_torchscript", wrong)
    with pytest.raises(WssError, match=r"for images of 32x32 \(its output differs by 0\.01"):
        export_model(checkpoint, tmp_path / "net", kind="torchscript", size=(32, 32))
    monkeypatch.setattr(export, "_torchscript", lambda *a: (b"", lambda image: np.zeros((1, 3, 4, 4), np.float32)))
    with pytest.raises(UsageError, match=r"any size.*expected an output of"):
        export_model(checkpoint, tmp_path / "net", kind="torchscript")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_missing_packages_are_named(checkpoint, tmp_path, monkeypatch, missing):
    import types

    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else types.ModuleType(name))
    with pytest.raises(UsageError, match=rf"needs the package {missing}: pip install 'wss\[onnx\]'"):
        export_model(checkpoint, tmp_path / "net")


def test_only_model_stores_are_exported(tmp_path):
    (tmp_path / "x.h5").write_bytes(io.BytesIO(b"nothing").getvalue())
    with pytest.raises(StoreError):
        export_model(tmp_path / "x.h5", tmp_path / "net")
