"""Findings: errors, warnings and notes about files of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wss.errors import DataError

Severity = Literal["error", "warning", "note"]
"""``error``: the data cannot be used as it is; ``warning``: probably a mistake; ``note``: worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One problem, or several problems of the same kind in one entry.

    Attributes:
        severity: Severity of the problem.
        code: Stable name of the kind of problem, for example ``label-range``.
        image_id: The image (the first one of several), or None if the finding is about the whole data set.
        file: The file (the first one of several), or None.
        message: Expected and actual state.
        remedy: Action that solves the problem.
        count: Number of affected images.
    """

    severity: Severity
    code: str
    image_id: str | None
    file: Path | None
    message: str
    remedy: str
    count: int = 1


class FileProblem(DataError):
    """A ``DataError`` about one file, with separate fields.

    Args:
        code: Stable name of the kind of problem, as in ``Finding``.
        file: The file.
        message: Expected and actual state.
        remedy: Action that solves the problem.
    """

    def __init__(self, code: str, file: Path, message: str, remedy: str) -> None:
        super().__init__(f"{file}: {message}; {remedy}")
        self.code = code
        self.file = file
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[FileProblem], tuple[str, Path, str, str]]:
        return FileProblem, (self.code, self.file, self.message, self.remedy)

    def finding(self, image_id: str | None) -> Finding:
        """The same problem as a finding of the data check."""
        return Finding("error", self.code, image_id, self.file, self.message, self.remedy)
