"""Commands to kill, and what must be true of a workspace after each kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from wss.store import Journal, Store

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


class Server:
    """The other end of ``command_server.py``.

    Args:
        own_mounts: In a mount namespace of its own, where commands can be given small disks.
    """

    def __init__(self, own_mounts=False):
        unshare = ["unshare", "--map-root-user", "--mount"] if own_mounts else []
        handle, name = tempfile.mkstemp(prefix="wss-stderr-")
        os.close(handle)
        self._err = Path(name)
        self._process = subprocess.Popen(
            [*unshare, sys.executable, Path(__file__).with_name("command_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            preexec_fn=hear_signals,
        )
        assert self._read() == "ready"

    def _read(self):
        return self._process.stdout.readline().strip()

    def start(self, workspace, command, mount=None, **observe):
        argv = [str(a) for a in command]
        job = {"argv": argv, "cwd": str(workspace), "err": str(self._err), "mount": mount, "observe": observe}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self):
        return int(self._read())

    def run(self, workspace, command, mount=None, **observe):
        self.start(workspace, command, mount, **observe)
        return self.wait()

    @property
    def said(self):
        """What the last command said."""
        return self._err.read_text()

    def seen(self, path):
        """A path as the server sees it, whose mounts are its own."""
        return Path(f"/proc/{self._process.pid}/root/{path}")

    def stop(self):
        self._process.stdin.close()
        self._process.wait(120)  # to unload torch takes a loaded machine a while
        self._err.unlink()


def hear_signals():
    """A shell has what it starts in the background ignore SIGINT, these tests and what they start included."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stores(workspace):
    return sorted((workspace / "artifacts").glob("*/*.h5"))


def digests(workspace):
    return {f"{p.parent.name}/{p.stem}": Store(p).digest for p in stores(workspace)}


def _intact(path, scratch):
    """The bytes of a journal up to its last intact record."""
    copy = scratch / "copy.partial"
    shutil.copy(path, copy)
    Journal(copy).close()
    return copy.read_bytes()


class Witness:
    """Sees to it that what is finished is whole and never made again: stores stay untouched, journals only grow."""

    def __init__(self, workspace, scratch):
        self._workspace, self._scratch = workspace, scratch
        self._finished, self._partial = {}, {}

    def look(self):
        for path, stamp in self._finished.items():
            assert path.stat().st_mtime_ns == stamp, f"{path} was made again"
        for path, content in self._partial.items():
            assert path.exists() or path.with_suffix(".h5").exists(), f"{path} was thrown away"
            if path.exists() and not path.with_suffix(".h5").exists():
                assert _intact(path, self._scratch).startswith(content), f"{path} was begun anew"
        for path in stores(self._workspace):
            assert path in self._finished or Store(path).verify(), f"{path} is not whole"
        self._finished = {path: path.stat().st_mtime_ns for path in stores(self._workspace)}
        journals = [p for p in (self._workspace / "artifacts").glob("*/*.partial") if "checkpoint" not in p.name]
        self._partial = {path: _intact(path, self._scratch) for path in journals}


def leftovers(workspace):
    """Files among the artifacts that are no stores."""
    files = (workspace / "artifacts").glob("*/*")
    return [p.name for p in files if p.suffix != ".h5" and p.parent.name != "cache"]
