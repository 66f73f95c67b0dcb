from __future__ import annotations

import hashlib
import http.server
import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn

from wss.errors import DataError, UsageError
from wss.networks import (
    DeepLabV2,
    DeepLabV3Plus,
    Initialisation,
    MobileNetV2,
    ResNet,
    UNet,
    load_pretrained,
)
from wss.networks import weights as weights_module
from wss.networks.weights import DIGESTS, PUBLISHED, download


@pytest.fixture(scope="module")
def state():
    """A classifier's state dict as torchvision saves it."""
    torch.manual_seed(7)
    return MobileNetV2(num_classes=1000).state_dict()


def save(content, path):
    torch.save(content, path)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_loaded(backbone, state):
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[name].to(value.dtype), msg=name)


def test_no_source_leaves_random_weights():
    network = UNet(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_pretrained(network, None) == load_pretrained(network, "none") == Initialisation()
    assert Initialisation().kind == "none"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_file_fills_the_backbone_and_ignores_the_classifier(state, tmp_path):
    path = save(state, tmp_path / "net.pth")
    network = DeepLabV2(MobileNetV2(16), 3)
    head = network.classifier.branches[0].weight.clone()
    record = load_pretrained(network, path)
    assert_loaded(network.backbone, state)
    assert torch.equal(network.classifier.branches[0].weight, head)
    assert record == Initialisation(kind="file", source="net.pth", sha256=sha256(path))
    assert load_pretrained(network, str(path)) == record


def test_a_backbone_with_the_same_classifier_gets_it_too(state, tmp_path):
    backbone = MobileNetV2(num_classes=1000)
    load_pretrained(backbone, save(state, tmp_path / "net.pth"))
    assert_loaded(backbone, state)


def half(state):
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "lr": 0.1},
        lambda s: {"module." + name: value for name, value in s.items()},
        lambda s: {"state_dict": {"module.backbone." + name: value for name, value in s.items()}},
        lambda s: {"_orig_mod.network.backbone." + name: value for name, value in s.items()},
        lambda s: {**{"backbone." + name: value for name, value in s.items()}, "classifier.4.bias": torch.zeros(21)},
        lambda s: OrderedDict((name, value) for name, value in s.items() if "num_batches_tracked" not in name),
        lambda s: {name: value for name, value in s.items() if not name.startswith(("classifier", "features.18."))},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(state, tmp_path, wrap):
    network = DeepLabV3Plus(MobileNetV2(16), 3)
    load_pretrained(network, save(wrap(state), tmp_path / "net.pth"))
    assert_loaded(network.backbone, state)


def test_half_precision_becomes_single(state, tmp_path):
    backbone = MobileNetV2()
    load_pretrained(backbone, save(half(state), tmp_path / "net.pth"))
    assert backbone.features[0][0].weight.dtype == torch.float32
    torch.testing.assert_close(backbone.features[0][0].weight, state["features.0.0.weight"].half().float())


def test_every_backbone_of_a_model_is_filled(state, tmp_path):
    model = nn.ModuleDict({"q": DeepLabV2(MobileNetV2(8), 3), "b": DeepLabV2(MobileNetV2(8), 1)})
    load_pretrained(model, save(state, tmp_path / "net.pth"))
    for part in model.values():
        assert_loaded(part.backbone, state)


def test_a_unet_takes_everything_but_its_classifier(tmp_path):
    other = UNet(4)
    path = save({"network." + name: value for name, value in other.state_dict().items()}, tmp_path / "unet.pth")
    network = nn.ModuleDict({"network": UNet(2)})
    load_pretrained(network, path)
    for name, value in network["network"].state_dict().items():
        assert name.startswith("classifier") or torch.equal(value, other.state_dict()[name])
    assert network["network"].classifier.weight.shape[0] == 2


def test_one_error_lists_all_that_does_not_fit(state, tmp_path):
    broken = dict(state)
    del broken["features.3.conv.2.weight"]
    broken["features.99.weight"] = torch.zeros(1)
    broken["features.0.0.weight"] = torch.zeros(32, 1, 3, 3)
    path = save(broken, tmp_path / "net.pth")
    backbone = MobileNetV2()
    before = backbone.features[5].conv[2].weight.clone()
    with pytest.raises(DataError) as caught:
        load_pretrained(backbone, path)
    message = str(caught.value)
    for part in (
        str(path),
        "mobilenet_v2",
        "1 missing from the file: features.3.conv.2.weight",
        "1 unknown to the network: features.99.weight",
        "features.0.0.weight (file (32, 1, 3, 3), network (32, 3, 3, 3))",
    ):
        assert part in message
    assert torch.equal(backbone.features[5].conv[2].weight, before)  # nothing is loaded by half


def test_weights_of_another_backbone_are_refused(state, tmp_path):
    with pytest.raises(DataError, match="do not fit resnet18"):
        load_pretrained(DeepLabV2(ResNet(18, 8), 2), save(state, tmp_path / "net.pth"))


