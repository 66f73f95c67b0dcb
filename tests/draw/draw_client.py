"""The page's requests, without a browser."""

import json

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from wss.draw.app import build_app
from wss.draw.security import Guard

TOKEN = "a-token-of-a-test-0123"
PORT = 8765
ORIGIN = f"http://127.0.0.1:{PORT}"


def halves(height=48, width=64, split=30):
    """Two colours side by side."""
    image = np.empty((height, width, 3), np.uint8)
    image[:, :split], image[:, split:] = (200, 60, 40), (30, 90, 190)
    return image


def make_folder(root, names=("a", "b", "c"), **kwargs):
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(halves(split=24 + 4 * number, **kwargs)).save(root / f"{name}.png")
    return root


class Page:
    """Sends what the page sends, with Starlette's client."""

    def __init__(self, studio, token=TOKEN, enter=True, **kwargs):
        self.studio = studio
        guard = Guard(build_app(studio), token, PORT, **kwargs)
        self.client = TestClient(guard, base_url=ORIGIN, headers={"Origin": ORIGIN}, raise_server_exceptions=False)
        if enter:
            assert self.client.get(f"/?token={token}", follow_redirects=False).status_code == 303
        self.client.headers["Content-Type"] = "application/json"

    def get(self, path, status=200):
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.content

    def post(self, path, body, status=200, method="POST"):
        answer = self.client.request(method, path, content=json.dumps(body))
        assert answer.status_code == status, answer.text
        return answer.json() if "application/json" in answer.headers["content-type"] else answer

    def image(self, name="a"):
        return next(i["id"] for i in self.get("/api/project")["images"] if i["name"] == name)

    def classes(self, *names):
        known = self.get("/api/project")
        items = known["classes"] + [{"index": None, "name": n, "color": "#ff0000", "pattern": 1} for n in names]
        return self.post("/api/classes", {"revision": known["classes_revision"], "classes": items}, method="PUT")

    def change(self, image, change, base=None, status=200, **more):
        base = self.get(f"/api/images/{image}/annotation")["revision"] if base is None else base
        return self.post(f"/api/images/{image}/changes", {"base": base, "change": change, **more}, status)

    def draw(self, image, *objects, **more):
        return self.change(image, {"op": "add", "objects": list(objects)}, **more)

    def propagate(self, image, method="random-walk", ticket=1, **more):
        body = {"revision": 0, "method": method, "tab": "t", "ticket": ticket, **more}
        answer = self.post(f"/api/images/{image}/propagate", body)
        return [json.loads(line) for line in answer.text.splitlines()]


def stroke(key, label, *points, width=3):
    return {"id": key, "kind": "stroke", "class": label, "width": width, "points": [list(p) for p in points]}
