"""What is wrong, or worth knowing, about a file of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wss.errors import DataError

Severity = Literal["error", "warning", "note"]
"""``error``: the data cannot be used as it is; ``warning``: probably a mistake; ``note``: worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One problem, or many of the same kind summed up.

    Attributes:
        severity: How bad it is.
        code: Stable name of the kind of problem, for example ``label-range``.
        image_id: The image, the first one of many, or None when the data set as a whole is meant.
        file: The file, the first one of many, or None.
        message: What was expected and what came.
        remedy: What to do about it.
        count: How many images have it.
    """

    severity: Severity
    code: str
    image_id: str | None
    file: Path | None
    message: str
    remedy: str
    count: int = 1


class FileProblem(DataError):
    """A ``DataError`` about one file whose parts can be read apart.

    Args:
        code: Stable name of the kind of problem, as in ``Finding``.
        file: The file.
        message: What was expected and what came.
        remedy: What to do about it.
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
