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
