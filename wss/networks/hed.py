"""Holistically-nested edge detection (HED): VGG16 with an edge map after each of its five stages, and a fused map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.layers.convolution import initialise

Alignment = Literal["caffe", "interpolated"]
"""``caffe``: the published geometry. The first layer pads by 35, pooling rounds sizes up, side outputs are upsampled by
fixed bilinear kernels and cropped at ``OFFSETS``. ``interpolated``: the geometry of the common PyTorch conversion. The
first layer pads by 1, pooling rounds sizes down, side outputs are interpolated to the size of the image. This shifts
the coarse side outputs by some pixels."""

MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)
PADDING = 35
OFFSETS = (34, 35, 36, 38, 42)
"""Position of the image in each upsampled side output. A layer with kernel k, stride s and padding p maps coordinate x
to (x + p - (k - 1) / 2) / s. So the first convolution shifts by 35 - 1, and every 2x2 pooling shifts by -1/2, then
halves. Upsampling by f with a kernel of 2 f maps x to f x + (2 f - 1) / 2."""


class HED(nn.Module):
    """HED: 14.7 M parameters.

    Args:
        alignment: Geometry, see ``Alignment``. The parameters do not depend on it.

    Source: Xie and Tu 2015, arXiv:1504.06375, section 3 and the published network definition.
    """

    side_outputs = 6
    """Number of edge maps that ``forward`` returns; the last one is the fused map."""

    def __init__(self, alignment: Alignment = "caffe") -> None:
        super().__init__()
        self.alignment: Alignment = alignment
        stages, before = [], 3
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.scores = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in WIDTHS)
        self.fuse = nn.Conv2d(len(WIDTHS), 1, 1)
        initialise(self)
        for score in self.scores:
            nn.init.zeros_(score.weight)  # type: ignore[arg-type]
        nn.init.constant_(self.fuse.weight, 1 / len(WIDTHS))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the five side outputs and of the fused map.

        Args:
            image: RGB in 0..255, float (B,3,H,W), of any size.

        Returns:
            Float (B,6,H,W), the fused map last.
        """
        size = image.shape[2:]
        x = image.flip(1) - image.new_tensor(MEAN_BGR).view(1, 3, 1, 1)
        caffe = self.alignment == "caffe"
        if caffe:
            x = functional.pad(x, (PADDING - 1,) * 4)  # the first convolution pads by one more
        sides = []
        for number, (stage, score) in enumerate(zip(self.stages, self.scores, strict=True)):
            x = stage(functional.max_pool2d(x, 2, ceil_mode=caffe) if number else x)
            side = score(x)
            if not caffe:
                sides.append(functional.interpolate(side, size, mode="bilinear", align_corners=False))
                continue
            if number:
                side = _enlarge(side, 2**number)
            top = OFFSETS[number]
            sides.append(side[:, :, top : top + size[0], top : top + size[1]])
        maps = torch.cat(sides, 1)
        return torch.cat([maps, self.fuse(maps)], 1)


def _enlarge(maps: Tensor, factor: int) -> Tensor:
    """Transposed convolution (B,1,h,w) with the bilinear kernel of side ``2 * factor`` and stride ``factor``."""
    place = torch.arange(2 * factor, device=maps.device, dtype=maps.dtype)
    line = 1 - (place - (factor - 0.5)).abs() / factor
    return functional.conv_transpose2d(maps, torch.outer(line, line)[None, None], stride=factor)
