"""Atomic writing of files, and conversion of operating system errors to errors with a remedy."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wss.errors import StoreError

_SPACE = "free some space (`wss gc --all` removes unused artifacts)"
_FULL = {
    errno.ENOSPC: f"the disk is full; {_SPACE}",
    errno.EDQUOT: f"the disk quota is used up; {_SPACE}",
    errno.EFBIG: "the file would be larger than allowed; raise the limit (`ulimit -f`)",
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert an ``OSError`` that occurs while ``path`` is written to a ``StoreError`` that names the remedy."""
    try:
        yield
    except OSError as error:
        for number, problem in _FULL.items():
            if error.errno == number or os.strerror(number) in str(error):  # h5py gives the error number only as text
                raise StoreError(f"{path}: {problem} and run the same command again; it resumes") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StoreError(f"{path}: not writable; choose another folder with --workspace") from error
        raise StoreError(f"{path}: cannot be written ({error})") from error


@contextlib.contextmanager
def replace_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it into place.

    A crash at any moment leaves either the old file or the new one. Temporary files of dead processes are removed by
    ``wss gc`` in a workspace, and elsewhere by ``remove_leftovers``.

    Args:
        path: The file.
        flush: Wait until the data is on the disk. If False, a crash of the machine may leave an empty file. Use False only for
            one of many files that are useful only together.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if flush:
                with temporary.open("rb") as handle:
                    os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if not flush:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def remove_leftovers(paths: Iterable[Path]) -> list[Path]:
    """Remove temporary files that killed processes of this machine left for these files.

    Args:
        paths: Files that are about to be written.

    Returns:
        The removed files.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    removed = []
    for folder, wanted in names.items():
        for leftover in folder.glob("*.tmp"):
            name, _, process = leftover.name.removesuffix(".tmp").rpartition(".")
            if name in wanted and process.isdigit() and not _lives(int(process)):
                with storage_errors(leftover):
                    leftover.unlink(missing_ok=True)
                removed.append(leftover)
    return removed


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically, see ``replace_file``."""
    with replace_file(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Write ``data`` to ``path`` atomically, see ``replace_file``."""
    with replace_file(path, flush=flush) as temporary:
        temporary.write_bytes(data)
