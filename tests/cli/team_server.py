"""Runs ``wss`` commands in several processes, as torchrun would start them, without loading torch for each of them.

A line of JSON in: ``{"argv": [...], "cwd": ..., "size": 2, "fail": {"rank": 1, "step": 3, "how": "data"}}``, or with
``"bright": true``; a line out: the exit codes of all processes (negative: killed by that signal, None: still there after a
minute). What they say is in ``out.N`` and ``err.N`` in the folder.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time


def serve():
    import torch

    import wss.stages
    import wss.training.loop

    torch.set_num_threads(1)
    wss.training.loop.CHECKPOINT_INTERVAL_S = -1.0  # a checkpoint at every step
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(job["size"]):
            pid = os.fork()
            if pid == 0:
                _run(job, rank, port)
            children.append(pid)
        print(json.dumps([_code(pid, time.monotonic() + 60) for pid in children]), flush=True)


def _code(pid, deadline):
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _run(job, rank, port):
    os.chdir(job["cwd"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    if job["size"] > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["size"], "LOCAL_WORLD_SIZE": job["size"]}
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fail = job.get("fail")
    if fail and fail["rank"] == rank:
        _fail(**fail)
    if job.get("bright"):
        _find_bright()
    sys.argv = ["wss", *job["argv"]]
    from wss.cli.main import main

    code = 1
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _fail(rank, step, how):
    from wss.errors import DataError
    from wss.training import loop

    original, steps = loop.learning_rate, []

    def learning_rate(*arguments):
        steps.append(1)
        if len(steps) == step:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("scan.png: not what it was") if how == "data" else ZeroDivisionError("a fault of wss")
        return original(*arguments)

    loop.learning_rate = learning_rate


def _find_bright():
    """Let networks find class 1 where an image is bright."""
    import numpy as np

    from wss.predictor import Predictor

    def whole(self, image):
        maps = np.zeros((len(self.classes), *image.shape[:2]), np.float32)
        maps[0], maps[1] = image[..., 0] <= 128, image[..., 0] > 128
        return maps

    Predictor._whole = whole


if __name__ == "__main__":
    serve()
