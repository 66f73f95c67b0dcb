"""The ``wss`` command: one module per subcommand. Errors become one message and an exit code."""

from __future__ import annotations

import copy
import os
import traceback
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from wss.cli import encoding, failure, interrupt, team
from wss.errors import WssError
from wss.version import __version__


class Entry(NamedTuple):
    """Description of a subcommand whose module is not imported yet.

    Attributes:
        place: ``module.name`` in ``wss.cli``: a function, or the ``app`` of a group.
        panel: Heading above it in the help.
        summary: First paragraph of its help.
    """

    place: str
    panel: str
    summary: str


_SETUP, _STEPS, _WHOLE, _UPKEEP = "Set up", "Steps", "Whole pipelines", "Inspect and clean up"
_BESIDE = "Edge detectors: training and benchmark"
ENTRIES = {
    "init": Entry("init.init", _SETUP, "Declare the data set of a workspace; writes wss.yaml and lists the files."),
    "draw": Entry(
        "draw.draw",
        _SETUP,
        "Draw scribbles in the browser, see masks at once, train, correct, export; serves one page on this machine.",
    ),
    "data": Entry("data.app", _SETUP, "Inspect a data set, check it for errors, draw or convert scribbles, cut tiles."),
    "prepare": Entry(
        "prepare.prepare",
        _STEPS,
        "Make training labels from the data set's scribbles (complete or reduced), points, boxes, image tags or masks.",
    ),
    "edges": Entry(
        "edges.edges",
        _STEPS,
        "Detect boundaries in every image of the data set; `wss train` uses them in this workspace.",
    ),
    "superpixels": Entry(
        "superpixels.superpixels",
        _STEPS,
        "Cut every image into superpixels; `wss propagate` and `wss train` use them in this workspace.",
    ),
    "propagate": Entry("propagate.propagate", _STEPS, "Turn scribbles into dense masks, without training."),
    "train": Entry("train.train", _STEPS, "Train a network on the prepared labels."),
    "cam": Entry(
        "cam.cam",
        _STEPS,
        "Compute class activation maps, which show where a classifier sees the tagged classes of an image.",
    ),
    "predict": Entry(
        "predict.predict",
        _STEPS,
        "Segment images: indexed PNG masks with palette and overlays. Volumes (.nii, .nii.gz, DICOM series) become volumes.",
    ),
    "evaluate": Entry(
        "evaluate.evaluate", _STEPS, "Score the last trained network at full resolution; writes metrics.json."
    ),
    "export": Entry("export.export", _STEPS, "Write a trained network as a file that runs without wss."),
    "report": Entry(
        "report.report",
        _STEPS,
        "Write report.html about every evaluation of this workspace's data set: scores, curves, pictures, provenance.",
    ),
    "train-edges": Entry(
        "train_edges.train_edges",
        _BESIDE,
        "Train an edge network on photographs with boundaries drawn by several people (BSDS500's layout).",
    ),
    "bench": Entry("bench.app", _BESIDE, "Score a single part on a public benchmark, or measure its cost."),
    "run": Entry("run.run", _WHOLE, "Run a whole pipeline; finished stages are skipped, interrupted ones resume."),
    "pipelines": Entry(
        "listing.pipelines",
        _WHOLE,
        "List the shipped pipelines and presets, or print one pipeline with all changes applied.",
    ),
    "methods": Entry(
        "listing.methods", _WHOLE, "List the training methods and their loss terms, or the parameters of one method."
    ),
    "stages": Entry(
        "listing.stages",
        _WHOLE,
        "List the stages of which pipelines consist, or the inputs and parameters of one stage.",
    ),
    "status": Entry(
        "status.status", _UPKEEP, "Show the data set, the last choices, and every artifact of a workspace."
    ),
    "verify": Entry(
        "verify.verify", _UPKEEP, "Read every artifact and recompute its digest; exit code 1 if one is damaged."
    ),
    "gc": Entry(
        "gc.gc",
        _UPKEEP,
        "Remove unneeded files: temporary and lock files of dead processes, damaged stores, and on request more.",
    ),
    "doctor": Entry(
        "doctor.doctor",
        _UPKEEP,
        "Show installed packages, usable kernels and GPUs, and whether the workspace is writable.",
    ),
}


class _Commands(Mapping[str, Any]):
    """The subcommands by name. A subcommand's module is imported on first access."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            entry = ENTRIES[name]
            module, attribute = entry.place.split(".")
            command = getattr(import_module(f"wss.cli.{module}"), attribute)
            parent = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
            parent.callback()(_nothing)
            if isinstance(command, typer.Typer):
                parent.add_typer(command, name=name, rich_help_panel=entry.panel)
            else:
                parent.command(name, rich_help_panel=entry.panel)(command)
            self._loaded[name] = typer.main.get_command(parent).commands[name]  # type: ignore[attr-defined]
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


def _nothing() -> None:
    pass


class Commands(TyperGroup):
    """Imports subcommands on demand, and turns errors into exit codes: 1 failure, 2 wrong usage, 130 interruption."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": {}})
        self.commands = _Commands()  # type: ignore[assignment]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help without importing any subcommand."""
        shown = copy.copy(self)
        shown.commands = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel) for name, entry in ENTRIES.items()
        }
        TyperGroup.format_help(shown, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        verbose = not {"-v", "--verbose"}.isdisjoint(ctx.args)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _stopped() from None
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except (WssError, OSError, MemoryError, RuntimeError, UnicodeEncodeError) as error:
            if team.several() and interrupt.came():  # the signal also ends the other processes, which causes this error
                raise _stopped() from None
            message = failure.message(error)
            if message is None:
                raise
            if verbose:
                traceback.print_exc()
            failure.complain(message)
            raise typer.Exit(error.exit_code if isinstance(error, WssError) else 1) from None


def _stopped() -> typer.Exit:
    failure.complain(interrupt.MESSAGE, kind="stopped")
    return typer.Exit(interrupt.EXIT_CODE)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Weakly supervised semantic segmentation: train networks and make dense masks from scribbles, points, boxes or "
        "tags.\n\nStart with [bold]wss run quickstart[/bold], or [bold]wss init[/bold] for your own data."
    ),
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"wss {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the ``wss`` script."""
    encoding.write_everything()
    interrupt.leave_at_once()
    # Threads that spin while they wait take cores from loader workers and other programs: on two busy cores, a training step
    # then needs three times the processor time. The OpenMP runtime reads this variable when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    team.run(
        partial(app, prog_name="wss"), failure.report
    )  # also for ``python -m wss``, whose name shells cannot complete
