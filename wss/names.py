"""File names that are not valid UTF-8.

Python decodes such a name to a string with lone surrogates in place of the invalid bytes (PEP 383). Opening the file,
JSON and pickling work, but the string cannot be encoded as UTF-8. These functions convert such names for other uses.
"""

from __future__ import annotations

import re

_ODD = re.compile("[\udc80-\udcff]")


def name_bytes(name: str) -> bytes:
    """The bytes of a name, for hashes and stores. For a valid name this is its UTF-8 encoding."""
    return name.encode("utf-8", "surrogateescape")


def name_of(data: bytes) -> str:
    """The inverse of ``name_bytes``."""
    return data.decode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    r"""Text for display, with invalid bytes of names written as ``\xe9``."""
    return _ODD.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)


def is_odd(text: str) -> bool:
    """True if a text contains invalid bytes of names."""
    return _ODD.search(text) is not None


def without_odd(text: str) -> str:
    """The text without invalid bytes of names."""
    return _ODD.sub("", text)
