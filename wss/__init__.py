"""Weakly supervised semantic segmentation: cheap annotations in, a trained network and dense masks out."""

from wss.version import __version__

__all__ = ["__version__"]
