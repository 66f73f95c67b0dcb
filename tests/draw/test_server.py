import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from draw_client import make_folder, stroke

from wss.draw import server
from wss.errors import UsageError


class Running:
    """``wss draw`` as a process."""

    def __init__(self, folder, *arguments):
        line = [sys.executable, "-m", "wss", "draw", str(folder), "--no-browser", *arguments]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError(self.process.communicate()[1])
        self.port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{32}", self.address)[1])
        self.cookie = ""
        answer, _ = self.request("GET", self.address.split(str(self.port))[1])
        self.cookie = answer.getheader("set-cookie").split(";")[0]

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Origin": f"http://127.0.0.1:{self.port}", "Cookie": self.cookie, "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer, answer.read()

    def json(self, method, path, body=None):
        answer, data = self.request(method, path, body)
        assert answer.status == 200, data
        return json.loads(data)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.communicate(timeout=20)


def test_what_was_drawn_survives_kill_9(tmp_path):
    """Kill the server while strokes come: every stroke that was answered is there afterwards, and at most one more."""
    folder = make_folder(tmp_path / "photos")
    running = Running(folder)
    image = running.json("GET", "/api/project")["images"][0]["id"]
    answered = []

    def draw():
        while True:
            change = {"op": "add", "object": stroke(f"s{len(answered)}", 0, (len(answered) % 60, 3), (9, 9))}
            body = {"base": len(answered), "change": change, "brief": True}
            answered.append(running.json("POST", f"/api/images/{image}/changes", body)["revision"])

    def until_killed():
        with contextlib.suppress(OSError, http.client.HTTPException):
            draw()

    try:
        with pytest.raises(UsageError, match="another `wss draw` has"):  # nobody else may open the folder meanwhile
            server.serve(folder, None)
        drawing = threading.Thread(target=until_killed)
        drawing.start()
        while len(answered) < 20:
            time.sleep(0.001)
    finally:
        running.kill()
    drawing.join()
    again = Running(folder)
    try:
        found = again.json("GET", f"/api/images/{image}/annotation")
        assert len(answered) <= found["revision"] <= len(answered) + 1 and found["can_undo"]
        assert [item["id"] for item in found["objects"]] == [f"s{n}" for n in range(found["revision"])]
        assert not list(folder.rglob("strokes/*.tmp"))
    finally:
        out, err = again.kill(signal.SIGINT)
    assert (again.process.returncode, out, err) == (0, "", "")
    assert (folder / "scribbles/a.png").exists()


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}.*choose another port"):
            server.serve(make_folder(tmp_path / "photos"), None, port=port)


def test_other_machines_are_refused_without_a_token(tmp_path):
    with pytest.raises(UsageError, match="--token"):
        server.serve(make_folder(tmp_path / "photos"), None, host="0.0.0.0")
    assert not (tmp_path / "photos/draw.json").exists()


def test_without_the_extra_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"uvicorn, which is not installed: run `pip install 'wss\[draw\]'`"):
        server.serve(make_folder(tmp_path / "photos"), None)


def test_the_command_starts_without_the_extra_and_quickly():
    """Neither the help nor an error needs more than what is asked for."""
    code = "import sys, wss.cli.draw; print(sorted({'uvicorn', 'starlette', 'torch', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"


def test_answers_are_not_delayed_by_40_ms():
    """asyncio turns off Nagle's algorithm only for sockets that name their protocol."""
    with server._listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
