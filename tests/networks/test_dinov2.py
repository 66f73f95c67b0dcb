"""The Vision Transformer of DINOv2 against its equations, and the light decoder above it."""

import math

import pytest
import torch
from torch.nn import functional

from wss.errors import UsageError
from wss.networks import DINOv2, LightDecoder, NetworkSpec, build_network, load_pretrained
from wss.networks.dinov2 import GRID, PATCH, WIDTH


def published_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes in the published file."""
    c = WIDTH
    names = {"cls_token": (1, 1, c), "pos_embed": (1, 37 * 37 + 1, c), "mask_token": (1, c)}
    names |= {"patch_embed.proj.weight": (c, 3, 14, 14), "patch_embed.proj.bias": (c,)}
    names |= {"norm.weight": (c,), "norm.bias": (c,)}
    for block in (f"blocks.{number}" for number in range(12)):
        names |= {f"{block}.attn.qkv.weight": (3 * c, c), f"{block}.attn.qkv.bias": (3 * c,)}
        names |= {f"{block}.attn.proj.weight": (c, c), f"{block}.attn.proj.bias": (c,)}
        names |= {f"{block}.mlp.fc1.weight": (4 * c, c), f"{block}.mlp.fc1.bias": (4 * c,)}
        names |= {f"{block}.mlp.fc2.weight": (c, 4 * c), f"{block}.mlp.fc2.bias": (c,)}
        names |= {f"{block}.norm{n}.{leaf}": (c,) for n in (1, 2) for leaf in ("weight", "bias")}
        names |= {f"{block}.ls{n}.gamma": (c,) for n in (1, 2)}
    return names


def reference(state: dict[str, torch.Tensor], image: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    """The four maps of one image (3,14 h,14 w), token by token and head by head."""

    def normalised(x, name):
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    kernel = state["patch_embed.proj.weight"].reshape(WIDTH, -1)
    tokens = [state["cls_token"][0, 0]]
    for row in range(height):
        for column in range(width):
            patch = image[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            tokens.append(kernel @ patch.reshape(-1) + state["patch_embed.proj.bias"])
    grid = state["pos_embed"][:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)[0].flatten(1).T
    x = torch.stack(tokens) + torch.cat([state["pos_embed"][0, :1], grid])
    maps = []
    for number in range(12):
        block = f"blocks.{number}"
        q, k, v = linear(normalised(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, 1)
        heads = []
        for head in range(6):
            part = slice(head * 64, (head + 1) * 64)
            weights = (q[:, part] @ k[:, part].T / math.sqrt(64)).softmax(1)
            heads.append(weights @ v[:, part])
        x = x + linear(torch.cat(heads, 1), f"{block}.attn.proj") * state[f"{block}.ls1.gamma"]
        hidden = linear(normalised(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(hidden, f"{block}.mlp.fc2") * state[f"{block}.ls2.gamma"]
        if number in (2, 5, 8, 11):
            maps.append(normalised(x, "norm")[1:].T.reshape(WIDTH, height, width))
    return maps


def random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in published_names().items()}


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        network = DINOv2()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published_names()
    assert sum(p.numel() for p in network.parameters()) == 22_056_576


@pytest.mark.parametrize("grid", [(2, 3), (1, 1), (GRID, 2)])
def test_maps_are_those_of_the_equations(grid):
    network, state = DINOv2(16).eval().double(), random_weights()
    network.load_state_dict(state)
    image = torch.randn(1, 3, 16 * grid[0], 16 * grid[1], dtype=torch.float64)
    resized = functional.interpolate(image, (14 * grid[0], 14 * grid[1]), mode="bilinear", align_corners=False)
    with torch.no_grad():
        maps = network(image)
        expected = reference({name: value.double() for name, value in state.items()}, resized[0], *grid)
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found[0], wanted, atol=1e-8, rtol=1e-8)


def test_the_trained_grid_keeps_its_position_embedding():
    network = DINOv2().eval()
    assert network._positions(GRID, GRID) is network.pos_embed
    assert network._positions(GRID, GRID - 1).shape == (1, GRID * (GRID - 1) + 1, WIDTH)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (33, 50), (64, 32)])
def test_a_patch_covers_the_output_stride(stride, size):
    network = DINOv2(stride).eval()
    with torch.no_grad():
        maps = network(torch.randn(2, 3, *size))
    grid = tuple(math.ceil(side / stride) for side in size)
    assert [tuple(each.shape) for each in maps] == [(2, WIDTH, *grid)] * 4
    assert network.strides == (stride,) * 4


def test_it_learns_everywhere_but_in_the_mask_token():
    torch.manual_seed(0)
    network = DINOv2()
    maps = network(torch.randn(1, 3, 48, 32))
    sum((each * torch.randn_like(each)).sum() for each in maps).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == ["mask_token"]
    assert all(p.grad.abs().max() > 0 for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["deeplab-v2", "deeplab-v3plus", "pspnet", "light-decoder"])
def test_every_head_takes_it(name):
    torch.manual_seed(0)
    network = build_network(NetworkSpec(name=name, backbone="dinov2_vits14"), 3).eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 50, 65))
    stride = network.output_stride
    assert logits.shape == (1, 3, math.ceil(50 / stride), math.ceil(65 / stride))
    assert (logits.softmax(1) - 1 / 3).abs().mean() < 0.2


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_published_files_are_read(tmp_path, ending):
    from safetensors.torch import save_file

    state = {name: value.half() for name, value in random_weights().items()}
    path = tmp_path / f"dinov2.{ending}"
    torch.save(state, path) if ending == "pth" else save_file(state, path)
    network = build_network(NetworkSpec(name="light-decoder", backbone="dinov2_vits14"), 3)
    record = load_pretrained(network, path)
    assert record.kind == "file"
    assert record.random == ()
    for name, value in network.backbone.state_dict().items():
        assert (value == state[name].float()).all(), name


def test_it_has_no_image_level_classifier():
    with pytest.raises(UsageError, match="dinov2_vits14 has no image-level classifier"):
        DINOv2().classify(torch.zeros(1, 3, 28, 28))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "dinov2_vits14"])
def test_the_light_decoder_works_at_any_size_and_learns_everywhere(backbone):
    torch.manual_seed(0)
    network = build_network(NetworkSpec(name="light-decoder", backbone=backbone), 3)
    assert isinstance(network, LightDecoder)
    logits = network(torch.randn(2, 3, 33, 70))
    stride = 16 if backbone == "dinov2_vits14" else 8
    assert logits.shape == (2, 3, math.ceil(33 / stride), math.ceil(70 / stride))
    (logits * torch.randn_like(logits)).sum().backward()
    head = {n: p for n, p in network.named_parameters() if not n.startswith("backbone")}
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.values())
    assert 0.6e6 < sum(p.numel() for p in head.values()) < 1e6
    network.eval()
    with torch.no_grad():
        image = torch.randn(1, 3, 40, 24)
        torch.testing.assert_close(network.classify(network.forward_features(image)), network(image))
        assert network(torch.randn(1, 3, 1, 1)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("size", [(48, 64), (41, 50), (33, 63)])
def test_patches_tile_the_image_and_nothing_beyond_it(size, monkeypatch):
    """Each patch sees the image where interpolation of its value to the image's size will put it."""
    network = DINOv2(16).eval()
    seen = []
    monkeypatch.setattr(network.patch_embed, "forward", lambda image: seen.append(image) or torch.zeros(1, WIDTH, 3, 4))
    ramp = torch.arange(size[1]).float().expand(1, 3, *size).contiguous()
    with torch.no_grad():
        network(ramp)
    patches = seen[0][0, 0].reshape(3, PATCH, 4, PATCH).mean((1, 3))
    centres = (torch.arange(4) + 0.5) * size[1] / 4 - 0.5
    torch.testing.assert_close(patches, centres.expand(3, 4), atol=0.2, rtol=0)
