"""``wss edges``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.store import Store

Detector = Annotated[str, typer.Option("--detector", "-d", help="embedded, hed, structured or gradient.")]
Weights = Annotated[
    Path | None,
    typer.Option(help="HED's .caffemodel or PyTorch file, OpenCV's model of forests, or a file of `wss train-edges`."),
]
Alignment = Annotated[
    str, typer.Option(help="HED's geometry: caffe (published) or interpolated (the common PyTorch conversion).")
]
Scales = Annotated[
    str | None,
    typer.Option(help="Scales to average; default: 0.5,1,1.5 for embedded, 1 for others.", show_default=False),
]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]


@options.common("workspace", "device", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def edges(
    detector: Detector = "embedded",
    weights: Weights = None,
    alignment: Alignment = "caffe",
    scales: Scales = None,
    flip: Flip = False,
    nms: Annotated[bool, typer.Option("--nms", help="Thin edges to ridges, one pixel wide.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for grey PNGs, 255 = certain edge.")] = None,
    *,
    common: options.Common,
) -> None:
    """Detect boundaries in every image of the data set; `wss train` uses them in this workspace.

    The embedded network needs no further file. HED and structured forests need a file of weights. The gradient detector is
    not learned.

    Example: [bold]wss edges --scales 0.5,1,2 --flip --out edges[/bold]
    """
    from wss.stages.edges import EdgesParams

    values = settings(detector, weights, alignment, scales, flip) | {"nms": nms}
    with common.session() as session:
        session.guard(out)
        choice = checked(EdgesParams, values).model_dump(mode="json")
        store = session.run(session.base("steps", {"edges": choice}).up_to("edges"))["edges"].store
        session.workspace.remember("edges", choice)
        files = _write(store, out) if out else []
        session.terminal.result(
            {"store": str(store.path), "key": store.key, "images": len(store), "files": [str(f) for f in files]},
            lambda: session.terminal.line(
                f"{len(store)} edge maps ({store.meta['detector']}): {store.path}"
                + (f"\n{len(files)} files in {out}" if out else "")
            ),
        )


def settings(detector: str, weights: Path | None, alignment: str, scales: str | None, flip: bool) -> dict[str, Any]:
    """The detector's parameters as plain values."""
    from wss.cli.evaluate import parse_scales

    return {
        "detector": detector,
        "weights": None if weights is None else str(weights.resolve()),
        "alignment": alignment,
        "flip": flip,
        **({"scales": tuple(parse_scales(scales))} if scales else {}),
    }


def checked(model: Any, values: dict[str, Any]) -> Any:
    """Build the parameter model from these values.

    Raises:
        UsageError: A value is invalid, or cannot be combined with the others.
    """
    from wss.params import validate

    return validate(model, values, f"detector {values['detector']!r}")


def _write(store: Store, out: Path) -> list[Path]:
    from wss.store.atomic import write_bytes
    from wss.viz import encode_png

    files = [out / f"{image_id}.png" for image_id in store.ids]
    for file, image_id in zip(files, store.ids, strict=True):
        write_bytes(file, encode_png(store.get("edges", image_id)))
    return files
