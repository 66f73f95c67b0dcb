"""Loss terms, one per file."""

from wss.losses.partial_cross_entropy import partial_cross_entropy

__all__ = ["partial_cross_entropy"]
