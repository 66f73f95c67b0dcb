"""Interface of backbones: classification networks that give four feature maps at a chosen output stride."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

OutputStride = Literal[8, 16, 32]


class Backbone(nn.Module, ABC):
    """A classification network whose later strides can be replaced by dilation.

    Attributes:
        architecture: Name of the backbone, as in ``NetworkSpec.backbone``.
        output_stride: Stride of the last feature map.
        strides: Strides of the four feature maps.
        channels: Channels of the four feature maps.
    """

    architecture: str
    output_stride: int
    channels: tuple[int, int, int, int]

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Strides of the four feature maps, for example (4, 8, 16, 16)."""
        return (4, 8, min(16, self.output_stride), self.output_stride)

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Feature maps (B,C_i,ceil(H/s_i),ceil(W/s_i)) of normalised images (B,3,H,W), from fine to coarse."""

    @abstractmethod
    def classify(self, image: Tensor) -> Tensor:
        """Image-level logits (B,num_classes) of normalised images (B,3,H,W).

        Raises:
            UsageError: The backbone was built without a classifier.
        """

    def adapt(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Convert a file's parameters to the names and shapes of this backbone.

        Args:
            state: Parameters as published.

        Returns:
            The converted parameters, and the parts of the backbone that are not in the file and keep their random
            weights.
        """
        return dict(state), ()


def stage_dilations(output_stride: int) -> list[tuple[int, int, int]]:
    """Stride, dilation of the first convolution and dilation of the others, in the stages of stride 8, 16 and 32.

    A stage beyond ``output_stride`` loses its stride. The convolutions after it are dilated, so that at positions which
    the strided network also has, the values are equal. The convolution that loses its stride keeps the dilation of the
    previous stage.

    Source: DeepLab (Chen et al. 2017, arXiv:1606.00915), section 3.1.
    """
    stages = []
    stride, dilation = 4, 1
    for _ in range(3):
        before = dilation
        if stride < output_stride:
            stride *= 2
            stages.append((2, before, dilation))
        else:
            dilation *= 2
            stages.append((1, before, dilation))
    return stages
