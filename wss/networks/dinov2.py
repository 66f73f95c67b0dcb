"""Vision Transformer ViT-S/14 with the parameter names of DINOv2's published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.networks.backbone import Backbone, OutputStride
from wss.networks.mit import initialise_linear

PATCH = 14
WIDTH = 384
DEPTH = 12
HEADS = 6
EXPANSION = 4
GRID = 37
"""Side of the position embedding in patches, for the training images of 518x518 pixels."""

TAPPED = (2, 5, 8, 11)
"""Blocks whose outputs are the four feature maps."""


class Attention(nn.Module):
    """Self-attention between all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        batch, count, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v)
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, EXPANSION * WIDTH)
        self.fc2 = nn.Linear(EXPANSION * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        output: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return output


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and feed-forward layers with layer normalisation before and a residual connection around each."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        self.ls1 = LayerScale()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = FeedForward()
        self.ls2 = LayerScale()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B,N,C) to tokens (B,N,C)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        output: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return output


class PatchEmbedding(nn.Module):
    """A convolution from each patch to one token."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B,3,14 h,14 w) to maps (B,C,h,w)."""
        maps: Tensor = self.proj(image)
        return maps


class DINOv2(Backbone):
    """DINOv2's ViT-S/14: 22,056,576 parameters.

    Patches of 14 pixels do not fit strides of 8 or 16. The image is therefore resized first, so that one patch covers
    ``output_stride`` pixels of the image, or slightly fewer if a side of the image is not a multiple of it. The patches
    cover exactly the whole image. All four feature maps have this stride.

    Args:
        output_stride: Side in image pixels of the area that one patch covers. 8 gives four times as many tokens as 16.

    Source: Oquab et al. 2023, arXiv:2304.07193; Dosovitskiy et al. 2020, arXiv:2010.11929, (1) to (4). Layers 3, 6, 9 and 12,
        normalised by the last layer normalisation, are the feature maps.
    Differs: the position embedding is interpolated (bicubic) to the grid of the image without the offset of 0.1 in the
        published code. Images are resized as described.
    """

    def __init__(self, output_stride: OutputStride = 16) -> None:
        super().__init__()
        self.architecture = "dinov2_vits14"
        self.output_stride = output_stride
        self.channels = (WIDTH,) * 4
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID**2 + 1, WIDTH))
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH), requires_grad=False)  # used only in DINOv2's training
        self.patch_embed = PatchEmbedding()
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        initialise_linear(self)
        if not self.pos_embed.is_meta:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            nn.init.normal_(self.cls_token, std=1e-6)

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Strides of the four feature maps, all equal."""
        return (self.output_stride,) * 4

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Backbone.forward``."""
        stride = self.output_stride
        height, width = ((side + stride - 1) // stride for side in image.shape[2:])
        image = functional.interpolate(image, (PATCH * height, PATCH * width), mode="bilinear", align_corners=False)
        x = self.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self._positions(height, width)
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPPED:
                maps.append(self.norm(x)[:, 1:].transpose(1, 2).reshape(len(x), WIDTH, height, width))
        return maps[0], maps[1], maps[2], maps[3]

    def classify(self, image: Tensor) -> Tensor:
        """See ``Backbone.classify``. DINOv2 has no classifier, because it was trained without labels; this raises."""
        raise UsageError(f"{self.architecture} has no image-level classifier: it was trained without labels")

    def _positions(self, height: int, width: int) -> Tensor:
        """The position embedding of a grid, (1,1 + h w,C)."""
        if (height, width) == (GRID, GRID):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
        wide = grid.to(torch.promote_types(grid.dtype, torch.float32))
        grid = functional.interpolate(wide, (height, width), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], 1)
