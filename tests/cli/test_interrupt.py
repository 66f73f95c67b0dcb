"""The last resort of an interruption: a process that waits for ever ends all the same."""

import signal
import subprocess
import sys
import time

STUCK = """
import os, signal, threading
from wss.cli import interrupt
interrupt.GRACE_S = 0.3
interrupt.PATIENCE_S = 0.05
interrupt.leave_at_once()
interrupt.begin_work()
print("ready", flush=True)
while True:  # swallows the exception, as code that cannot be interrupted does
    try:
        threading.Event().wait(30)
    except KeyboardInterrupt:
        print("swallowed", flush=True)
"""


def test_a_stuck_process_ends_after_one_signal():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    process.send_signal(2)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == "swallowed\n"
    assert "run the same command again" in err
    assert time.monotonic() - begun < 15
