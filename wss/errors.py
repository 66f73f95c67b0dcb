"""Errors that carry a remedy. Library code raises them; only the command line prints them and exits."""

from __future__ import annotations


class WssError(Exception):
    """Something failed: the message says what was expected, what came, where, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(WssError):
    """The request itself is wrong: an unknown name, an option out of range, options that contradict. Exit code 2."""

    exit_code = 2


class DataError(WssError):
    """A file of a data set is missing, unreadable or breaks a convention. Names the file and the remedy."""


class StoreError(WssError):
    """An artifact store is missing, damaged, half-written or of another schema. Names the file and the remedy."""
