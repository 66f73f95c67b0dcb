"""Mix Transformer (MiT), SegFormer's backbone, with the parameter names of its published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.distributed import random_shard
from wss.errors import UsageError
from wss.networks.backbone import Backbone
from wss.networks.layers.convolution import initialise

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
"""Side in cells of the patches for which each stage computes keys and values."""
EXPANSION = 4
DROP_PATH = 0.1


@dataclass(frozen=True)
class Size:
    """Channels and blocks of the four stages."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


SIZES = {
    0: Size((32, 64, 160, 256), (2, 2, 2, 2)),
    1: Size((64, 128, 320, 512), (2, 2, 2, 2)),
    2: Size((64, 128, 320, 512), (3, 4, 6, 3)),
}

_THEIR_NAME = re.compile(r"encoder\.(patch_embeddings|block|layer_norm)\.(\d)\.(.+)")
_STAGE_PARTS = {"patch_embeddings": "patch_embed", "block": "block", "layer_norm": "norm"}
_PARTS = {
    "layer_norm_1.": "norm1.",
    "layer_norm_2.": "norm2.",
    "layer_norm.": "norm.",
    "attention.self.query.": "attn.q.",
    "attention.self.": "attn.",
    "attention.output.dense.": "attn.proj.",
    "mlp.dense": "mlp.fc",
}
"""Replacements, in this order, of names of the transformers library by ours. Its stages count from 0."""


class PatchEmbedding(nn.Module):
    """A strided convolution with overlapping windows, and layer normalisation."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Maps (B,C,H,W) to tokens (B,h w,C'), with h and w."""
        x = self.proj(x)
        height, width = x.shape[2:]
        return self.norm(x.flatten(2).transpose(1, 2)), height, width


