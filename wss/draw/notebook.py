"""The page of ``wss draw`` in a notebook."""

from __future__ import annotations

import atexit
import contextlib
import html
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from wss.errors import WssError


class Drawing:
    """A server in the background, shown by notebooks as its page.

    Attributes:
        url: The address, with its token; it opens in a browser, too.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, height: int) -> None:
        self._process, self.url, self._height = process, url, height
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop the server. What was drawn is on disk; a training goes on."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=30)
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __repr__(self) -> str:
        return f"wss draw at {self.url}" + ("" if self._process.poll() is None else " (stopped)")

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.escape(self.url, quote=True)}" width="100%" height="{self._height}" '
            'title="wss draw" style="border: 0"></iframe>'
        )


def show(
    images: str | Path | None = None, *, workspace: str | Path | None = None, height: int = 760, port: int = 0
) -> Drawing:
    """Start a server in the background and show its page below the cell.

    The page is framed from ``localhost``: open the notebook under that name, as Jupyter does by itself, because browsers keep the
    session of another name out of frames.

    Args:
        images: A folder of images.
        workspace: A workspace instead.
        height: Of the frame in pixels.
        port: 0 takes a free one.

    Raises:
        WssError: The server does not start; the message says why.
    """
    line = [sys.executable, "-m", "wss", "draw", "--no-browser", "--framed", "--port", str(port)]
    line += [] if workspace is None else ["--workspace", str(workspace)]
    line += [] if images is None else ["--", str(images)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            process.wait()
            errors.seek(0)
            raise WssError(errors.read().strip().removeprefix("error: ") or "the server did not start")
        return Drawing(process, url, int(height))