class Code:
    def __reduce__(self):
        return (eval, ("1/0",))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: save({"a": Code()}, path), "could run code"),
        (lambda path: path.write_bytes(b"not a torch file at all"), "net.pth"),
        (lambda path: path.write_bytes(b""), "net.pth"),
        (lambda path: save([1, 2], path), "got list"),
        (lambda path: save({}, path), "expected a state dict"),
        (lambda path: save({"epoch": 3}, path), "epoch"),
    ],
)
def test_files_without_plain_tensors_are_refused(tmp_path, write, message):
    write(tmp_path / "net.pth")
    with pytest.raises(DataError, match=message):
        load_pretrained(MobileNetV2(), tmp_path / "net.pth")


def test_a_missing_file_names_the_known_sources():
    with pytest.raises(DataError, match=r"no such file.*imagenet"):
        load_pretrained(MobileNetV2(), "imagnet")


def test_networks_without_published_weights_say_what_to_do():
    with pytest.raises(UsageError, match=r"published for UNet.*--weights FILE"):
        load_pretrained(UNet(2), "imagenet")
    with pytest.raises(UsageError, match="only for resnet50, resnet101"):
        load_pretrained(MobileNetV2(), "coco")
    with pytest.raises(UsageError, match="neither"):
        load_pretrained(nn.Conv2d(1, 1, 1), "imagenet")
    with pytest.raises(UsageError, match="several kinds"):
        load_pretrained(nn.ModuleList([MobileNetV2(), ResNet(18)]), "imagenet")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mobilenet_v2_imagenet_fp16.pth", "imagenet"),
        ("mobilenet_v2-b0353104.pth", "imagenet"),
        ("deeplab_COCO.pth", "coco"),
        ("mine.pth", "file"),
    ],
)
def test_file_names_tell_the_kind(state, tmp_path, name, kind):
    assert load_pretrained(MobileNetV2(), save(state, tmp_path / name)).kind == kind


def test_published_names_carry_digests():
    for urls in PUBLISHED.values():
        for url in urls.values():
            name = url.rsplit("/", 1)[1]
            if name in DIGESTS:
                assert url.startswith("https://dl.fbaipublicfiles.com/dinov2/")
                assert len(DIGESTS[name]) == 64
                int(DIGESTS[name], 16)
                continue
            assert url.startswith("https://download.pytorch.org/models/")
            int(url.rsplit("-", 1)[1].removesuffix(".pth"), 16)


@pytest.fixture
def server(state, tmp_path):
    """Serves a folder on the loopback; ``requests`` counts."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        requests = 0

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            Handler.requests += 1
            super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}", Handler
        httpd.shutdown()


def test_published_weights_are_downloaded_once(server, state, tmp_path, monkeypatch):
    folder, root, handler = server
    path = save(state, folder / "net.pth")
    digest = sha256(path)
    name = f"mobilenet_v2-{digest[:8]}.pth"
    path.rename(folder / name)
    monkeypatch.setitem(weights_module.PUBLISHED, "imagenet", {"mobilenet_v2": f"{root}/{name}"})
    monkeypatch.setenv("WSS_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        network = DeepLabV2(MobileNetV2(8), 2)
        record = load_pretrained(network, "imagenet")
        assert record == Initialisation(kind="imagenet", source=name, sha256=digest)
        assert_loaded(network.backbone, state)
    assert handler.requests == 1
    assert [p.name for p in (tmp_path / "cache" / "weights").iterdir()] == [name]


def test_a_download_that_is_not_what_its_name_says_is_refused(server, tmp_path):
    folder, root, _ = server
    (folder / "net-0123456789.pth").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"begins with 0123456789.*--weights FILE"):
        download(f"{root}/net-0123456789.pth", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_cached_file_is_fetched_again(server, tmp_path):
    folder, root, _ = server
    content = b"weights"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    (tmp_path / name).write_bytes(b"weig")
    path, digest = download(f"{root}/{name}", tmp_path)
    assert path.read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()


def test_file_urls_work(tmp_path):
    content = b"weights"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / name).write_bytes(content)
    path, _ = download((tmp_path / name).as_uri(), tmp_path / "cache")
    assert path == tmp_path / "cache" / name
    assert path.read_bytes() == content


def test_offline_names_the_address_and_the_remedy(tmp_path, monkeypatch):
    url = "http://127.0.0.1:9/net-01234567.pth"
    monkeypatch.setitem(weights_module.PUBLISHED, "imagenet", {"mobilenet_v2": url})
    with pytest.raises(DataError, match="--weights FILE") as caught:
        load_pretrained(MobileNetV2(), "imagenet", cache=tmp_path)
    assert url in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_addresses_without_a_digest_are_refused(tmp_path):
    with pytest.raises(DataError, match="SHA-256"):
        download("http://127.0.0.1:9/net.pth", tmp_path)
