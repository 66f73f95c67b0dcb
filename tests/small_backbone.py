"""A small backbone with random weights in the place of DINOv2, for pipelines that store features."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import torch

from wss.networks import NetworkSpec, build_network

NETWORK = {"name": "light-decoder", "backbone": "mobilenet_v2"}


@functools.cache
def weights_file() -> str:
    """A file of the backbone's weights, removed when the tests end."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(build_network(NetworkSpec(**NETWORK), 2).backbone.state_dict(), folder / "backbone.pth")
    return str(folder / "backbone.pth")


def small_backbone(pipeline: str) -> dict:
    """Changes to a shipped pipeline by stage: none where it stores no features."""
    if pipeline != "pce-features":
        return {}
    return {"features": {"network": NETWORK, "weights": weights_file()}, "train": {"network": NETWORK}}
