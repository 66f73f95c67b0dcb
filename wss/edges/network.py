"""Edge networks as detectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wss.edges.detector import Detect, EdgeMap, Image


def network_detector(network: nn.Module, device: torch.device | None = None) -> Detect:
    """Make a detector that returns the last edge map of a network.

    Args:
        network: Network from RGB images in 0..255 to logits (B,S,H,W). It is moved to the device and set to evaluation
            mode.
        device: Device of the network; the CPU by default.
    """
    place = device or torch.device("cpu")
    network = network.to(place).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.no_grad()
    def detect(image: Image) -> EdgeMap:
        rgb = torch.from_numpy(np.ascontiguousarray(image)).to(place).permute(2, 0, 1)[None].float()
        logits = network(rgb.contiguous(memory_format=torch.channels_last))
        edges: EdgeMap = logits[0, -1].float().sigmoid().cpu().numpy()
        return edges

    return detect
