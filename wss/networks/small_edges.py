"""A small network for object boundaries that trains from scratch and is fast on one CPU core."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import DataError
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import initialise
from wss.networks.weights import read_state_dict

MEAN_RGB = (124.0, 116.0, 104.0)
SCALE = 1 / 58.0
STRIDE = 16
"""The sides of the padded image are multiples of this."""


class SmallEdgeNet(nn.Module):
    """An encoder of four levels (strides 2, 4, 8, 16) and a decoder to stride 2 that predicts 2x2 pixels per position.

    The first layer takes the four pixels of each 2x2 block as channels. So no information is lost, although the finest
    features have half the image's sides, which makes the network fast. Each decoder level adds the encoder level,
    projected to ``decoder`` channels, to the upsampled coarser decoder level. Every decoder level except the last
    predicts its own edge map for deep supervision.

    Args:
        widths: Channels of the four encoder levels.
        blocks: Number of residual blocks of each level. The blocks of the last level are depthwise separable with 5x5
            kernels.
        decoder: Channels of the decoder.

    Source: own design. Side outputs after HED (Xie and Tu 2015, arXiv:1504.06375), section 2.2; top-down pathway after
        Lin et al. 2017, arXiv:1612.03144.
    """

    side_outputs = 4
    """Number of edge maps that ``forward`` returns; the last one is the result."""

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (32, 48, 64, 96),
        blocks: tuple[int, int, int, int] = (1, 1, 2, 2),
        decoder: int = 32,
    ) -> None:
        super().__init__()
        levels = []
        before = 12
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            block = _SeparableBlock if number == 3 else _Block
            stride = 2 if number else 1
            levels.append(
                nn.Sequential(_convolution(before, width, stride=stride), *(block(width) for _ in range(count)))
            )
            before = width
        self.levels = nn.ModuleList(levels)
        self.laterals = nn.ModuleList(nn.Conv2d(width, decoder, 1) for width in widths)
        self.smooth = nn.ModuleList(_convolution(decoder, decoder) for _ in widths)
        self.sides = nn.ModuleList(nn.Conv2d(decoder, 1, 1) for _ in widths[1:])
        self.result = nn.Conv2d(decoder, 4, 3, padding=1)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the edge maps, from coarse to fine.

        Args:
            image: RGB in 0..255, float (B,3,H,W), of any size.

        Returns:
            Float (B,4,H,W). The last map is the result; the others are for training.
        """
        height, width = image.shape[2:]
        mean = image.new_tensor(MEAN_RGB).view(1, 3, 1, 1)
        x = functional.pad((image - mean) * SCALE, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        padded = x.shape[2:]
        x = functional.pixel_unshuffle(x, 2)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        maps: list[Tensor] = []
        top: Tensor | None = None
        for number in (3, 2, 1, 0):
            y = self.laterals[number](features[number])
            if top is not None:
                y = y + functional.interpolate(top, scale_factor=2.0, mode="bilinear", align_corners=False)
            top = self.smooth[number](y)
            if number:
                side = self.sides[number - 1](top).float()
                maps.append(functional.interpolate(side, padded, mode="bilinear", align_corners=False))
        maps.append(functional.pixel_shuffle(self.result(top).float(), 2))
        return torch.cat(maps, 1)[:, :, :height, :width]


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.convolutions(x))


class _SeparableBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.convolutions(x))


def load_small(network: SmallEdgeNet, path: Path) -> None:
    """Load weights into a small network, in place.

    Args:
        network: The network. The weights in the package need the default widths.
        path: A state dict of any floating-point precision.

    Raises:
        DataError: The file is missing, damaged, or from another network.
    """
    if not path.is_file():
        raise DataError(f"weights {path}: no such file; give a file that `wss train-edges --network small` wrote")
    state = read_state_dict(path)
    try:
        network.load_state_dict({n: v.float() if v.is_floating_point() else v for n, v in state.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"weights {path}: not those of the small edge network ({reason})") from error
