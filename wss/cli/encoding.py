"""Output of text to streams of any encoding."""

from __future__ import annotations

import codecs
import io
import sys

from wss.names import readable


def write_everything() -> None:
    r"""Make stdout and stderr accept any text, independent of their encoding.

    Characters that the encoding cannot represent are written as escape sequences: ``\u2192``, or ``\xe9`` for a byte of a file
    name that is not UTF-8.
    """
    codecs.register_error("wss", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="wss")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = readable(error.object[error.start : error.end])
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end
