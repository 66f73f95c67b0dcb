"""Weakly supervised semantic segmentation: cheap annotations in, a trained network and dense masks out."""

from typing import TYPE_CHECKING, Any

from wss.version import __version__

if TYPE_CHECKING:
    from wss.checkpoints import load_checkpoint

__all__ = ["__version__", "load_checkpoint"]


def __getattr__(name: str) -> Any:
    """Import ``load_checkpoint`` when it is first used, so that ``import wss`` stays quick."""
    if name == "load_checkpoint":
        from wss.checkpoints import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module 'wss' has no attribute {name!r}")
