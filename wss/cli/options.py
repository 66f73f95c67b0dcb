"""Options that several commands share, declared once.

The decorator ``common`` gives a command some of the common options. The command receives their values as one ``Common``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from wss.cli.console import Terminal
    from wss.cli.session import Session

_COMMON = "Common options"


def _named(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """Distinguish a current folder that the user named from the default, ``Path()``; see ``Workspace.named``."""
    source = context.get_parameter_source(parameter.name or "")
    default = (
        source is not None and source.name == "DEFAULT"
    )  # the enum class is Typer's or Click's, depending on the version
    return Path.cwd() if value == Path() and not default else value


_Workspace = Annotated[
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
_Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Random seed of this run.", rich_help_panel=_COMMON),
]
_Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE", rich_help_panel=_COMMON)
]
_Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", help="Number of processes for CPU work; 0 = all cores.", min=0, rich_help_panel=_COMMON
    ),
]
_Backend = Annotated[
    str,
    typer.Option("--backend", help="Back end of CPU work: loky (this machine), dask or ray.", rich_help_panel=_COMMON),
]
_Address = Annotated[
    str | None,
    typer.Option("--address", help="Scheduler of the dask or ray cluster.", metavar="URL", rich_help_panel=_COMMON),
]
_Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show the parameters of each stage, and tracebacks.", rich_help_panel=_COMMON),
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.", rich_help_panel=_COMMON)]
_Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line.", rich_help_panel=_COMMON)]
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

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "workspace": (_Workspace, Path()),
    "seed": (_Seed, None),
    "device": (_Device, "auto"),
    "jobs": (_Jobs, 0),
    "backend": (_Backend, "loky"),
    "address": (_Address, None),
    "verbose": (_Verbose, False),
    "quiet": (_Quiet, False),
    "as_json": (_Json, False),
}
"""Annotation and default of each common option, in the order in which the help lists them."""


@dataclass(frozen=True)
class Common:
    """Values of the common options. An option that a command does not have keeps the default given here.

    Attributes:
        workspace: Workspace folder.
        seed: Random seed, or None for the pipeline's seeds.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Commands without this option run on the CPU.
        jobs: Number of processes for CPU work; 0 = all cores.
        backend: ``loky``, ``dask`` or ``ray``.
        address: Scheduler of the cluster.
        verbose: Print details of each stage.
        quiet: Print only results and errors.
        as_json: Print results as one JSON line.
    """

    workspace: Path = Path()
    seed: int | None = None
    device: str = "cpu"
    jobs: int = 0
    backend: str = "loky"
    address: str | None = None
    verbose: bool = False
    quiet: bool = False
    as_json: bool = False

    def terminal(self) -> Terminal:
        """The terminal of this command."""
        from wss.cli.console import Terminal

        return Terminal(self.quiet, self.verbose, self.as_json)

    @contextmanager
    def session(self, terminal: Terminal | None = None, preset: str | None = None) -> Iterator[Session]:
        """Open the workspace, and connect to the cluster if there is one.

        Args:
            terminal: Receives messages and progress; None for a new one.
            preset: A shipped preset or a YAML file with settings.
        """
        from wss.cli.session import Session
        from wss.cli.workers import workers

        with (
            workers(self.backend, self.address, self.jobs) as jobs,
            Session(self.workspace, terminal or self.terminal(), self.device, jobs, self.seed, preset) as session,
        ):
            yield session


def common(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: add common options to a command, after its own. The command receives them as ``common``, a ``Common``.

    Args:
        names: Names of attributes of ``Common``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=hints[n]) for n, p in inspect.signature(command).parameters.items() if n != "common"
        ]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in _OPTIONS.items()
            if name in names
        ]

        @wraps(command)
        def with_options(**values: Any) -> None:
            given = Common(**{name: values.pop(name) for name in names if name in values})
            command(**values, common=given)

        signature = inspect.Signature([*own, *added])
        with_options.__signature__ = signature  # type: ignore[attr-defined]
        with_options.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        return with_options

    return decorate
