"""Content fingerprints of many files. They are fast if nothing has changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from wss.datasets.finding import FileProblem
from wss.errors import StoreError
from wss.store.atomic import write_text

_MISSING = "missing"


def digest_files(files: Iterable[Path], root: Path, cache: Path | None = None, *, threads: int = 8) -> str:
    """SHA-256 over relative path, size and content hash of files.

    Content hashes are stored in ``cache`` and reused while path, size and modification time stay the same. Recently modified
    files are hashed again the next time, because a second change might not change the modification time.

    Args:
        files: Files in any order. Files that do not exist enter the digest as missing.
        root: Paths are relative to this folder, so that a data set can be moved. Other files enter by folder and name.
        cache: JSON file of content hashes. It is created if missing, replaced if damaged, and not changed if it is not writable.
        threads: Number of files hashed at the same time.

    Returns:
        Hex digest.

    Raises:
        DataError: A file exists but cannot be read.
    """
    names = sorted({os.path.abspath(file) for file in files})  # noqa: PTH100, links stay
    known = _load(cache)
    stats = [_stat(name) for name in names]
    stale = [(n, s) for n, s in zip(names, stats, strict=True) if s is not None and known.get(n, [None])[:2] != [*s]]
    if stale:
        now = time.time_ns()
        with ThreadPoolExecutor(threads) as pool:
            hashes = dict(zip((n for n, _ in stale), pool.map(_hash, (n for n, _ in stale)), strict=True))
        known |= {name: [*stat, hashes[name]] for name, stat in stale}
        if cache is not None:
            fresh = {name for name, (_, modified) in stale if _may_change_unseen(modified, now)}
            _save(cache, {name: row for name, row in known.items() if name not in fresh})
    base = os.path.abspath(root)  # noqa: PTH100
    total = hashlib.sha256()
    for name, stat in zip(names, stats, strict=True):
        size, content = (-1, _MISSING) if stat is None else (stat[0], known[name][2])
        total.update(f"{_relative(name, base)}\0{size}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _relative(name: str, base: str) -> str:
    if name.startswith(base + os.sep):
        return name[len(base) + 1 :].replace(os.sep, "/")
    return "../" + "/".join(Path(name).parts[-2:])


def _stat(name: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(name)  # noqa: PTH116, a third of the time of Path.stat
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileProblem("unreadable-file", Path(name), str(error.strerror), "check its rights") from error
    return stat.st_size, stat.st_mtime_ns


def _hash(name: str) -> str:
    try:
        with open(name, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileProblem("unreadable-file", Path(name), str(error.strerror), "check its rights") from error


def _may_change_unseen(modified_ns: int, now_ns: int) -> bool:
    """True if a file could change again without a new modification time: some file systems have a resolution of 2 s."""
    coarse = modified_ns % 1_000_000_000 == 0
    return now_ns - modified_ns < (2_000_000_000 if coarse else 50_000_000)


def _load(cache: Path | None) -> dict[str, Sequence[Any]]:
    if cache is None:
        return {}
    try:
        rows = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(rows, dict):
        return {}
    return {name: row for name, row in rows.items() if isinstance(row, list) and len(row) == 3}


def _save(cache: Path, rows: dict[str, Sequence[Any]]) -> None:
    try:
        write_text(cache, json.dumps(rows, separators=(",", ":")))
    except StoreError:
        return  # without a writable cache, only time is lost
