"""``wss superpixels``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.store import Store

PIPELINE = "scribblesup"  # the shipped pipeline that has the stages up to superpixels


def superpixels(
    method: Annotated[str | None, typer.Option("--method", "-m", help="felzenszwalb (the default) or slic.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for pictures and ids (.npy, int32).")] = None,
    settings: options.Settings = None,
    workspace: options.Workspace = Path(),
    jobs: options.Jobs = 0,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Cut every image into superpixels; `wss propagate` and `wss train` use them in this workspace.

    Example: [bold]wss superpixels --method slic --set superpixels.method.segments=200[/bold]
    """
    from wss.cli.console import Terminal
    from wss.cli.session import Session
    from wss.pipeline.changes import merge, parse_overrides

    changes = parse_overrides(settings or [])
    if method is not None:
        changes = merge(changes, {"superpixels": {"method": {"name": method}}})
    with Session(workspace, Terminal(quiet, verbose, as_json), "cpu", jobs) as session:
        outcomes = session.run(session.pipeline(PIPELINE, changes).up_to("superpixels"))
        samples, store = outcomes["samples"].store, outcomes["superpixels"].store
        session.workspace.remember("superpixels", {"method": store.params["method"]})
        counts = [int(store.get("superpixels", i).max()) + 1 for i in store.ids]
        written = [] if out is None else _write(session.context.progress, samples, store, out)
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


def _write(progress: Any, samples: Store, store: Store, out: Path) -> list[Path]:
    import io

    import numpy as np

    from wss.store.atomic import write_bytes
    from wss.viz import encode_png, outlined

    advance = progress.task("writing", len(store))
    written = []
    for image_id in store.ids:
        ids = store.get("superpixels", image_id)
        buffer = io.BytesIO()
        np.save(buffer, ids)
        picture = encode_png(outlined(samples.get("image", image_id), ids))
        for ending, data in ((".png", picture), (".npy", buffer.getvalue())):
            written.append(out / f"{image_id}{ending}")
            write_bytes(written[-1], data)
        advance(1, image_id)
    return written
