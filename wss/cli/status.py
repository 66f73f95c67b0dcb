"""``wss status``."""

from __future__ import annotations

from typing import Any

from wss.cli import options


@options.common("workspace", "as_json")
def status(
    *,
    common: options.Common,
) -> None:
    """Show the data set, the last choices, and every artifact of a workspace."""
    from wss.errors import StoreError
    from wss.pipeline.workspace import Workspace
    from wss.store import Store

    terminal = common.terminal()
    place = Workspace(common.workspace).existing()
    dataset = place.dataset().model_dump(mode="json", exclude_none=True)
    rows: list[dict[str, Any]] = []
    for path in place.artifacts():
        size = path.stat().st_size / 2**20
        try:
            store = Store(path)
        except StoreError as error:
            rows.append(
                {
                    "stage": path.parent.name,
                    "key": path.stem,
                    "mib": size,
                    "images": 0,
                    "created": "",
                    "state": str(error),
                }
            )
            continue
        created = str(store.attributes.get("created", ""))
        rows.append(
            {
                "stage": path.parent.name,
                "key": path.stem,
                "mib": size,
                "images": len(store),
                "created": created,
                "state": "whole",
            }
        )
    for path in place.leftovers():
        if path.suffix == ".partial":
            key = path.name.split(".")[0]
            size = path.stat().st_size / 2**20
            rows.append(
                {"stage": path.parent.name, "key": key, "mib": size, "images": 0, "created": "", "state": "partial"}
            )
    rows.sort(key=lambda row: (row["created"] == "", row["created"]))

    def render() -> None:
        terminal.line(f"data set: {dataset}" + ("" if place.configured else "  (no wss.yaml: the embedded sample)"))
        for command in ("prepare", "superpixels", "edges", "train"):
            choice = place.state().get(command)
            if choice is not None:
                terminal.line(f"last {command}: {choice}")
        terminal.table(
            "",
            ["stage", "key", "MiB", "images", "made", "state"],
            [(r["stage"], r["key"][:12], f"{r['mib']:.1f}", r["images"], r["created"], r["state"]) for r in rows],
        )

    terminal.result({"dataset": dataset, "state": place.state(), "artifacts": rows}, render)
