"""Segmentation networks and their backbones, with torchvision's parameter names."""

from wss.networks.backbone import Backbone
from wss.networks.build import NetworkSpec, build_network
from wss.networks.deeplab_v2 import DeepLabV2, SummedASPP
from wss.networks.deeplab_v3plus import ASPP, DeepLabV3Plus
from wss.networks.mobilenet_v2 import MobileNetV2
from wss.networks.network import SegmentationNetwork
from wss.networks.parameters import ParameterGroup, freeze_batch_norm, parameter_groups
from wss.networks.resnet import ResNet
from wss.networks.unet import UNet
from wss.networks.weights import Initialisation, load_pretrained

__all__ = [
    "ASPP",
    "Backbone",
    "DeepLabV2",
    "DeepLabV3Plus",
    "Initialisation",
    "MobileNetV2",
    "NetworkSpec",
    "ParameterGroup",
    "ResNet",
    "SegmentationNetwork",
    "SummedASPP",
    "UNet",
    "build_network",
    "freeze_batch_norm",
    "load_pretrained",
    "parameter_groups",
]
