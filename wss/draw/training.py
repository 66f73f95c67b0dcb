"""Start, stop and follow trainings, which run in processes of their own and outlive the server."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets import open_source
from wss.datasets.files import FileSource
from wss.datasets.images import read_label
from wss.draw.annotations import flat_name
from wss.draw.doing import doing
from wss.draw.job import read_json
from wss.draw.learnable import require_learnable
from wss.draw.project import Project
from wss.draw.refusals import Refused
from wss.names import readable
from wss.store.atomic import write_text

PIPELINES = {
    "auto": "Chosen by the data",
    "pce": "Cross-entropy on labelled pixels",
    "dmpls": "Two decoders that teach each other",
    "densecrf": "Cross-entropy, then the dense CRF loss",
    "tree-energy": "Tree energy loss",
    "random-walk": "Random-walk masks, then cross-entropy",
}
"""What the page offers; every one needs scribbles only."""
BUDGET = (10, 86_400)
"""Shortest and longest training in seconds."""
_NONE: dict[str, Any] = {
    "state": "none",
    "pipeline": None,
    "stage": None,
    "doing": None,
    "done": 0,
    "total": 0,
    "seconds": 0.0,
    "left_s": None,
    "curve": [],
    "scores": None,
    "error": None,
    "least_s": None,
    "left_out": [],
}
_POINTS = 200


class Trainer:
    """Trainings on the drawings of a project, one at a time.

    Args:
        project: Whose drawings.
        complete: Writes the data set before a training begins, and tells which images cannot be read.
    """

    def __init__(self, project: Project, complete: Callable[[], Sequence[str]]) -> None:
        self._project, self._complete = project, complete
        self._folder = project.workspace.root / "draw-jobs"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin a training, as a client asks.

        Raises:
            Refused: The request is malformed, one is running already, or nothing can be learned from what is drawn.
        """
        pipeline, budget = body.get("pipeline", "auto"), _budget(body.get("budget_s", 300))
        if not isinstance(pipeline, str) or pipeline not in PIPELINES:
            raise Refused(400, "there is no such pipeline; reload the page")
        with self._lock:
            self._require_idle()
            left_out = list(self._complete())
            self._require_sound(pipeline, set(left_out))
            stamp = time.strftime("%Y%m%d-%H%M%S")
            folder = next(f for n in count() if not (f := self._folder / f"{stamp}-{n}").exists())
            folder.mkdir(parents=True)
            place = str(self._project.workspace.root.resolve())
            job = {
                "pipeline": pipeline,
                "budget_s": budget,
                "workspace": place,
                "left_out": [readable(name) for name in left_out],
            }
            write_text(folder / "job.json", json.dumps(job))
            self._launch(folder)
        return self.state()

    def stop(self) -> dict[str, Any]:
        """Stop the training; it can go on later."""
        folder = self._last()
        if folder is None or not self._runs(folder):
            raise Refused(409, "no training is running")
        pid = self._pid(folder)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGTERM)  # shells let background processes ignore SIGINT
        deadline = time.monotonic() + 60
        while self._runs(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.state()

    def resume(self, body: dict[str, Any]) -> dict[str, Any]:
        """Go on with the training that was stopped, killed or failed last, with another budget if the client names one.

        Raises:
            Refused: The request is malformed, there is none, one is running, or its budget was too short and still is.
        """
        budget = None if body.get("budget_s") is None else _budget(body["budget_s"])
        with self._lock:
            self._require_idle()
            folder = self._last()
            status = {} if folder is None else read_json(folder / "status.json")
            if folder is None or status.get("state") == "done":
                raise Refused(409, "there is no training to go on with; begin one")
            job = read_json(folder / "job.json")
            least = status.get("least_s")
            if least is not None and (budget or job.get("budget_s", 0)) < least:
                raise Refused(409, f"the training needs a budget of at least {least} seconds; give more time")
            if budget is not None:
                write_text(folder / "job.json", json.dumps({**job, "budget_s": budget}))
            self._launch(folder)
        return self.state()

    def state(self) -> dict[str, Any]:
        """State of the training as the page shows it, see PROTOCOL.md."""
        folder = self._last()
        if folder is None:
            return dict(_NONE)
        status, job = read_json(folder / "status.json"), read_json(folder / "job.json")
        state = status.get("state", "running" if self._runs(folder) else "stopped")
        if state == "running" and not self._runs(folder):
            state = "stopped"
        seconds = (status.get("finished") or time.time()) - status.get("begun", time.time())
        curve = self._curve(status)
        training = state == "running" and status.get("stage") == "train"
        counts = status.get("stage") in ("train", "predict-all")  # steps or images
        return {
            "state": state,
            "pipeline": job.get("pipeline"),
            "stage": status.get("stage", "starting"),
            "doing": doing(status.get("stage", "starting")),
            "done": curve[-1][0] if training and curve else status.get("done", 0) if counts else 0,
            "total": status.get("total", 0) if counts else 0,
            "seconds": round(seconds, 1) if state in ("running", "done") else 0.0,
            "left_s": max(0, round(job.get("budget_s", 0) - seconds)) if state == "running" else None,
            "curve": curve,
            "scores": _scores(status.get("record")),
            "error": status.get("error"),
            "least_s": status.get("least_s"),
            "left_out": job.get("left_out", []),
        }

    def predictions(self) -> Path | None:
        """The newest folder with predictions of all images."""
        folders = sorted(self._folder.glob("*/index.json")) if self._folder.is_dir() else []
        return folders[-1].parent if folders else None

    def prediction(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str] | None:
        """Labels and uncertainty (0..255) of an image, uint8 (H,W), and which training they are of; None: there are none."""
        folder = self.predictions()
        path = None if folder is None else folder / "predictions" / f"{flat_name(name)}.png"
        if folder is None or path is None or not path.exists():
            return None
        doubt = read_label(path.with_name(f"{flat_name(name)}.uncertainty.png"))
        return read_label(path), doubt, folder.name

    def doubts(self) -> dict[str, float]:
        """Mean uncertainty by the name of the image's files, 0..1."""
        folder = self.predictions()
        return {} if folder is None else {name: float(v) for name, v in read_json(folder / "index.json").items()}

    def network(self) -> Path | None:
        """The store of the network that was trained last."""
        folder = self.predictions()
        network = None if folder is None else read_json(folder / "status.json").get("network")
        return None if network is None else Path(network)

    def _last(self) -> Path | None:
        jobs = sorted(self._folder.glob("*/job.json")) if self._folder.is_dir() else []
        return jobs[-1].parent if jobs else None

    def _launch(self, folder: Path) -> None:
        (folder / "status.json").unlink(missing_ok=True)
        with (folder / "output.txt").open("ab") as out:
            self._process = subprocess.Popen(
                _command(folder),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # so that Ctrl+C at the server leaves it alone
            )

    def _pid(self, folder: Path) -> int | None:
        """The number of the job's process: what it tells, or that of the process which has not told it yet."""
        told = read_json(folder / "status.json").get("pid")
        if type(told) is int and told > 0:
            return told
        return None if self._process is None else self._process.pid

    def _runs(self, folder: Path) -> bool:
        """True if the job is running. The folder in its command line tells its process from another one of the same number."""
        if read_json(folder / "status.json").get("state", "running") != "running":
            return False  # it has told its end, and its process is about to leave
        if self._process is not None:
            if self._process.poll() is None:
                return True
            self._process = None
        pid = read_json(folder / "status.json").get("pid")
        if not isinstance(pid, int):
            return False
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return _answers(pid) and not Path("/proc/self").exists()
        return os.fsencode(str(folder)) in line

    def _require_idle(self) -> None:
        folder = self._last()
        if folder is not None and self._runs(folder):
            raise Refused(409, "a training is running; stop it first")

    def _require_sound(self, pipeline: str, unread: set[str]) -> None:
        """Refuse a data set in which nothing can be learned, or whose own lists name images that cannot be read."""
        source = open_source(self._project.workspace.dataset())
        assert isinstance(source, FileSource)  # drawings are a data set in folders
        for split, names in source.catalogue.splits.items():
            bad = [readable(name) for name in names if name in unread]
            if bad:
                some = f"{', '.join(bad[:3])}{f' and {len(bad) - 3} more' if len(bad) > 3 else ''}"
                listed = (self._project.root / f"{split}.txt").exists()
                remedy = f"take their lines out of {split}.txt" if listed else "move them out of the folder"
                raise Refused(409, f"these images of {split} cannot be read: {some}; mend the files, or {remedy}")
        require_learnable(source, pipeline)

    def _curve(self, status: dict[str, Any]) -> list[list[float]]:
        """Steps and losses of the newest log that was written since the job began."""
        logs = [
            path
            for path in (self._project.workspace.root / "logs").glob("*/log.csv")
            if path.stat().st_mtime >= status.get("begun", 0) - 1
        ]
        if not logs:
            return []
        newest = max(logs, key=lambda path: path.stat().st_mtime_ns)
        with newest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        points = [[float(r["step"]), float(r["loss"])] for r in rows if r.get("loss") and r.get("step")]
        return points[:: max(1, -(-len(points) // _POINTS))] if len(points) > _POINTS else points


def _budget(value: Any) -> int:
    """Seconds that a client names, rounded."""
    if type(value) not in (int, float) or not BUDGET[0] <= value <= BUDGET[1]:
        raise Refused(400, f"a training takes {BUDGET[0]} seconds to {BUDGET[1] // 3600} hours")
    seconds: float = value
    return round(seconds)


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "wss.draw.job", str(folder)]


def _scores(record: Any) -> dict[str, Any] | None:
    if not isinstance(record, dict) or record.get("miou") is None:
        return None
    classes, per_class = record.get("classes", []), record.get("iou_per_class", [])
    named = per_class if isinstance(per_class, dict) else dict(zip(classes, per_class, strict=False))
    return {"miou": record["miou"], "per_class": named}


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
