"""Moments in the making of a store, counted instead of timed, so that short stages are hit as often as long ones.

Moments are calls of Python and C functions. Those made by the code that writes (``wss.store``, h5py and what is left behind for
people) are also counted on their own, for they are few among all. The third kind is a byte: past it no file grows.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

WRITERS = ("/wss/store/", "/h5py/", "/wss/pipeline/workspace.py")
STATE = "state.yaml"  # what is written after the last stage


def observe(
    *, record=None, node=None, call=None, disk_call=None, with_signal=signal.SIGKILL, size=None, survive=False
) -> None:
    """Count the moments of every node, or end at one of them.

    Args:
        record: File for the counts by node: calls, calls of writers.
        node: Id of the node of the pipeline to end in; at its end where the moment does not come.
        call: Send a signal at this call.
        disk_call: The same, counting the calls of writers.
        with_signal: Its number.
        size: No file grows beyond so many bytes; the write past them kills.
        survive: That write fails instead.
    """
    if record is None and node is None:
        return
    import wss.pipeline.run as pipeline_run
    from wss.pipeline.workspace import Workspace

    counts, struck = {}, []

    def count(frame, event, argument):
        if event not in ("call", "c_call", "c_return"):
            return
        counter = counts["here"]
        disk = _writes(frame.f_code.co_filename)
        counter["all"] += 1
        counter["disk"] += disk
        if counter["all"] == call or (disk and counter["disk"] == disk_call):
            strike()

    def strike():
        sys.setprofile(None)
        struck.append(True)
        os.kill(os.getpid(), with_signal)

    def begin(name):
        counts[name] = counts["here"] = Counter()
        if record is not None or (name == node and size is None):
            sys.setprofile(count)
        elif name == node:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN if survive else signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def end(name):
        sys.setprofile(None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if record is not None:
            found = {name: [c["all"], c["disk"]] for name, c in counts.items() if name != "here"}
            Path(record).write_text(json.dumps(found))
        if name == node and not struck and not survive:
            strike()

    def around(function, name_of):
        def observed(*arguments, **options):
            name = name_of(*arguments)
            begin(name)
            try:
                return function(*arguments, **options)
            finally:
                end(name)

        return observed

    pipeline_run.run_node = around(pipeline_run.run_node, lambda node, *rest: node.id)
    Workspace.remember_results = around(Workspace.remember_results, lambda *rest: STATE)


def mount(folder, size, mode="rw") -> None:
    """Give a folder a disk of so many bytes of its own, or change its disk; needs a mount namespace that allows it."""
    options = f"size={size},{mode}" + (",remount" if os.path.ismount(folder) else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


@cache
def _writes(file_name: str) -> bool:
    return any(part in file_name for part in WRITERS)
