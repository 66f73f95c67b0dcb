"""Errors with a remedy. Library code raises them; only the command line prints them and exits."""

from __future__ import annotations


class WssError(Exception):
    """A failure. The message says what was expected, what was found, where, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(WssError):
    """A wrong request: an unknown name, an option out of range, or contradicting options. Exit code 2."""

    exit_code = 2


class DataError(WssError):
    """A file of a data set is missing, unreadable or breaks a convention. The message names the file and the remedy."""


class StoreError(WssError):
    """An artifact store is missing, damaged, incomplete or has another schema. The message names file and remedy."""
