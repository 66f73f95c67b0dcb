"""Weakly supervised semantic segmentation: from cheap annotations to a trained network and dense masks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wss.version import __version__

if TYPE_CHECKING:
    from wss import draw
    from wss.checkpoints import load_checkpoint

__all__ = ["__version__", "draw", "load_checkpoint"]


def __getattr__(name: str) -> Any:
    """Import ``load_checkpoint`` and ``draw`` at their first use, so that ``import wss`` is fast."""
    if name == "draw":
        return import_module("wss.draw")
    if name == "load_checkpoint":
        from wss.checkpoints import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module 'wss' has no attribute {name!r}")
