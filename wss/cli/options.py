"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_COMMON = "Common options"


def _named(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """Tell the current folder as it was named from the default, which is ``Path()``; see ``Workspace.named``."""
    source = context.get_parameter_source(parameter.name or "")
    default = (
        source is not None and source.name == "DEFAULT"
    )  # the class itself is Typer's or Click's, as of the version
    return Path.cwd() if value == Path() and not default else value


Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="WSS_WORKSPACE",
        callback=_named,
        help="Workspace folder.",
        rich_help_panel=_COMMON,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of everything random in this run.", rich_help_panel=_COMMON),
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE", rich_help_panel=_COMMON)
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", help="Processes for work on the CPU; 0 = all cores.", min=0, rich_help_panel=_COMMON),
]
Backend = Annotated[
    str,
    typer.Option("--backend", help="Where work on the CPU runs: loky (here), dask or ray.", rich_help_panel=_COMMON),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Scheduler of the dask or ray cluster.", metavar="URL", rich_help_panel=_COMMON),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show what each stage is given; tracebacks.", rich_help_panel=_COMMON),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.", rich_help_panel=_COMMON)]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line.", rich_help_panel=_COMMON)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.PARAM=VALUE", help="Change a parameter of the pipeline; repeatable."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", help="Settings to start from: `wss pipelines` lists them, or a YAML file."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Train as many steps as fit into this time (90s, 30m, 1.5h), by measuring some; the same command keeps them.",
    ),
]
