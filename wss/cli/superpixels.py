"""``wss superpixels``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options
from wss.cli.edges import Weights

if TYPE_CHECKING:
    from wss.store import Store


@options.common("workspace", "device", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def superpixels(
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="felzenszwalb (the default), slic or ucm.")
    ] = None,
    edges: Annotated[
        str | None,
        typer.Option(
            "--edges",
            "-e",
            help="For ucm: edge detector, as in `wss edges`; default: the choice of `wss edges`, or embedded.",
        ),
    ] = None,
    weights: Weights = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for pictures and ids (.npy, int32); for ucm also the contour map."),
    ] = None,
    settings: options.Settings = None,
    *,
    common: options.Common,
) -> None:
    """Cut every image into superpixels; `wss propagate` and `wss train` use them in this workspace.

    ucm cuts along the boundaries of an edge detector; the detector runs first.

    Example: [bold]wss superpixels --method ucm --set superpixels.method.segments=200 --out superpixels[/bold]
    """
    from wss.errors import UsageError
    from wss.pipeline.changes import merge, parse_overrides

    changes = parse_overrides(settings or [])
    if method is not None:
        changes = merge(changes, {"superpixels": {"method": {"name": method}}})
    detector = {} if edges is None else {"detector": edges}
    if weights is not None:
        detector["weights"] = str(weights.resolve())
    with common.session() as session:
        session.guard(out)
        earlier = session.workspace.state().get("edges", {})
        pipeline = session.base("superpixels", {"edges": detector or earlier}, changes).up_to("superpixels")
        if detector and "edges" not in pipeline.nodes:
            name = pipeline.nodes["superpixels"].params.model_dump()["method"]["name"]
            raise UsageError(
                f"--edges and --weights: method {name!r} does not use edges; leave them out, or choose ucm"
            )
        if "edges" in pipeline.nodes and earlier and not detector:
            session.say_edges(earlier)
        outcomes = session.run(pipeline)
        samples, store = outcomes["samples"].store, outcomes["superpixels"].store
        session.remember_superpixels(pipeline, store)
        edge_store = outcomes["edges"].store if "edges" in outcomes else None
        counts = [int(store.get("superpixels", i).max()) + 1 for i in store.ids]
        written = [] if out is None else _write(session.context.progress, samples, store, edge_store, out)
        mean = sum(counts) / len(counts)
        session.terminal.result(
            {
                "store": str(store.path),
                "key": store.key,
                "images": len(counts),
                "mean": mean,
                "fewest": min(counts),
                "most": max(counts),
                "files": [str(path) for path in written],
            },
            lambda: session.terminal.line(
                f"{len(counts)} images, {mean:.0f} superpixels each ({min(counts)} to {max(counts)}) by "
                f"{store.meta['method']}" + (f"; {len(written)} files in {out}" if written else "")
            ),
        )


def _write(progress: Any, samples: Store, store: Store, edges: Store | None, out: Path) -> list[Path]:
    import io

    import numpy as np

    from wss.edges import edge_levels, edge_strengths
    from wss.store.atomic import write_bytes
    from wss.superpixels import contour_hierarchy
    from wss.viz import encode_png, outlined

    advance = progress.task("writing", len(store))
    written = []
    for image_id in store.ids:
        ids = store.get("superpixels", image_id)
        buffer = io.BytesIO()
        np.save(buffer, ids)
        files = {".png": encode_png(outlined(samples.get("image", image_id), ids)), ".npy": buffer.getvalue()}
        if edges is not None:
            strength = edge_strengths(edges.get("edges", image_id))
            contours = contour_hierarchy(strength).saliency()
            files["_contours.png"] = encode_png(edge_levels(contours))
        for ending, data in files.items():
            written.append(out / f"{image_id}{ending}")
            write_bytes(written[-1], data)
        advance(1, image_id)
    return written
