"""The ``wss`` command: one module per subcommand, errors turned into one message and an exit code."""

from __future__ import annotations

import os
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wss.cli import (
    bench,
    cam,
    console,
    data,
    doctor,
    edges,
    evaluate,
    export,
    failure,
    gc,
    init,
    interrupt,
    listing,
    predict,
    prepare,
    propagate,
    report,
    run,
    status,
    superpixels,
    team,
    train,
    train_edges,
    verify,
)
from wss.errors import WssError
from wss.version import __version__


class Commands(TyperGroup):
    """Turns errors into exit codes: 1 for failures, 2 for usage, 130 for an interruption."""

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


_SETUP, _STEPS, _WHOLE, _UPKEEP = "Set up", "Steps", "Whole pipelines", "Look and tidy up"
_BESIDE = "Edge detectors: training and benchmark"
app.command("init", rich_help_panel=_SETUP)(init.init)
app.add_typer(data.app, name="data", rich_help_panel=_SETUP)
app.command("prepare", rich_help_panel=_STEPS)(prepare.prepare)
app.command("edges", rich_help_panel=_STEPS)(edges.edges)
app.command("superpixels", rich_help_panel=_STEPS)(superpixels.superpixels)
app.command("propagate", rich_help_panel=_STEPS)(propagate.propagate)
app.command("train", rich_help_panel=_STEPS)(train.train)
app.command("cam", rich_help_panel=_STEPS)(cam.cam)
app.command("predict", rich_help_panel=_STEPS)(predict.predict)
app.command("evaluate", rich_help_panel=_STEPS)(evaluate.evaluate)
app.command("export", rich_help_panel=_STEPS)(export.export)
app.command("report", rich_help_panel=_STEPS)(report.report)
app.command("train-edges", rich_help_panel=_BESIDE)(train_edges.train_edges)
app.add_typer(bench.app, name="bench", rich_help_panel=_BESIDE)
app.command("run", rich_help_panel=_WHOLE)(run.run)
app.command("pipelines", rich_help_panel=_WHOLE)(listing.pipelines)
app.command("methods", rich_help_panel=_WHOLE)(listing.methods)
app.command("stages", rich_help_panel=_WHOLE)(listing.stages)
app.command("status", rich_help_panel=_UPKEEP)(status.status)
app.command("verify", rich_help_panel=_UPKEEP)(verify.verify)
app.command("gc", rich_help_panel=_UPKEEP)(gc.gc)
app.command("doctor", rich_help_panel=_UPKEEP)(doctor.doctor)


def main() -> None:
    """Entry point of the ``wss`` script."""
    console.write_everything()
    interrupt.leave_at_once()
    # Threads that spin while they wait take the cores from loader workers and from whatever else runs: on two busy cores a
    # training step then costs three times the processor time. Read by the OpenMP runtime when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    team.run(app)
