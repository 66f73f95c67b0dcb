"""Requests that are refused: what the client is told, and with which status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wss.errors import WssError


class Refused(WssError):
    """A request that is not carried out; the server goes on.

    Args:
        status: HTTP status, 4xx or 5xx.
        message: One sentence with the remedy.
        more: Further entries of the answer.
    """

    def __init__(self, status: int, message: str, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.more = dict(more or {})


def unknown(what: str) -> Refused:
    """There is nothing of that name."""
    return Refused(404, f"there is no such {what}; reload the page")
