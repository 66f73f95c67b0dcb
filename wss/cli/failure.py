"""What a command says when it fails."""

from __future__ import annotations

import typer

from wss.cli import team
from wss.errors import WssError


def message(error: BaseException) -> str | None:
    """What to say about an error for which there is a remedy; None for faults of wss itself."""
    text = str(error)
    if isinstance(error, WssError | OSError):
        return text
    name = type(error).__name__  # torch and joblib are not imported here: that takes a second
    if name in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in text:
        return (
            "out of memory; use smaller crops (`--set train.augment.crop=256`) or batches (`--set train.batch_size=2`), "
            "fewer --jobs, or a window for large images (`--set predict.test_time.window=512`)"
        )
    if name == "KilledWorker":
        return f"a task ended every worker of the cluster that tried it, most likely for want of memory there ({text[:200]})"
    if name == "TerminatedWorkerError" or "DataLoader worker" in text:
        return f"a worker process died, most likely for want of memory; use fewer --jobs ({text.splitlines()[0]})"
    return None


def complain(text: str, kind: str = "error") -> None:
    """One message on stderr, unless another process of this run has told already what went wrong."""
    if team.speaks_first():
        typer.echo(f"{typer.style(kind, fg='red', bold=True)}: {text}", err=True)
