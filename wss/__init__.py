"""Weakly supervised semantic segmentation: from cheap annotations to a trained network and dense masks.

Modules and functions are imported at their first use, so that ``import wss`` is fast.

Examples:
    >>> import wss
    >>> photo = wss.sample()
    >>> labels = wss.propagate(photo.image, photo.scribble, num_classes=7)
    >>> labels.shape
    (96, 128)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wss.version import __version__

if TYPE_CHECKING:
    from wss import draw, losses, metrics, ops, scribbles
    from wss.api import open_workspace, propagate, run, sample, train
    from wss.checkpoints import load_checkpoint

__all__ = [
    "__version__",
    "draw",
    "load_checkpoint",
    "losses",
    "metrics",
    "open_workspace",
    "ops",
    "propagate",
    "run",
    "sample",
    "scribbles",
    "train",
]

_MODULES = ("draw", "losses", "metrics", "ops", "scribbles")
_FUNCTIONS = {
    **dict.fromkeys(("open_workspace", "propagate", "run", "sample", "train"), "wss.api"),
    "load_checkpoint": "wss.checkpoints",
}


def __getattr__(name: str) -> Any:
    """Import a module or a function at its first use."""
    if name in _MODULES:
        return import_module(f"wss.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'wss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
