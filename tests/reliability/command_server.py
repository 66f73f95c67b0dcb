"""Runs ``wss`` commands as processes of their own without loading torch for each: reads jobs, forks, tells the exit code.

A line of JSON in: ``{"argv": [...], "cwd": ..., "err": ...}``; lines out: the process id at once, the exit code at the end
(negative: killed by that signal). Each command leads a process group, so that it can be killed with its workers. A job may have
``mount`` and ``observe``, arguments of these functions in ``moments.py``.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import sys


def serve() -> None:
    import torch
    import torch._dynamo  # optimisers load it, which takes longer than the training here

    import wss

    for module in pkgutil.walk_packages(wss.__path__, "wss."):
        if not module.name.startswith("wss.kernels._") and module.name != "wss.__main__":
            importlib.import_module(module.name)
    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard
    import moments

    torch.set_num_threads(1)
    wss.training.loop.CHECKPOINT_INTERVAL_S = -1.0  # a checkpoint at every step
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if job["mount"]:
            moments.mount(*job["mount"])
        pid = os.fork()
        if pid == 0:
            moments.observe(**job["observe"])
            _run(job)
        with contextlib.suppress(ProcessLookupError):
            os.setpgid(pid, pid)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(job) -> None:
    os.chdir(job["cwd"])
    err = os.open(job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(err, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    sys.argv = ["wss", *job["argv"]]
    from wss.cli.main import main

    code = 1
    try:
        main()
    except SystemExit as error:
        code = error.code or 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
