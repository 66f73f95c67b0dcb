"""Pictures of labels, scribbles and errors, and the report page."""

from wss.viz.error_map import error_map
from wss.viz.overlays import overlay, scribble_overlay
from wss.viz.palette import colourise, distinct_palette
from wss.viz.png import encode_png, indexed_png
from wss.viz.report import DataSummary, Picture, Report, Run, Step, render_report
from wss.viz.thumbnails import Thumbnail, thumbnail

__all__ = [
    "DataSummary",
    "Picture",
    "Report",
    "Run",
    "Step",
    "Thumbnail",
    "colourise",
    "distinct_palette",
    "encode_png",
    "error_map",
    "indexed_png",
    "overlay",
    "render_report",
    "scribble_overlay",
    "thumbnail",
]
