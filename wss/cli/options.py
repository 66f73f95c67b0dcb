"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_COMMON = "Common options"


def _named(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """Distinguish a current folder that the user named from the default, ``Path()``; see ``Workspace.named``."""
    source = context.get_parameter_source(parameter.name or "")
    default = (
        source is not None and source.name == "DEFAULT"
    )  # the enum class is Typer's or Click's, depending on the version
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
    typer.Option("--seed", min=0, help="Random seed of this run.", rich_help_panel=_COMMON),
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE", rich_help_panel=_COMMON)
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", help="Number of processes for CPU work; 0 = all cores.", min=0, rich_help_panel=_COMMON
    ),
]
Backend = Annotated[
    str,
    typer.Option("--backend", help="Back end of CPU work: loky (this machine), dask or ray.", rich_help_panel=_COMMON),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Scheduler of the dask or ray cluster.", metavar="URL", rich_help_panel=_COMMON),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show the parameters of each stage, and tracebacks.", rich_help_panel=_COMMON),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.", rich_help_panel=_COMMON)]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line.", rich_help_panel=_COMMON)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.PARAM=VALUE", help="Change a parameter of the pipeline; repeatable."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", help="Preset with settings: a name (`wss pipelines` lists them) or a YAML file."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Train as many steps as fit into this time (90s, 30m, 1.5h). Steps are measured once; later runs reuse the number.",
    ),
]
