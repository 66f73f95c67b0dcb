"""Pictures of labels, scribbles and errors, and the report page."""

from wss.viz.error_map import error_map
from wss.viz.heat_map import heat_map
from wss.viz.overlays import box_overlay, outlined, overlay, scribble_overlay, spotlight
from wss.viz.palette import colourise, distinct_palette
from wss.viz.png import encode_png, indexed_png
from wss.viz.report import render_report
from wss.viz.report_data import DataSummary, Gallery, Gap, Picture, Report, Section, Step, Table
from wss.viz.report_page import MOST_RUNS
from wss.viz.run import Run
from wss.viz.signed_map import signed_map
from wss.viz.study import Study, featured, level_text, tabulate
from wss.viz.thumbnails import Thumbnail, thumbnail

__all__ = [
    "MOST_RUNS",
    "DataSummary",
    "Gallery",
    "Gap",
    "Picture",
    "Report",
    "Run",
    "Section",
    "Step",
    "Study",
    "Table",
    "Thumbnail",
    "box_overlay",
    "colourise",
    "distinct_palette",
    "encode_png",
    "error_map",
    "featured",
    "heat_map",
    "indexed_png",
    "level_text",
    "outlined",
    "overlay",
    "render_report",
    "scribble_overlay",
    "signed_map",
    "spotlight",
    "tabulate",
    "thumbnail",
]
