"""``wss gc``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wss.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wss.pipeline.workspace import Workspace
    from wss.store import Store


@options.common("workspace", "as_json")
def gc(
    days: Annotated[float, typer.Option(min=0, help="Keep everything younger than this number of days.")] = 0.0,
    partials: Annotated[bool, typer.Option("--partials", help="Also remove interrupted results.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also remove finished artifacts that the last runs did not use.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    *,
    common: options.Common,
) -> None:
    """Remove unneeded files: temporary and lock files of dead processes, damaged stores, and on request more.

    Artifacts that the last run of each pipeline used are always kept (state.yaml lists them).
    """
    from wss.pipeline.workspace import Workspace
    from wss.store.atomic import storage_errors

    terminal = common.terminal()
    doomed = _doomed(Workspace(common.workspace).existing(), days, partials, everything)
    size = sum(path.stat().st_size for path in doomed if path.exists())
    for path in doomed if not dry_run else ():
        with storage_errors(path):
            path.unlink(missing_ok=True)

    def render() -> None:
        for path in doomed:
            terminal.line(str(path))
        terminal.line(f"{'would remove' if dry_run else 'removed'} {len(doomed)} files, {size / 2**20:.1f} MiB")

    terminal.result({"files": [str(path) for path in doomed], "bytes": size, "dry_run": dry_run}, render)


def _doomed(workspace: Workspace, days: float, partials: bool, everything: bool) -> list[Path]:
    import time

    from wss.errors import StoreError
    from wss.store import Store

    youngest = time.time() - days * 86400
    doomed = [path for path in workspace.leftovers() if _dead(path, partials) and path.stat().st_mtime <= youngest]
    stores: dict[str, Store] = {}
    for path in workspace.artifacts():
        try:
            store = Store(path)
            stores[store.key] = store
        except StoreError:
            doomed.append(path)
    if not everything:
        return doomed
    wanted = {key for keys in workspace.state().get("results", {}).values() for key in keys}
    wanted -= _replaced(workspace, stores)
    return doomed + [
        store.path for key, store in stores.items() if key not in wanted and store.path.stat().st_mtime <= youngest
    ]


def _replaced(workspace: Workspace, stores: Mapping[str, Store]) -> set[str]:
    """Keys of samples stores that were replaced by a newer store with the same content, for example to keep images as files.

    Stages depend on the content of a data set and not on its key, so all of them can use the newest store.
    """
    last = stores.get(workspace.state().get("samples", {}).get("key", ""))
    if last is None:
        return set()
    alike = {key for key, s in stores.items() if s.attributes["stage"] == "samples" and s.digest == last.digest}
    return alike - {last.key}


def _dead(path: Path, partials: bool) -> bool:
    """True if no running process can need this file."""
    import fcntl
    import os

    lock = path if path.suffix == ".lock" else path.with_name(f"{path.name.split('.')[0]}.lock")
    if lock.exists():
        with lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
    if path.suffix == ".tmp":
        pid = path.name.split(".")[-2]
        return not (pid.isdigit() and Path(f"/proc/{pid}").exists() and int(pid) != os.getpid())
    finished = path.with_name(f"{path.name.split('.')[0]}.h5").exists()  # killed just before tidying up
    return path.suffix == ".lock" or partials or finished
