"""``wss export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.cli.session import Session


class _Format(StrEnum):
    onnx = "onnx"
    torchscript = "torchscript"
    torch = "torch"
    safetensors = "safetensors"


class _Output(StrEnum):
    probs = "probs"
    logits = "logits"


class _Dtype(StrEnum):
    uint8 = "uint8"
    float32 = "float32"


_ENDINGS = {
    _Format.onnx: ".onnx",
    _Format.torchscript: ".torchscript.pt",
    _Format.torch: ".pt",
    _Format.safetensors: ".safetensors",
}


def export(
    kind: Annotated[
        _Format,
        typer.Option("--format", "-f", help="ONNX, TorchScript, or a file of plain tensors (torch, safetensors)."),
    ] = _Format.onnx,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; default: the method's name with the format's ending."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="A network's store, or the beginning of its key; default: the one trained last in the workspace."
        ),
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            min=1, metavar="H W", help="Take images of this size only, one at a time; default: batches of any size."
        ),
    ] = None,
    output: Annotated[_Output, typer.Option(help="What comes out, at the image's size.")] = _Output.probs,
    dtype: Annotated[_Dtype, typer.Option(help="Type of the RGB values 0..255 that go in.")] = _Dtype.uint8,
    workspace: options.Workspace = Path(),
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    r"""Write a trained network as a file that runs without wss.

    ONNX and TorchScript files take RGB images, normalise them themselves, and carry class names and palette. A file is kept
    only if its output is the network's own. ONNX needs `pip install 'wss\[onnx]'`.

    Example: [bold]wss export --format onnx --out net.onnx[/bold]
    """
    from wss.cli.console import Terminal
    from wss.cli.session import Session
    from wss.export import export_model

    with Session(workspace, Terminal(quiet, verbose, as_json), "cpu", 1) as session:
        store = _store(session, checkpoint)
        path = out or Path(_method(store) + _ENDINGS[kind])
        found = export_model(store, path, kind=kind.value, size=size, output=output.value, dtype=dtype.value)
        session.terminal.result(
            {"file": str(found.path), "format": kind.value, "difference": found.difference, **found.metadata},
            lambda: session.terminal.line(
                f"{found.path}: {found.metadata['input']} -> {found.metadata['output']}"
                + (f"; differs from the network by {found.difference:.1e}" if kind != _Format.torch else "")
            ),
        )


def _method(store: Path) -> str:
    from wss.store import MODEL, Store

    return str(Store(store, MODEL).meta["method"]["name"])


def _store(session: Session, checkpoint: str | None) -> Path:
    """The store that is meant: a file, the beginning of a key in the workspace, or what was trained last."""
    from wss.cli.region_choice import deciding
    from wss.errors import DataError, UsageError
    from wss.stages.predict import PredictParams

    if checkpoint is None:
        session.workspace.existing()
        if session.workspace.state().get("train") is None:
            raise UsageError(
                f"nothing trained in {session.workspace.root} yet: run `wss train` first, or name a network with --checkpoint"
            )
        name, changes = session.trained()
        pipeline = session.pipeline(name, changes)
        predicts = (node.params for node in pipeline.nodes.values() if isinstance(node.params, PredictParams))
        if any(params.test_time.walk for params in predicts):
            session.terminal.say("test_time.walk of the stage predict is no part of the network, nor of this file")
        if (node := deciding(pipeline)) is not None:
            session.terminal.say(
                f"keeping the largest region alone (stage {node.id}) is no part of the network, nor of this file"
            )
        return session.run(pipeline.up_to("train"))["train"].store.path
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    found = [path for path in session.workspace.artifacts("train") if path.stem.startswith(checkpoint)]
    if len(found) > 1:
        raise UsageError(f"--checkpoint {checkpoint}: {len(found)} networks begin so; give more of the key")
    if not found:
        raise DataError(
            f"--checkpoint {checkpoint}: neither a file nor the beginning of a key in {session.workspace.root}/artifacts/train; "
            "`wss status` lists what is there"
        )
    return found[0]
