"""Which network, as parameters, and the network they describe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wss.errors import UsageError
from wss.networks.backbone import Backbone, OutputStride
from wss.networks.deeplab_v2 import DeepLabV2
from wss.networks.deeplab_v3plus import DeepLabV3Plus
from wss.networks.mobilenet_v2 import MobileNetV2, Padding
from wss.networks.network import SegmentationNetwork
from wss.networks.resnet import ResNet
from wss.networks.unet import UNet, Upsampling
from wss.params import Params

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]

RGB = tuple[float, float, float]


class NetworkSpec(Params):
    """A segmentation network and the normalisation that its weights expect.

    Raises:
        UsageError: The options contradict each other; the message names those that go together.
    """

    name: Literal["unet", "deeplab-v2", "deeplab-v3plus"] = "unet"
    """Architecture. ``unet`` trains from scratch; the others build on a backbone."""
    backbone: BackboneName | None = None
    """Classification network below a DeepLab; None with ``unet``."""
    output_stride: OutputStride | None = None
    """Stride of the backbone's last features; None is 8 for ``deeplab-v2`` and 16 for ``deeplab-v3plus``."""
    padding: Padding = "symmetric"
    """Of MobileNetV2's strided convolutions: ``same`` for weights that were trained in TensorFlow."""
    upsampling: Upsampling = "bilinear"
    """How a ``unet`` doubles the size of its features."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Rate at the deepest level of ``unet`` (None is 0.5), in front of ``deeplab-v2``'s classifiers (None is 0), after
    ``deeplab-v3plus``'s pyramid pooling (None is 0.1)."""
    mean: RGB = (0.485, 0.456, 0.406)
    """Mean of RGB values in 0..1, subtracted; ImageNet's."""
    std: RGB = (0.229, 0.224, 0.225)
    """Deviation of RGB values in 0..1, divided by; ImageNet's."""

    @model_validator(mode="after")
    def _options_agree(self) -> NetworkSpec:
        names = "resnet18, resnet34, resnet50, resnet101, mobilenet_v2"
        if self.name == "unet":
            if self.backbone is not None:
                raise UsageError(
                    f"network unet has no backbone, got {self.backbone}: leave backbone out, or choose the network "
                    "deeplab-v2 or deeplab-v3plus"
                )
            if self.output_stride is not None:
                raise UsageError(
                    f"network unet always works at stride 1, got output_stride {self.output_stride}: leave it out, or "
                    "choose the network deeplab-v2 or deeplab-v3plus"
                )
        else:
            if self.backbone is None:
                raise UsageError(f"network {self.name} needs a backbone: one of {names}")
            if self.upsampling != "bilinear":
                raise UsageError(f"upsampling is an option of unet, not of {self.name}: leave it out")
        if self.padding != "symmetric" and self.backbone != "mobilenet_v2":
            raise UsageError(
                f"padding {self.padding!r} is an option of backbone mobilenet_v2, not of {self.backbone or self.name}: "
                "leave it out, or choose that backbone"
            )
        if min(self.std) <= 0:
            raise UsageError(f"std must be positive in every channel, got {self.std}")
        return self


def build_network(spec: NetworkSpec, num_classes: int) -> SegmentationNetwork:
    """The network that ``spec`` describes, with random weights.

    Args:
        spec: The network.
        num_classes: K, background included.

    Raises:
        UsageError: Fewer than one class.
    """
    if num_classes < 1:
        raise UsageError(f"a network needs at least one class, got num_classes {num_classes}")
    if spec.name == "unet":
        return UNet(num_classes, dropout=0.5 if spec.dropout is None else spec.dropout, upsampling=spec.upsampling)
    if spec.name == "deeplab-v2":
        dropout = 0.0 if spec.dropout is None else spec.dropout
        return DeepLabV2(_backbone(spec, spec.output_stride or 8), num_classes, dropout)
    dropout = 0.1 if spec.dropout is None else spec.dropout
    light = spec.backbone == "mobilenet_v2"
    return DeepLabV3Plus(_backbone(spec, spec.output_stride or 16), num_classes, dropout, separable=light)


def _backbone(spec: NetworkSpec, output_stride: OutputStride) -> Backbone:
    match spec.backbone:
        case "resnet18":
            return ResNet(18, output_stride)
        case "resnet34":
            return ResNet(34, output_stride)
        case "resnet50":
            return ResNet(50, output_stride)
        case "resnet101":
            return ResNet(101, output_stride)
        case "mobilenet_v2":
            return MobileNetV2(output_stride, padding=spec.padding)
        case None:
            raise UsageError(f"network {spec.name} needs a backbone")
