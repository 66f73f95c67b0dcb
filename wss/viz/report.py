"""The report: one self-contained HTML page about a data set, the runs trained on it, and their predictions."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup

from wss.viz.report_data import Report, check_report
from wss.viz.report_page import ReportPage
from wss.viz.study import level_text
from wss.viz.wording import count_of, css_colour, number, percent, points


def render_report(report: Report) -> str:
    """Render the page as HTML that needs no other files, no network and no scripts.

    Raises:
        UsageError: Run names repeat, a picture names an unknown run, or sizes do not fit together.
        DataError: A label has no class.
    """
    from jinja2 import Environment, StrictUndefined

    check_report(report)
    templates = files("wss.viz") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": percent,
        "number": number,
        "count_of": count_of,
        "points": points,
        "level": level_text,
        "css": css_colour,
    }
    template = environment.from_string((templates / "report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        report=report,
        style=Markup((templates / "report.css").read_text(encoding="utf-8")),
        page=ReportPage(report),
    )
    return page.lstrip()
