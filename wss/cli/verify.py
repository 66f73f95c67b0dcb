"""``wss verify``."""

from __future__ import annotations

import typer

from wss.cli import options


@options.common("workspace", "as_json")
def verify(
    *,
    common: options.Common,
) -> None:
    """Read every artifact and recompute its digest; exit code 1 if one is damaged."""
    from wss.errors import StoreError
    from wss.pipeline.workspace import Workspace
    from wss.store import Store

    terminal = common.terminal()
    rows = []
    for path in Workspace(common.workspace).existing().artifacts():
        try:
            store = Store(path)
            good = store.verify() and store.key == path.stem
            state = "whole" if good else f"damaged; remove {path} and run the same command again"
        except StoreError as error:
            good, state = False, str(error)
        rows.append({"stage": path.parent.name, "key": path.stem, "whole": good, "state": state})
    terminal.result(
        rows,
        lambda: terminal.table(
            "", ["stage", "key", "state"], [(r["stage"], str(r["key"])[:12], r["state"]) for r in rows]
        ),
    )
    if not all(row["whole"] for row in rows):
        raise typer.Exit(1)
