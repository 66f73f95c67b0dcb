"""Scribbles as strokes and as rasters: shorten, drop, simulate and draw them.

Examples:
    >>> import wss
    >>> photo = wss.sample(3)
    >>> shorter = wss.scribbles.shrink(photo.strokes, 0.5, seed=0)
    >>> fewer = wss.scribbles.drop(photo.strokes, 0.3, seed=0)
    >>> len(shorter) == len(photo.strokes), len(fewer) <= len(photo.strokes)
    (True, True)
    >>> wss.scribbles.rasterise(shorter, (96, 128)).shape  # uint8, 255 = unlabelled
    (96, 128)
"""

from wss.scribbles.boxes import box_labels, box_windows, boxes_of
from wss.scribbles.clicks import click, surrounded
from wss.scribbles.dropping import drop
from wss.scribbles.objects import one_each, scribbled_objects
from wss.scribbles.rasters import connected_regions, rasterise
from wss.scribbles.seeds import image_seed
from wss.scribbles.shortening import points, shrink
from wss.scribbles.simulation import simulate
from wss.scribbles.skeletons import skeleton_paths
from wss.scribbles.strokes import Stroke, pack_strokes, unpack_strokes

__all__ = [
    "Stroke",
    "box_labels",
    "box_windows",
    "boxes_of",
    "click",
    "connected_regions",
    "drop",
    "image_seed",
    "one_each",
    "pack_strokes",
    "points",
    "rasterise",
    "scribbled_objects",
    "shrink",
    "simulate",
    "skeleton_paths",
    "surrounded",
    "unpack_strokes",
]
