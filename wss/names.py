"""Names of files that are not UTF-8.

Python reads such a name into a string whose odd bytes are lone surrogates (PEP 383): opening the file works, and so do JSON and
pickling, but no encoding of Unicode can hold the string. These functions say how it is written elsewhere.
"""

from __future__ import annotations

import re

_ODD = re.compile("[\udc80-\udcff]")


def name_bytes(name: str) -> bytes:
    """The bytes of a name, for hashes and stores; of a name that is UTF-8 its UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def name_of(data: bytes) -> str:
    """The inverse of ``name_bytes``."""
    return data.decode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    r"""Text for people, in which odd bytes of names are written as ``\xe9``."""
    return _ODD.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)


def is_odd(text: str) -> bool:
    """True if a text holds bytes of names that are not UTF-8."""
    return _ODD.search(text) is not None


def without_odd(text: str) -> str:
    """The text without odd bytes."""
    return _ODD.sub("", text)
