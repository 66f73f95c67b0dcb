"""Parameters of a segmentation network, and the function that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from wss.errors import UsageError
from wss.networks.backbone import Backbone, OutputStride
from wss.networks.deeplab_largefov import DeepLabLargeFOV
from wss.networks.deeplab_msc_largefov import DeepLabMScLargeFOV
from wss.networks.deeplab_v2 import DeepLabV2
from wss.networks.deeplab_v3plus import DeepLabV3Plus
from wss.networks.deeplab_vgg16 import DeepLabVGG16
from wss.networks.dinov2 import DINOv2
from wss.networks.light_decoder import LightDecoder
from wss.networks.mit import MiT
from wss.networks.mobilenet_v2 import MobileNetV2, Padding
from wss.networks.network import SegmentationNetwork
from wss.networks.pspnet import PSPNet
from wss.networks.resnet import ResNet
from wss.networks.segformer import SegFormer
from wss.networks.unet import WIDTHS, UNet, Upsampling
from wss.params import LATER, Params

NetworkName = Literal[
    "unet",
    "deeplab-largefov",
    "deeplab-msc-largefov",
    "deeplab-vgg16",
    "deeplab-v2",
    "deeplab-v3plus",
    "pspnet",
    "segformer",
    "light-decoder",
]
BackboneName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "mobilenet_v2",
    "vgg16",
    "mit_b0",
    "mit_b1",
    "mit_b2",
    "dinov2_vits14",
]

RGB = tuple[float, float, float]

_DILATED = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "dinov2_vits14")


@dataclass(frozen=True)
class Architecture:
    """Properties and defaults of a network architecture.

    Attributes:
        backbones: Possible backbones. If there is only one, it need not be named.
        dropout: Default dropout rate.
        output_stride: Default output stride of the backbone.
        any_stride: True if another output stride can be given.
        logits_stride: Stride of the logits, if it differs from the backbone's output stride.
        image_pooling: True if the features of every pixel include a mean over the whole image.
    """

    backbones: tuple[str, ...]
    dropout: float
    output_stride: OutputStride = 8
    any_stride: bool = False
    logits_stride: int | None = None
    image_pooling: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "unet": Architecture((), 0.5, logits_stride=1),  # times stem_stride
    "deeplab-largefov": Architecture(("vgg16",), 0.5),
    "deeplab-msc-largefov": Architecture(("vgg16",), 0.5, logits_stride=1),
    "deeplab-vgg16": Architecture(("vgg16",), 0.5),
    "deeplab-v2": Architecture(_DILATED, 0.0, any_stride=True),
    "deeplab-v3plus": Architecture(_DILATED, 0.1, 16, any_stride=True, logits_stride=4, image_pooling=True),
    "pspnet": Architecture(_DILATED, 0.1, any_stride=True, image_pooling=True),
    "segformer": Architecture(("mit_b0", "mit_b1", "mit_b2"), 0.1, 32, logits_stride=4),
    "light-decoder": Architecture(_DILATED, 0.1, 16, any_stride=True, logits_stride=8),
}
"""Every network by name."""


class NetworkSpec(Params):
    """A segmentation network and the normalisation that its weights expect.

    Raises:
        UsageError: The options contradict each other; the message names options that fit together.
    """

    name: NetworkName = "unet"
    """Architecture. ``unet`` trains from scratch; the others have a backbone."""
    backbone: BackboneName | None = None
    """Classification network that gives the features. It can be left out if the network has only one possible backbone
    (``vgg16`` for ``deeplab-largefov``, ``deeplab-msc-largefov`` and ``deeplab-vgg16``)."""
    output_stride: OutputStride | None = None
    """Stride of the backbone's last features. A smaller stride gives finer masks and takes more time and memory. None
    is 16 for ``deeplab-v3plus`` and ``light-decoder``, and 8 for ``deeplab-v2`` and ``pspnet``. Other networks have a
    fixed stride."""
    padding: Padding = "symmetric"
    """Padding of MobileNetV2's strided convolutions; ``same`` for weights that were trained in TensorFlow."""
    upsampling: Upsampling = "bilinear"
    """Upsampling in a ``unet``: bilinear interpolation or transposed convolutions."""
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=WIDTHS, min_length=2, max_length=6, json_schema_extra=LATER
    )
    """Channels of each level of a ``unet``, from fine to coarse."""
    stem_stride: Literal[1, 2, 4] = Field(default=1, json_schema_extra=LATER)
    """Stride s of a ``unet``'s finest level and of its logits. Each block of s x s pixels enters the first convolution
    as one position with s x s times as many channels. With 2, a step takes less than half the time of 1."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout rate. Its place, and the value for None: deepest level of ``unet`` (0.5), after ``fc6`` and ``fc7`` of
    VGG16 (0.5), before the classifiers of ``deeplab-v2`` (0), ``pspnet``, ``segformer`` and ``light-decoder`` (0.1),
    after the pyramid pooling of ``deeplab-v3plus`` (0.1)."""
    multi_scale: tuple[Annotated[float, Field(gt=0, le=2)], ...] = ()
    """Additional scales at which the network sees each image, in training and at test time. The result at each pixel is
    the maximum of all logits. DeepLab-v2 with ResNet-101 was published with 0.5 and 0.75. The terms ``pce`` and ``ce``
    are then the sum of the cross-entropies of each scale's logits and of the maximum."""
    deep_supervision: float = Field(default=0.0, ge=0, json_schema_extra=LATER)
    """Weight of the cross-entropy of a ``unet``'s coarser levels, relative to the terms that fit its output to labelled
    pixels (``pce``, ``ce``). It is halved from level to level. Each of these levels then has a classifier that only
    training uses. 0 adds none."""
    mean: RGB = (0.485, 0.456, 0.406)
    """Mean that is subtracted from RGB values in 0..1; the default is ImageNet's."""
    std: RGB = (0.229, 0.224, 0.225)
    """Standard deviation by which RGB values in 0..1 are divided; the default is ImageNet's."""

    @model_validator(mode="before")
    @classmethod
    def _only_backbone(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("backbone") is None:
            known = ARCHITECTURES.get(str(values.get("name")))
            if known is not None and len(known.backbones) == 1:
                return {**values, "backbone": known.backbones[0]}
        return values

    @model_validator(mode="after")
    def _options_agree(self) -> NetworkSpec:
        known = ARCHITECTURES[self.name]
        if self.backbone is None and known.backbones:
            raise UsageError(f"network {self.name} needs a backbone: one of {', '.join(known.backbones)}")
        if self.backbone is not None and self.backbone not in known.backbones:
            own = f"takes the backbone {_or(known.backbones)}" if known.backbones else "has no backbone"
            instead = _or([name for name, other in ARCHITECTURES.items() if self.backbone in other.backbones])
            remedy = "choose that" if known.backbones else "leave backbone out"
            raise UsageError(
                f"network {self.name} {own}, got {self.backbone}: {remedy}, or choose the network {instead}"
            )
        if self.output_stride is not None and not known.any_stride:
            instead = _or([name for name, other in ARCHITECTURES.items() if other.any_stride])
            raise UsageError(
                f"network {self.name} always works at stride {known.logits_stride or known.output_stride}, got output_stride "
                f"{self.output_stride}: leave it out, or choose the network {instead}"
            )
        if self.upsampling != "bilinear" and self.name != "unet":
            raise UsageError(f"upsampling is an option of unet, not of {self.name}: leave it out")
        for option in ("widths", "stem_stride", "deep_supervision"):
            if self.name != "unet" and getattr(self, option) != NetworkSpec.model_fields[option].default:
                raise UsageError(f"{option} is an option of unet, not of {self.name}: leave it out")
        if self.padding != "symmetric" and self.backbone != "mobilenet_v2":
            raise UsageError(
                f"padding {self.padding!r} is an option of backbone mobilenet_v2, not of {self.backbone or self.name}: "
                "leave it out, or choose that backbone"
            )
        if min(self.std) <= 0:
            raise UsageError(f"std must be positive in every channel, got {self.std}")
        return self

    @property
    def image_pooling(self) -> bool:
        """True if the features of every pixel include a mean over the whole image."""
        return ARCHITECTURES[self.name].image_pooling


def build_network(spec: NetworkSpec, num_classes: int) -> SegmentationNetwork:
    """Build the network that ``spec`` describes, with random weights. ``multi_scale`` is left to ``Segmenter``.

    Args:
        spec: The network.
        num_classes: K, background included.

    Raises:
        UsageError: Fewer than one class.
    """
    if num_classes < 1:
        raise UsageError(f"a network needs at least one class, got num_classes {num_classes}")
    dropout = ARCHITECTURES[spec.name].dropout if spec.dropout is None else spec.dropout
    match spec.name:
        case "unet":
            return UNet(
                num_classes,
                dropout=dropout,
                upsampling=spec.upsampling,
                widths=spec.widths,
                stem_stride=spec.stem_stride,
                deep_supervision=spec.deep_supervision > 0,
            )
        case "deeplab-largefov":
            return DeepLabLargeFOV(num_classes, dropout)
        case "deeplab-msc-largefov":
            return DeepLabMScLargeFOV(num_classes, dropout)
        case "deeplab-vgg16":
            return DeepLabVGG16(num_classes, dropout)
        case "deeplab-v2":
            return DeepLabV2(_backbone(spec), num_classes, dropout)
        case "deeplab-v3plus":
            light = spec.backbone == "mobilenet_v2"
            return DeepLabV3Plus(_backbone(spec), num_classes, dropout, separable=light)
        case "pspnet":
            return PSPNet(_backbone(spec), num_classes, dropout)
        case "segformer":
            return SegFormer(_backbone(spec), num_classes, dropout, width=768 if spec.backbone == "mit_b2" else 256)
        case "light-decoder":
            return LightDecoder(_backbone(spec), num_classes, dropout)


def _backbone(spec: NetworkSpec) -> Backbone:
    output_stride = spec.output_stride or ARCHITECTURES[spec.name].output_stride
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
        case "mit_b0":
            return MiT(0)
        case "mit_b1":
            return MiT(1)
        case "mit_b2":
            return MiT(2)
        case "dinov2_vits14":
            return DINOv2(output_stride)
        case _:
            raise UsageError(f"network {spec.name} has no backbone {spec.backbone} of its own to choose")


def _or(names: tuple[str, ...] | list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
