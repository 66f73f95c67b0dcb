from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from wss.errors import UsageError
from wss.networks import MiT, SegFormer, load_pretrained
from wss.networks.mit import Block, EfficientAttention


def published_names(size: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the published file of MiT-B0 to B2."""
    widths = (32, 64, 160, 256) if size == 0 else (64, 128, 320, 512)
    depths = (3, 4, 6, 3) if size == 2 else (2, 2, 2, 2)
    names: dict[str, tuple[int, ...]] = {"head.weight": (1000, widths[3]), "head.bias": (1000,)}
    before = 3
    for stage, (c, depth, r) in enumerate(zip(widths, depths, (8, 4, 2, 1), strict=True), start=1):
        k = 7 if stage == 1 else 3
        embedding = f"patch_embed{stage}"
        names |= {f"{embedding}.proj.weight": (c, before, k, k), f"{embedding}.proj.bias": (c,)}
        names |= {
            f"{layer}.{leaf}": (c,) for layer in (f"{embedding}.norm", f"norm{stage}") for leaf in ("weight", "bias")
        }
        for block in (f"block{stage}.{n}" for n in range(depth)):
            names |= {f"{block}.norm{n}.{leaf}": (c,) for n in (1, 2) for leaf in ("weight", "bias")}
            names |= {f"{block}.attn.q.weight": (c, c), f"{block}.attn.q.bias": (c,)}
            names |= {f"{block}.attn.kv.weight": (2 * c, c), f"{block}.attn.kv.bias": (2 * c,)}
            names |= {f"{block}.attn.proj.weight": (c, c), f"{block}.attn.proj.bias": (c,)}
            if r > 1:
                names |= {f"{block}.attn.sr.weight": (c, c, r, r), f"{block}.attn.sr.bias": (c,)}
                names |= {f"{block}.attn.norm.weight": (c,), f"{block}.attn.norm.bias": (c,)}
            names |= {f"{block}.mlp.fc1.weight": (4 * c, c), f"{block}.mlp.fc1.bias": (4 * c,)}
            names |= {
                f"{block}.mlp.dwconv.dwconv.weight": (4 * c, 1, 3, 3),
                f"{block}.mlp.dwconv.dwconv.bias": (4 * c,),
            }
            names |= {f"{block}.mlp.fc2.weight": (c, 4 * c), f"{block}.mlp.fc2.bias": (c,)}
        before = c
    return names


@pytest.mark.parametrize("size", [0, 1, 2])
def test_names_and_shapes_are_the_published_ones(size):
    with torch.device("meta"):
        state = MiT(size, num_classes=1000).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_names(size)


@pytest.mark.parametrize(("size", "encoder", "whole"), [(0, 3_319_392, 3_752_694), (1, 13_151_424, 13_715_798)])
def test_it_has_the_published_number_of_parameters(size, encoder, whole):
    """Of the encoder, and of SegFormer with the 150 classes of ADE20K."""
    with torch.device("meta"):
        assert sum(p.numel() for p in MiT(size).parameters()) == encoder
        assert sum(p.numel() for p in SegFormer(MiT(size), 150).parameters()) == whole


@pytest.mark.parametrize("size", [(1, 1), (31, 50), (64, 96)])
def test_feature_maps_have_the_stated_strides_and_channels(size):
    backbone = MiT(0).eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(2, 3, *size))
    assert backbone.strides == (4, 8, 16, 32)
    for features, stride, channels in zip(maps, backbone.strides, backbone.channels, strict=True):
        assert features.shape == (2, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))


@pytest.mark.parametrize(("reduction", "size"), [(1, (3, 5)), (2, (6, 5)), (4, (3, 9))])
def test_attention_is_the_softmax_of_products_with_reduced_keys(reduction, size):
    torch.manual_seed(0)
    layer = EfficientAttention(6, heads=2, reduction=reduction).double()
    height, width = size
    tokens = torch.randn(1, height * width, 6, dtype=torch.float64)
    keys = tokens[0]
    if reduction > 1:
        maps = tokens[0].T.reshape(6, height, width)
        rows = torch.arange(max(height, reduction)).clamp(max=height - 1)
        columns = torch.arange(max(width, reduction)).clamp(max=width - 1)
        maps = maps[:, rows][:, :, columns]
        patches = []
        for top in range(0, maps.shape[1] - reduction + 1, reduction):
            for left in range(0, maps.shape[2] - reduction + 1, reduction):
                patch = maps[:, top : top + reduction, left : left + reduction]
                patches.append((layer.sr.weight * patch).sum((1, 2, 3)) + layer.sr.bias)
        keys = functional.layer_norm(torch.stack(patches), (6,), layer.norm.weight, layer.norm.bias)
    q, k, v = layer.q(tokens[0]), *layer.kv(keys).split(6, 1)
    found = torch.empty(len(q), 6, dtype=torch.float64)
    for head in (slice(0, 3), slice(3, 6)):
        found[:, head] = (q[:, head] @ k[:, head].T / math.sqrt(3)).softmax(1) @ v[:, head]
    torch.testing.assert_close(layer(tokens, height, width)[0], layer.proj(found))


def test_a_block_adds_attention_and_feed_forward():
    torch.manual_seed(0)
    block = Block(4, 2, 2, drop_path=0.5).double().eval()
    tokens = torch.randn(2, 12, 4, dtype=torch.float64)
    after = tokens + block.attn(functional.layer_norm(tokens, (4,), eps=1e-6), 3, 4)
    hidden = block.mlp.fc1(functional.layer_norm(after, (4,), eps=1e-6))
    maps = hidden.transpose(1, 2).reshape(2, 16, 3, 4)
    conv = block.mlp.dwconv.dwconv
    maps = functional.conv2d(maps, conv.weight, conv.bias, padding=1, groups=16)
    hidden = 0.5 * maps * (1 + torch.erf(maps / math.sqrt(2)))
    expected = after + block.mlp.fc2(hidden.reshape(2, 16, 12).transpose(1, 2))
    torch.testing.assert_close(block(tokens, 3, 4), expected)


def test_dropped_paths_keep_the_mean_and_grow_with_depth():
    torch.manual_seed(0)
    block = Block(4, 2, 1, drop_path=0.25).train()
    kept = block._kept(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert all(len(image.unique()) == 1 for image in kept)
    rates = [block.drop_path for stage in range(1, 5) for block in MiT(0).get_submodule(f"block{stage}")]
    assert rates == pytest.approx([0.1 * n / 7 for n in range(8)])


def test_the_image_classifier_averages_the_last_features():
    backbone = MiT(0, num_classes=5).eval()
    image = torch.randn(2, 3, 40, 56)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.classify(image), backbone.head(backbone(image)[-1].mean((2, 3))))
    with pytest.raises(UsageError, match="num_classes"):
        MiT(0).classify(image)


def test_the_decoder_is_linear_layers_on_enlarged_maps():
    torch.manual_seed(0)
    network = SegFormer(MiT(0), 3, width=8).eval()
    image = torch.randn(1, 3, 40, 56)
    with torch.inference_mode():
        levels = []
        for projection, level in zip(network.projections, network.backbone(image), strict=True):
            tokens = level.flatten(2).transpose(1, 2) @ projection.weight.flatten(1).T + projection.bias
            maps = tokens.transpose(1, 2).reshape(1, 8, *level.shape[2:])
            levels.append(functional.interpolate(maps, (10, 14), mode="bilinear", align_corners=False))
        expected = network.fuse(torch.cat(levels, 1))
        torch.testing.assert_close(network.forward_features(image), expected, atol=1e-4, rtol=1e-4)


def other_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published parameters as the transformers library names and splits them, written down from its modules."""
    named = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        stage = int(part[-1]) - 1
        if part.startswith("patch_embed"):
            named[f"encoder.patch_embeddings.{stage}." + rest.replace("norm", "layer_norm")] = value
        elif part.startswith("norm"):
            named[f"encoder.layer_norm.{stage}.{rest}"] = value
        else:
            number, _, rest = rest.partition(".")
            block = f"encoder.block.{stage}.{number}."
            leaf = rest.rsplit(".", 1)[1]
            if rest.startswith("attn.kv."):
                key, other = value.chunk(2)
                named[f"{block}attention.self.key.{leaf}"] = key
                named[f"{block}attention.self.value.{leaf}"] = other
                continue
            theirs = {
                "norm1": "layer_norm_1",
                "norm2": "layer_norm_2",
                "attn.q": "attention.self.query",
                "attn.sr": "attention.self.sr",
                "attn.norm": "attention.self.layer_norm",
                "attn.proj": "attention.output.dense",
                "mlp.fc1": "mlp.dense1",
                "mlp.fc2": "mlp.dense2",
                "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
            }
            named[f"{block}{theirs[rest.rsplit('.', 1)[0]]}.{leaf}"] = value
    return named


@pytest.mark.parametrize(
    "form",
    [
        lambda state: {**state, "head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)},
        lambda state: {
            "state_dict": {f"backbone.{n}": v for n, v in state.items()} | {"decode_head.x": torch.zeros(1)}
        },
        lambda state: {**other_names(state), "classifier.weight": torch.zeros(1000, 256)},
        lambda state: {f"segformer.{n}": v for n, v in other_names(state).items()} | {"decode_head.x": torch.zeros(1)},
        lambda state: {f"network.backbone.{n}": v for n, v in state.items()},
    ],
    ids=["published", "whole", "transformers", "whole-transformers", "own"],
)
def test_published_files_load(form, tmp_path):
    torch.manual_seed(1)
    state = MiT(0).state_dict()
    torch.save(form(state), tmp_path / "mit_b0.pth")
    network = SegFormer(MiT(0), 2)
    load_pretrained(network, tmp_path / "mit_b0.pth")
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, state[name]), name
