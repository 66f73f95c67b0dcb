"""A client of ``wss draw`` for benchmarks: the server as a process, and the page's requests over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from wss.scribbles import Stroke


class DrawClient:
    """Starts ``wss draw`` on a folder and talks to it as the page does.

    Args:
        folder: Images.
    """

    def __init__(self, folder: Path) -> None:
        line = [sys.executable, "-m", "wss", "draw", str(folder), "--no-browser"]
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/\?token=.*)", address)
        if found is None:
            raise RuntimeError(f"wss draw did not start: {address!r}")
        self._port = int(found[1])
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        self._headers = {"Origin": f"http://127.0.0.1:{self._port}", "Content-Type": "application/json"}
        answer, _ = self.request("GET", found[2])
        self._headers["Cookie"] = answer.headers["set-cookie"].split(";")[0]
        self._ticket = 0
        self.project = self.json("GET", "/api/project")
        self.ids = {image["name"]: image["id"] for image in self.project["images"]}
        self._revisions = {image["id"]: image["revision"] for image in self.project["images"]}

    def __enter__(self) -> DrawClient:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)

    def request(self, method: str, path: str, body: Any = None) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on the connection that is kept open."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        return answer, answer.read()

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """One request whose answer is JSON.

        Raises:
            RuntimeError: It was refused.
        """
        answer, data = self.request(method, path, body)
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data)

    def classes(self, names: list[str]) -> None:
        """Add the classes that are missing."""
        known = self.json("GET", "/api/project")
        have = {item["name"] for item in known["classes"]}
        new = [{"index": None, "name": n, "color": "#c04040", "pattern": 0} for n in names if n not in have]
        body = {"revision": known["classes_revision"], "classes": known["classes"] + new}
        self.json("PUT", "/api/classes", body)

    def draw(self, image: str, strokes: list[Stroke]) -> None:
        """Draw strokes of wss, whose pixels have whole coordinates."""
        objects = [
            {
                "id": uuid.uuid4().hex,
                "kind": "stroke",
                "class": stroke.label,
                "width": stroke.width,
                "points": (stroke.points + 0.5).tolist(),
            }
            for stroke in strokes
        ]
        body = {"base": self._revisions[image], "change": {"op": "add", "objects": objects}, "brief": True}
        self._revisions[image] = self.json("POST", f"/api/images/{image}/changes", body)["revision"]

    def propagate(self, image: str, method: str) -> list[dict[str, Any]]:
        """All answers to one question, read to the end."""
        self._ticket += 1
        body = {"revision": self._revisions[image], "method": method, "tab": "benchmark", "ticket": self._ticket}
        _, data = self.request("POST", f"/api/images/{image}/propagate", body)
        return [json.loads(line) for line in data.splitlines()]
