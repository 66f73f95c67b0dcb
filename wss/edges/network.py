"""Edge networks as detectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wss.edges.detector import Detect, EdgeMap, Image


def network_detector(network: nn.Module, device: torch.device | None = None) -> Detect:
    """A detector that gives the last map of an edge network.

    Args:
        network: Gives logits (B,S,H,W) of RGB images in 0..255. Moved to the device, in evaluation mode.
        device: Where it runs; the CPU by default.
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
