"""The ``wss`` command: one module per subcommand, errors turned into one message and an exit code."""

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
    """A subcommand before its module is imported.

    Attributes:
        place: ``module.name`` below ``wss.cli``: a function, or the ``app`` of a group.
        panel: Heading above it in the help.
        summary: First paragraph of its help.
    """

    place: str
    panel: str
    summary: str


_SETUP, _STEPS, _WHOLE, _UPKEEP = "Set up", "Steps", "Whole pipelines", "Look and tidy up"
_BESIDE = "Edge detectors: training and benchmark"
ENTRIES = {
    "init": Entry(
        "init.init", _SETUP, "Say which data set a workspace is about; writes wss.yaml and looks at the files."
    ),
    "draw": Entry(
        "draw.draw",
        _SETUP,
        "Draw scribbles in the browser, see masks at once, train, correct, export; serves one page on this machine.",
    ),
    "data": Entry("data.app", _SETUP, "Look at a data set, find faults in it, draw or convert scribbles, cut tiles."),
    "prepare": Entry(
        "prepare.prepare",
        _STEPS,
        "Make the labels to train on from the data set's scribbles, whole or thinned out, points, boxes, image tags, or masks.",
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
        "Show where a classifier sees the classes of an image: class activation maps from image tags.",
    ),
    "predict": Entry(
        "predict.predict",
        _STEPS,
        "Segment images: indexed PNG masks with palette and overlays. Volumes (.nii, .nii.gz, DICOM series) become volumes.",
    ),
    "evaluate": Entry(
        "evaluate.evaluate", _STEPS, "Score the network that was trained last, at full resolution; writes metrics.json."
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
        "Train an edge network on photographs whose boundaries several people drew (BSDS500's layout).",
    ),
    "bench": Entry(
        "bench.app", _BESIDE, "Score one part of the whole on a public benchmark, or measure what it costs."
    ),
    "run": Entry("run.run", _WHOLE, "Run a whole pipeline; stages that are done are skipped, interrupted ones resume."),
    "pipelines": Entry(
        "listing.pipelines",
        _WHOLE,
        "List the pipelines that come with wss and the presets for them, or print one pipeline as it is resolved.",
    ),
    "methods": Entry(
        "listing.methods", _WHOLE, "List the training methods and their loss terms, or the parameters of one method."
    ),
    "stages": Entry(
        "listing.stages",
        _WHOLE,
        "List the stages that pipelines are made of, or the inputs and parameters of one stage.",
    ),
    "status": Entry(
        "status.status", _UPKEEP, "Show the data set, what was chosen last, and every artifact of a workspace."
    ),
    "verify": Entry(
        "verify.verify", _UPKEEP, "Read every artifact and recompute its digest; exit code 1 when one is damaged."
    ),
    "gc": Entry(
        "gc.gc",
        _UPKEEP,
        "Remove what is no longer needed: temporary and lock files of dead processes, damaged stores, and on request more.",
    ),
    "doctor": Entry(
        "doctor.doctor",
        _UPKEEP,
        "Show what is installed, which kernels and GPU are usable, and whether the workspace can be written.",
    ),
}


class _Commands(Mapping[str, Any]):
    """The subcommands by name; the module of one is imported when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            entry = ENTRIES[name]
            module, attribute = entry.place.split(".")
            found = getattr(import_module(f"wss.cli.{module}"), attribute)
            parent = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
            parent.callback()(_nothing)
            if isinstance(found, typer.Typer):
                parent.add_typer(found, name=name, rich_help_panel=entry.panel)
            else:
                parent.command(name, rich_help_panel=entry.panel)(found)
            self._loaded[name] = typer.main.get_command(parent).commands[name]  # type: ignore[attr-defined]
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


def _nothing() -> None:
    pass


class Commands(TyperGroup):
    """Imports subcommands as they are needed, and turns errors into exit codes.

    These are 1 for failures, 2 for usage, 130 for an interruption.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": {}})
        self.commands = _Commands()  # type: ignore[assignment]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, for which no subcommand is imported."""
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
            if team.several() and interrupt.came():  # it ends the others too, and what fails then follows from that
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
        "Weakly supervised semantic segmentation: scribbles, points, boxes or tags in; a trained network and dense masks "
        "out.\n\nStart with [bold]wss run quickstart[/bold], or [bold]wss init[/bold] for your own data."
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
    # Threads that spin while they wait take the cores from loader workers and from whatever else runs: on two busy cores a
    # training step then costs three times the processor time. Read by the OpenMP runtime when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    team.run(partial(app, prog_name="wss"))  # also for ``python -m wss``, whose name no shell could complete
