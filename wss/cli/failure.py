"""Error messages of commands that fail."""

from __future__ import annotations

import re
import traceback

import typer

from wss.cli import team
from wss.errors import WssError
from wss.names import is_odd, readable


def message(error: BaseException) -> str | None:
    """Message for an error that has a remedy; None for bugs in wss."""
    text = str(error)
    if isinstance(error, WssError | OSError):
        return text
    if isinstance(error, UnicodeEncodeError):
        word = _word(error.object, error.start)
        if is_odd(word):
            return f"the name {readable(word)} is not UTF-8, but the text written here must be UTF-8; rename the file"
        return (
            f"{word!a} cannot be written in the encoding of this locale ({error.encoding}); set LC_ALL=C.UTF-8 and run the same "
            "command again"
        )
    name = type(error).__name__  # torch and joblib are not imported here, because this takes a second
    if name in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in text:
        return (
            "out of memory; use smaller crops (`--set train.augment.crop=256`) or batches (`--set train.batch_size=2`), "
            "fewer --jobs, or a window for large images (`--set predict.test_time.window=512`)"
        )
    if name == "KilledWorker":
        return (
            f"a task ended every worker of the cluster that ran it, most likely because memory was full ({text[:200]})"
        )
    if name == "TerminatedWorkerError" or "DataLoader worker" in text:
        return f"a worker process died, most likely because memory was full; use fewer --jobs ({text.splitlines()[0]})"
    return None


def _word(text: str, place: int) -> str:
    """The word at a position of a text."""
    before, after = text[:place], text[place:]
    return re.split(r"[\s\"'<>/]", before)[-1] + re.split(r"[\s\"'<>/]", after)[0]


def complain(text: str, kind: str = "error") -> None:
    """Print one message on stderr, unless another process of this run has already reported the failure."""
    if team.is_first_failure():
        typer.echo(f"{typer.style(kind, fg='red', bold=True)}: {text}", err=True)


def report(error: Exception) -> None:
    """Print the message of an error, or its traceback if it is a bug in wss, unless the failure has already been reported."""
    said = message(error)
    if said is not None:
        complain(said)
    elif team.is_first_failure():
        traceback.print_exception(error)