class EfficientAttention(nn.Module):
    """Self-attention with one key and value per patch of ``reduction`` x ``reduction`` cells.

    As published, cells to the right of and below the last whole patch give no key. Maps smaller than one patch are
    padded to one patch (border repeated).

    Source: Xie et al. 2021, arXiv:2105.15203, section 3.1, (1) and (2).
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Tokens (B,N,C) of a map of ``height`` x ``width`` to tokens (B,N,C)."""
        keys = x
        if self.reduction > 1:
            maps = _as_maps(x, height, width)
            if height < self.reduction or width < self.reduction:
                missing = (0, max(self.reduction - width, 0), 0, max(self.reduction - height, 0))
                maps = functional.pad(maps, missing, mode="replicate")
            keys = self.norm(self.sr(maps).flatten(2).transpose(1, 2))
        k, v = self.kv(keys).chunk(2, -1)
        attended = functional.scaled_dot_product_attention(self._split(self.q(x)), self._split(k), self._split(v))
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, channels = tokens.shape
        return tokens.reshape(batch, count, self.heads, channels // self.heads).transpose(1, 2)


class DepthwiseConvolution(nn.Module):
    """A depthwise 3x3 convolution of tokens. It gives them information about their position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        maps: Tensor = self.dwconv(_as_maps(x, height, width))
        return maps.flatten(2).transpose(1, 2)


class MixFFN(nn.Module):
    """Two linear layers with a depthwise convolution between them.

    Source: Xie et al. 2021, arXiv:2105.15203, (3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.dwconv = DepthwiseConvolution(EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        output: Tensor = self.fc2(functional.gelu(self.dwconv(self.fc1(x), height, width)))
        return output


class Block(nn.Module):
    """Attention and Mix-FFN with layer normalisation before and a residual connection around each.

    Args:
        channels: C.
        heads: Number of attention heads.
        reduction: See ``EfficientAttention``.
        drop_path: Probability in training, per image and per layer, that the layer is skipped.
    """

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = EfficientAttention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MixFFN(channels)
        self.drop_path = drop_path

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        x = x + self._kept(self.attn(self.norm1(x), height, width))
        return x + self._kept(self.mlp(self.norm2(x), height, width))

    def _kept(self, change: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return change
        keep = 1 - self.drop_path
        chances = random_shard(lambda count: torch.rand(count, 1, 1, device=change.device), len(change))
        return change * (chances < keep).to(change.dtype) / keep


class MiT(Backbone):
    """Mix Transformer B0, B1 or B2, always at output stride 32.

    Args:
        size: 0, 1 or 2.
        num_classes: Number of classes of the image-level classifier ``head``; None has no classifier.
        drop_path: Probability of a dropped path in the last block. It grows linearly from 0 in the first block.

    Source: Xie et al. 2021, arXiv:2105.15203, section 3.1 and table 6.
    """

    def __init__(self, size: int, num_classes: int | None = None, drop_path: float = DROP_PATH) -> None:
        super().__init__()
        self.architecture = f"mit_b{size}"
        self.output_stride = 32
        self.channels = SIZES[size].channels
        depths = SIZES[size].depths
        rates = [drop_path * number / (sum(depths) - 1) for number in range(sum(depths))]
        before = 3
        for stage, (channels, depth) in enumerate(zip(self.channels, depths, strict=True)):
            embedding = PatchEmbedding(before, channels, *((7, 4) if stage == 0 else (3, 2)))
            first = sum(depths[:stage])
            blocks = (Block(channels, HEADS[stage], REDUCTIONS[stage], rates[first + n]) for n in range(depth))
            self.add_module(f"patch_embed{stage + 1}", embedding)
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(channels, eps=1e-6))
            before = channels
        self.head = None if num_classes is None else nn.Linear(before, num_classes)
        initialise(self)
        initialise_linear(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Backbone.forward``: the outputs of ``norm1`` to ``norm4``."""
        maps = []
        x = image
        for stage in range(1, 5):
            tokens, height, width = self.get_submodule(f"patch_embed{stage}")(x)
            for block in self.get_submodule(f"block{stage}").children():
                tokens = block(tokens, height, width)
            x = _as_maps(self.get_submodule(f"norm{stage}")(tokens), height, width)
            maps.append(x)
        return maps[0], maps[1], maps[2], maps[3]

    def classify(self, image: Tensor) -> Tensor:
        """See ``Backbone.classify``."""
        if self.head is None:
            raise UsageError(f"{self.architecture} was built without a classifier; give num_classes")
        logits: Tensor = self.head(self(image)[-1].mean((2, 3)))
        return logits

    def adapt(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """See ``Backbone.adapt``: names of the transformers library are converted to the published names."""
        inside = {n.removeprefix("segformer."): v for n, v in state.items() if n.startswith("segformer.")} or state
        if not any(_THEIR_NAME.fullmatch(name) for name in inside):
            return dict(state), ()
        renamed: dict[str, Tensor] = {}
        for name, value in inside.items():
            match = _THEIR_NAME.fullmatch(name)
            if match is None:
                renamed[name] = value
                continue
            part, stage, rest = match.groups()
            for theirs, ours in _PARTS.items():
                rest = rest.replace(theirs, ours)
            renamed[f"{_STAGE_PARTS[part]}{int(stage) + 1}.{rest}"] = value
        for key in [name for name in renamed if ".attn.key." in name]:
            both = [renamed.pop(name) for name in (key, key.replace(".key.", ".value.")) if name in renamed]
            renamed[key.replace(".key.", ".kv.")] = torch.cat(both)
        return renamed, ()


def initialise_linear(module: nn.Module) -> None:
    """Set normal weights and zero biases in all linear layers of ``module``.

    The standard deviation is 0.02; values are truncated at -2 and 2. Weights on the meta device are not changed.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear) and not child.weight.is_meta:
            nn.init.trunc_normal_(child.weight, std=0.02)
            nn.init.zeros_(child.bias)


def _as_maps(tokens: Tensor, height: int, width: int) -> Tensor:
    batch, _, channels = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, channels, height, width)
