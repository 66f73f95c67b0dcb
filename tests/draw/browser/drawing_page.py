"""A server of ``wss draw`` in a process of its own, and a page of it in a browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2

from wss.datasets.sample import SampleSource

TOKEN = "token-of-the-tests-0000"
HEIGHT, WIDTH = 96, 144
PATIENCE_MS = 30000


def chromium_path():
    """The browser of the system, or None."""
    named = os.environ.get("WSS_CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next((path for path in found if path), None)


def make_images(folder, number, height=HEIGHT, width=WIDTH):
    (folder / "images").mkdir(parents=True)
    source = SampleSource(height=height, width=width, train=number, val=0)
    for index, name in enumerate(source.catalogue.splits["train"]):
        cv2.imwrite(str(folder / "images" / f"scene-{index}.png"), source.read(name).image[:, :, ::-1])
    return folder


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """``wss draw FOLDER`` that can be killed and started again at the same address."""

    def __init__(self, folder):
        self.folder = folder
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}/?token={TOKEN}"
        self.process = None

    def start(self):
        command = [
            sys.executable,
            "-m",
            "wss",
            "draw",
            str(self.folder),
            "--port",
            str(self.port),
            "--token",
            TOKEN,
            "--no-browser",
        ]
        root = str(Path(__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        self.log = (self.folder / f"server-{time.time_ns()}.log").open("w+")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, env=environment, cwd=self.folder
        )
        self._wait()
        return self

    def _wait(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {Path(self.log.name).read_text()}")

    def kill(self):
        """As ``kill -9``: nothing can be written any more."""
        self.process.kill()
        self.process.wait()
        self.log.close()


class DrawPage:
    """Acts as a person does on the page. Places are in pixels of the image."""

    def __init__(self, context, server, image=None):
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.open(server, image)

    def open(self, server, image=None):
        self.page.goto(server.address)
        self.page.wait_for_selector("body[data-ready]")
        if image is not None:
            self.show(image)

    def show(self, name):
        """Open an image by its name in the list."""
        self.page.click(f'.image-row[title="{name}"]')
        self.page.wait_for_function("name => document.getElementById('image-name').textContent === name", arg=name)
        self.page.wait_for_function("() => document.getElementById('pane').dataset.revision !== ''")

    def evaluate(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def screen(self, x, y):
        script = """async ([x, y]) => {
            const { toScreen } = await import('/page/view.js');
            const box = document.getElementById('stage').getBoundingClientRect();
            const [left, top] = toScreen(x, y);
            return [box.left + left, box.top + top];
        }"""
        return self.evaluate(script, [x, y])

    def click(self, x, y):
        self.page.mouse.click(*self.screen(x, y))

    def drag(self, *places):
        first, *others = [self.screen(*place) for place in places]
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for place in others:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up()

    def choose(self, name):
        self.page.click(f'.class-row:has(.class-name:text-is("{name}"))')

    def tool(self, name):
        self.page.click(f'#tools [data-tool="{name}"]')

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def wait_saved(self):
        self.page.wait_for_selector('#saved[data-state="saved"]')

    def wait_mask(self, kind="full"):
        """Until the mask of the newest revision is painted."""
        script = """kind => {
            const { mask, revision, painted } = document.getElementById('pane').dataset;
            return mask === `${revision}:${kind}` && painted === mask;
        }"""
        self.page.wait_for_function(script, arg=kind)

    def objects(self):
        """Objects that the server has of the image that is shown."""
        return self.annotation()["objects"]

    def annotation(self):
        script = """async () => {
            const { state } = await import('/page/store.js');
            return (await fetch(`/api/images/${state.image.id}/annotation`)).json();
        }"""
        return self.evaluate(script)

    def mask_at(self, x, y):
        script = """async ([x, y]) => {
            const { shownMask } = await import('/page/stage.js');
            const { maskAt } = await import('/page/masks.js');
            const { className } = await import('/page/store.js');
            const shown = shownMask();
            return shown ? className(maskAt(shown.mask, shown.area, x, y)) : null;
        }"""
        return self.evaluate(script, [x, y])

    def colour_of(self, layer, x, y):
        """Red, green, blue, alpha of a canvas at a place of the image."""
        script = """async ([layer, x, y]) => {
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
            const { toScreen } = await import('/page/view.js');
            const canvas = document.querySelector(`#pane .layer-${layer}`);
            const [left, top] = toScreen(x, y);
            const ratio = window.devicePixelRatio;
            return [...canvas.getContext('2d').getImageData(Math.round(left * ratio), Math.round(top * ratio), 1, 1).data];
        }"""
        return self.evaluate(script, [layer, x, y])

    def status(self):
        return self.page.inner_text("#status")

    def wait_status(self, words):
        self.page.wait_for_function("words => document.getElementById('status').textContent.includes(words)", arg=words)

    def wait_alert(self, words):
        self.page.wait_for_selector(f'#alerts :text("{words}")')
