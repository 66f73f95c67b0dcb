"""Small networks and batches for tests of SPML."""

import torch

from wss.methods import Batch
from wss.networks import NetworkSpec

NETWORKS = {
    "unet": NetworkSpec(),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    "v2-16": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
}


def batch_of(background=0):
    """Two images of 24x32 with a stroke each of two of three classes, superpixels of 8x8, the second partly beyond its image."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.full((2, 24, 32), 255)
    labels[0, 4:6, 2:30], labels[0, 18:20, 2:30] = 0, 1
    labels[1, 4:6, 2:20], labels[1, 18:20, 2:20] = 2, 0
    rgb = torch.rand(2, 3, 24, 32, generator=generator) * 60 + 60 * (labels.where(labels < 3, 1))[:, None]
    superpixels = (torch.arange(24) // 8)[:, None] * 4 + torch.arange(32) // 8
    superpixels = superpixels.repeat(2, 1, 1)
    valid = torch.ones(2, 24, 32, dtype=torch.bool)
    valid[1, :, 24:] = False
    superpixels[~valid] = -1
    tags = torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    return Batch(rgb, labels, valid, {"superpixels": superpixels}, tags, background)


SETTINGS = {"dimension": 8, "grid": 2, "iterations": 3, "stride": 4}


def trained_of(method, network="unet"):
    torch.manual_seed(0)
    return method.build(NETWORKS[network], 3).train()
