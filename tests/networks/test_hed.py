import struct

import numpy as np
import pytest
import torch
from torch.nn import functional

from wss.errors import DataError
from wss.networks.caffe import read_caffemodel
from wss.networks.hed import DEPTHS, HED, MEAN_BGR, WIDTHS
from wss.networks.hed_weights import load_hed, load_vgg16


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """One field of a protocol buffer: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, old_shape=False, packed=True):
    if packed:
        data = field(5, array.astype("<f4").tobytes())
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in array.ravel())
    if old_shape:  # num, channels, height, width; biases were (1,1,1,N)
        shape = (1,) * (4 - array.ndim) + array.shape
        return b"".join(field(i + 1, n) for i, n in enumerate(shape)) + data
    return data + field(7, field(1, b"".join(varint(n) for n in array.shape)))


def caffe_layer(name, arrays, v1):
    name_field, type_field, blob_field = (4, 5, 6) if v1 else (1, 2, 7)
    kind = field(5, 4) if v1 else field(type_field, b"Convolution")
    body = field(name_field, name.encode()) + kind
    return field(2 if v1 else 100, body + b"".join(field(blob_field, blob(a, old_shape=v1)) for a in arrays))


def caffe_file(path, state, v1):
    names = {f"stages.{s}.{2 * n}": f"conv{s + 1}_{n + 1}" for s, d in enumerate(DEPTHS) for n in range(d)}
    names |= {f"scores.{n}": f"score-dsn{n + 1}" for n in range(5)} | {"fuse": "new-score-weighting"}
    data = field(1, b"HED")
    for own, name in names.items():
        data += caffe_layer(name, [state[f"{own}.weight"].numpy(), state[f"{own}.bias"].numpy()], v1)
    data += caffe_layer("upsample_2", [np.ones((1, 1, 4, 4), np.float32)], v1)  # fixed there, computed here
    path.write_bytes(data)


def conversion_file(path, state, prefix):
    words = ("One", "Two", "Thr", "Fou", "Fiv")
    renamed = {}
    for name, value in state.items():
        part, *rest = name.split(".")
        if part == "stages":
            stage, place, leaf = int(rest[0]), int(rest[1]), rest[2]
            renamed[f"{prefix}Vgg{words[stage]}.{place + bool(stage)}.{leaf}"] = value
        elif part == "scores":
            renamed[f"{prefix}Score{words[int(rest[0])]}.{rest[1]}"] = value
        else:
            renamed[f"{prefix}Combine.0.{rest[0]}"] = value
    torch.save(renamed, path)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = HED().eval()
    for score in network.scores:
        torch.nn.init.normal_(score.weight, std=1 / score.in_channels)
        torch.nn.init.normal_(score.bias)
    return network


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(1)) * 255


@pytest.fixture(scope="module")
def expected(network, image):
    with torch.no_grad():
        return network(image)


def edges(path, image, alignment="caffe"):
    network = HED(alignment).eval()
    kind = load_hed(network, path)
    with torch.no_grad():
        return kind, network(image)


@pytest.mark.parametrize("v1", [True, False], ids=["layers", "layer"])
def test_caffe_weights(tmp_path, network, image, expected, v1):
    caffe_file(tmp_path / "hed.caffemodel", network.state_dict(), v1)
    kind, logits = edges(tmp_path / "hed.caffemodel", image)
    assert kind == "caffe"
    assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("prefix", ["module", "net"])
def test_both_loaders_give_the_same_edge_map(tmp_path, network, image, prefix):
    caffe_file(tmp_path / "hed.caffemodel", network.state_dict(), True)
    conversion_file(tmp_path / "network-bsds500.pytorch", network.state_dict(), prefix)
    for alignment in ("caffe", "interpolated"):
        _, a = edges(tmp_path / "hed.caffemodel", image, alignment)
        kind, b = edges(tmp_path / "network-bsds500.pytorch", image, alignment)
        assert kind == "conversion"
        assert (a.sigmoid() - b.sigmoid()).abs().max() < 1e-4
        assert a.sigmoid()[:, -1].std() > 0.01  # maps of nothing but 0 and 1, or of one value, would hide mistakes


def test_every_weight_counts_for_the_edge_map(tmp_path, network, image):
    """So that equal edge maps mean equal weights: any other layer in the place of one shows."""
    with torch.no_grad():
        before = network(image).sigmoid()
        other = HED().eval()
        for name, value in network.state_dict().items():
            state = network.state_dict()
            state[name] = value.flip(0) if value.ndim > 1 and len(value) > 1 else value + 0.1 * value.abs().max() + 0.1
            other.load_state_dict(state)
            assert (other(image).sigmoid() - before).abs().max() > 1e-4, name


def test_own_state_dict_of_half_precision(tmp_path, network, image, expected):
    torch.save({k: v.half() for k, v in network.state_dict().items()}, tmp_path / "own.pt")
    kind, logits = edges(tmp_path / "own.pt", image)
    assert kind == "wss"
    assert (logits.sigmoid() - expected.sigmoid()).abs().max() < 0.05


def test_the_interpolated_variant_is_the_conversions_network(network, image):
    """Pad 1, pooling that rounds down, bilinear interpolation; written out from its description."""
    state = network.state_dict()
    other = HED("interpolated").eval()
    other.load_state_dict(state)
    x = image[:, [2, 1, 0]] - torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
    sides = []
    for stage, depth in enumerate(DEPTHS):
        if stage:
            x = functional.max_pool2d(x, 2, 2)
        for layer in range(depth):
            name = f"stages.{stage}.{2 * layer}"
            x = functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()
        side = functional.conv2d(x, state[f"scores.{stage}.weight"], state[f"scores.{stage}.bias"])
        sides.append(functional.interpolate(side, (37, 50), mode="bilinear", align_corners=False))
    fused = functional.conv2d(torch.cat(sides, 1), state["fuse.weight"], state["fuse.bias"])
    with torch.no_grad():
        assert torch.allclose(other(image)[:, -1:], fused, atol=1e-4)


def _impulse_network():
    """Every convolution passes one channel on unchanged, so that each side output is the pooled image."""
    network = HED().eval()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        for stage in network.stages:
            for layer in stage[::2]:
                layer.weight[0, 0, 1, 1] = 1
        for score in network.scores:
            score.weight[0, 0] = 1
    return network


def test_side_outputs_lie_on_the_image():
    """A bright square keeps its centre in every side output: what the crops are for."""
    size = 160
    image = torch.zeros(1, 3, size, size)
    image[:, 2] = MEAN_BGR[0]  # blue, the channel that is passed on
    image[:, 2, 48:112, 40:104] += 100
    with torch.no_grad():
        sides = _impulse_network()(image)[0, :5]
    place = torch.arange(size, dtype=torch.float32)
    for number, side in enumerate(sides):
        weight = side.clamp(min=0)
        centre = (weight.sum(1) @ place / weight.sum(), weight.sum(0) @ place / weight.sum())
        # max-pooling of padded 2^n blocks widens the square to whole blocks, which moves its centre by half a block at most
        assert abs(centre[0] - 79.5) <= 2 ** max(number - 1, 0) + 0.01, number
        assert abs(centre[1] - 71.5) <= 2 ** max(number - 1, 0) + 0.01, number
        assert side.shape == (size, size)


def test_a_constant_map_stays_constant_inside():
    """The bilinear kernels sum to one at every place."""
    network = _impulse_network()
    with torch.no_grad():
        for score in network.scores:
            score.weight.zero_()
            score.bias.fill_(3.0)
        sides = network(torch.zeros(1, 3, 40, 55))[0, :5]
    assert torch.allclose(sides, torch.full_like(sides, 3.0))


@pytest.mark.parametrize("size", [(1, 1), (16, 33), (64, 64)])
def test_any_size(size):
    with torch.no_grad():
        assert HED()(torch.zeros(2, 3, *size)).shape == (2, 6, *size)


def test_vgg16_weights_compute_the_same_features(tmp_path):
    torch.manual_seed(0)
    state, before, place = {}, 3, 0
    for width, depth in zip(WIDTHS, DEPTHS, strict=True):
        for _ in range(depth):
            state[f"features.{place}.weight"] = torch.randn(width, before, 3, 3) / (3 * before**0.5)
            state[f"features.{place}.bias"] = torch.randn(width)
            before, place = width, place + 2
        place += 1
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg16.pth")
    network = HED("interpolated")
    load_vgg16(network, tmp_path / "vgg16.pth")
    image = torch.rand(1, 3, 12, 12) * 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    wanted = functional.conv2d(normalised, state["features.0.weight"], state["features.0.bias"])
    with torch.no_grad():
        got = network.stages[0][0](image.flip(1) - torch.tensor(MEAN_BGR).view(1, 3, 1, 1))[:, :, 1:-1, 1:-1]
    assert torch.allclose(got, wanted, atol=1e-3)


def test_blobs_of_every_kind(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    doubles = field(8, array.astype("<f8").tobytes()) + field(7, field(1, bytes([1, 2, 3])))
    parts = [blob(array), blob(array, packed=False), doubles]
    body = field(1, b"layer") + b"".join(field(7, part) for part in parts)
    (tmp_path / "a.caffemodel").write_bytes(field(1, b"net") + field(100, body))
    read = read_caffemodel(tmp_path / "a.caffemodel")
    assert list(read) == ["layer"]
    for values in read["layer"]:
        assert np.array_equal(values, array)


def test_faulty_files_are_named(tmp_path, network):
    path = tmp_path / "hed.caffemodel"
    with pytest.raises(DataError, match="cannot be read"):
        load_hed(HED(), path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(DataError, match="not a whole"):
        load_hed(HED(), path)
    path.write_bytes(field(1, b"an empty net"))
    with pytest.raises(DataError, match="no layer"):
        load_hed(HED(), path)
    caffe_file(path, network.state_dict(), False)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="not a whole"):
        load_hed(HED(), path)
    path.write_bytes(caffe_layer("conv1_1", [np.zeros((64, 3, 3, 3), np.float32)], False))
    with pytest.raises(DataError, match="missing"):
        load_hed(HED(), path)
    torch.save({"features.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.pth")
    with pytest.raises(DataError, match="13 convolutions"):
        load_vgg16(HED(), tmp_path / "vgg.pth")
