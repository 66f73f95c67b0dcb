"""Segmentation networks and their backbones, with torchvision's parameter names."""

from wss.networks.backbone import Backbone
from wss.networks.build import NetworkSpec, build_network
from wss.networks.deeplab_largefov import DeepLabLargeFOV
from wss.networks.deeplab_msc_largefov import DeepLabMScLargeFOV
from wss.networks.deeplab_v2 import DeepLabV2, SummedASPP
from wss.networks.deeplab_v3plus import ASPP, DeepLabV3Plus
from wss.networks.deeplab_vgg16 import DeepLabVGG16
from wss.networks.dinov2 import DINOv2
from wss.networks.light_decoder import LightDecoder
from wss.networks.mit import MiT
from wss.networks.mobilenet_v2 import MobileNetV2
from wss.networks.network import SegmentationNetwork
from wss.networks.parameters import ParameterGroup, freeze_batch_norm, parameter_groups
from wss.networks.pspnet import PSPNet, PyramidPooling
from wss.networks.resnet import ResNet
from wss.networks.segformer import SegFormer
from wss.networks.unet import UNet
from wss.networks.vgg import VGG16
from wss.networks.weights import Initialisation, check_pretrained, load_pretrained

__all__ = [
    "ASPP",
    "VGG16",
    "Backbone",
    "DINOv2",
    "DeepLabLargeFOV",
    "DeepLabMScLargeFOV",
    "DeepLabV2",
    "DeepLabV3Plus",
    "DeepLabVGG16",
    "Initialisation",
    "LightDecoder",
    "MiT",
    "MobileNetV2",
    "NetworkSpec",
    "PSPNet",
    "ParameterGroup",
    "PyramidPooling",
    "ResNet",
    "SegFormer",
    "SegmentationNetwork",
    "SummedASPP",
    "UNet",
    "build_network",
    "check_pretrained",
    "freeze_batch_norm",
    "load_pretrained",
    "parameter_groups",
]
