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


@options.common("workspace", "verbose", "quiet", "as_json")
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
            help="A network's store, or the first characters of its key; default: the last trained network of the workspace."
        ),
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            min=1, metavar="H W", help="Accept only images of this size, one at a time; default: batches of any size."
        ),
    ] = None,
    output: Annotated[_Output, typer.Option(help="Output, at the image's size.")] = _Output.probs,
    dtype: Annotated[_Dtype, typer.Option(help="Type of the input, RGB values 0..255.")] = _Dtype.uint8,
    *,
    common: options.Common,
) -> None:
    r"""Write a trained network as a file that runs without wss.

    ONNX and TorchScript files accept RGB images, include the normalisation, and contain class names and palette. A file is kept
    only if its output equals the network's output. ONNX needs `pip install 'wss\[onnx]'`.

    Example: [bold]wss export --format onnx --out net.onnx[/bold]
    """
    from wss.export import export_model

    with common.session() as session:
        store = _store(session, checkpoint)
        path = out or Path(_method(store) + _ENDINGS[kind])
        exported = export_model(store, path, kind=kind.value, size=size, output=output.value, dtype=dtype.value)
        session.terminal.result(
            {"file": str(exported.path), "format": kind.value, "difference": exported.difference, **exported.metadata},
            lambda: session.terminal.line(
                f"{exported.path}: {exported.metadata['input']} -> {exported.metadata['output']}"
                + (f"; differs from the network by {exported.difference:.1e}" if kind != _Format.torch else "")
            ),
        )


def _method(store: Path) -> str:
    from wss.store import MODEL, Store

    return str(Store(store, MODEL).meta["method"]["name"])


def _store(session: Session, checkpoint: str | None) -> Path:
    """Find the store: a file, a store of the workspace by the first characters of its key, or the last trained network."""
    from wss.cli.region_choice import deciding
    from wss.errors import DataError, UsageError
    from wss.stages.predict import PredictParams

    if checkpoint is None:
        session.workspace.existing()
        if session.workspace.state().get("train") is None:
            raise UsageError(
                f"no network was trained in {session.workspace.root} yet: run `wss train` first, or name one with --checkpoint"
            )
        name, changes = session.trained()
        pipeline = session.pipeline(name, changes)
        predicts = (node.params for node in pipeline.nodes.values() if isinstance(node.params, PredictParams))
        if any(params.test_time.walk for params in predicts):
            session.terminal.say(
                "test_time.walk of the stage predict is not part of the network, so it is not part of this file"
            )
        if (node := deciding(pipeline)) is not None:
            session.terminal.say(
                f"keeping only the largest region (stage {node.id}) is not part of the network, so it is not part of this file"
            )
        return session.run(pipeline.up_to("train"))["train"].store.path
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    networks = [path for path in session.workspace.artifacts("train") if path.stem.startswith(checkpoint)]
    if len(networks) > 1:
        raise UsageError(
            f"--checkpoint {checkpoint}: {len(networks)} networks have keys that begin so; give more characters of the key"
        )
    if not networks:
        raise DataError(
            f"--checkpoint {checkpoint}: neither a file nor the beginning of a key in {session.workspace.root}/artifacts/train; "
            "`wss status` lists the stored networks"
        )
    return networks[0]
