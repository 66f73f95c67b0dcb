"""Faults that tests make, and the expected messages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commands import assert_whole, call, stores

USAGE, FAILURE = 2, 1


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Of the test.
        command: Arguments of ``wss``.
        code: Exit code.
        says: Parts of the message: what is wrong, where, and the remedy.
        arrange: Makes the fault, given the workspace.
        damaged: Stages whose store is damaged by ``arrange``.
    """

    name: str
    command: tuple[object, ...]
    code: int
    says: tuple[str, ...]
    arrange: Callable[[Path], None] = lambda work: None
    damaged: tuple[str, ...] = ()


def ids_of(faults):
    return [fault.name for fault in faults]


def expect(fault, work):
    """Arrange the fault, run the command, and check what it says and leaves."""
    fault.arrange(work)
    damaged = [path for path in stores(work) if path.parent.name in fault.damaged]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in stores(work)}
    result = call(*fault.command)
    assert result.code == fault.code, result.err
    assert result.out == ""
    for text in fault.says:
        assert text in result.said
    assert len(result.said) < 1500
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in before} == before
    assert_whole(work, damaged)
    return result


def write_of(name, text):
    def arrange(work):
        (work / name).write_text(text)

    return arrange
