"""One training with its predictions, as a process of its own: ``python -m wss.draw.job FOLDER``.

It runs ``wss run`` with the pipeline and budget of ``FOLDER/job.json``, then predicts every image of the data set with the
network that came out, and keeps only the largest region of foreground where the pipeline does. What it does is in
``status.json``, replaced atomically, so that a server that was killed finds it again.
Stopped and run again, it goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import WssError
from wss.store.atomic import write_bytes, write_text

_STEPS = re.compile(r"--budget .*?: (.*steps.*)")
_MEASURING = "--budget: measuring steps"
_TOO_SHORT = re.compile(r"--budget \S+ is too short .* give at least (\d+)s")
_RUNNING = re.compile(r"^(\S+)(?: \((\S+)\))?: (?:running|resuming)")


class Status:
    """The state of a training, as the server reads it.

    Args:
        folder: The job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "status.json"
        self.values: dict[str, Any] = read_json(self._path) | {
            "state": "running",
            "pid": os.getpid(),
            "begun": time.time(),
            "error": None,
            "least_s": None,
        }
        self.tell()

    def tell(self, **values: Any) -> None:
        """Replace entries and write them."""
        self.values |= values
        write_text(self._path, json.dumps(self.values), flush=False)


def main(folder: Path) -> int:
    """Run the job; the exit code is that of ``wss run``."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    status = Status(folder)
    try:
        code = _train(folder, job, status)
        if code == 0:
            _predict(folder, Path(job["workspace"]), status)
            status.tell(state="done", stage="done", finished=time.time())
        elif code in (130, -signal.SIGINT, -signal.SIGTERM):
            status.tell(state="stopped")
        else:
            error = _last_error(folder) or f"`wss run` ended with exit code {code}"
            status.tell(state="failed", **failure(error, job["budget_s"]))
    except KeyboardInterrupt:
        status.tell(state="stopped")
        return 130
    except (WssError, OSError, MemoryError) as error:
        status.tell(state="failed", error=str(error) or type(error).__name__)
        return 1
    return code


def command(job: dict[str, Any]) -> list[str]:
    """The command that trains."""
    python = [sys.executable, "-m", "wss", "run", job["pipeline"], "--workspace", job["workspace"], "--json"]
    return [*python, "--budget", f"{job['budget_s']}s"]


def failure(error: str, budget: int) -> dict[str, Any]:
    """Error of ``wss run`` as the page shows it; ``least_s`` is the budget that would do, where it was too short."""
    short = _TOO_SHORT.match(error)
    if short is None:
        return {"error": error}
    least = int(short[1])
    return {
        "error": f"a budget of {budget} seconds is too short on this machine; give at least {least} seconds",
        "least_s": least,
    }


def _train(folder: Path, job: dict[str, Any], status: Status) -> int:
    """Run the pipeline, following what it says."""
    run = subprocess.Popen(command(job), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    assert run.stderr is not None and run.stdout is not None
    stage = "starting"
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        try:
            for line in run.stderr:
                log.write(line)
                log.flush()
                steps = _STEPS.match(line.strip())
                if steps:
                    status.tell(total=sum(int(n) for n in re.findall(r"(\d+) steps", steps[1])))
                if line.strip() == _MEASURING:
                    status.tell(stage="measure")
                running = _RUNNING.match(line.strip())
                if running:
                    stage = running[2] or running[1]
                    status.tell(stage=stage)
        except KeyboardInterrupt:
            run.send_signal(signal.SIGINT)
            run.wait(timeout=120)
            raise
        output = run.stdout.read()
    code = run.wait()
    if code == 0:
        rows = json.loads(output.strip().splitlines()[-1])
        networks = [row["store"] for row in rows if row["stage"] == "train"]
        records = [row["record"] for row in rows if row["stage"] == "evaluate" and row["record"]]
        reduced = [row["store"] for row in rows if row["stage"] == "largest-region" and _applied(row["store"])]
        samples = next((row["store"] for row in rows if row["stage"] == "samples"), None)
        shown = [record for record in records if record.get("largest_region", {}).get("applied")] if reduced else []
        status.tell(
            network=networks[-1] if networks else None,
            record=next(iter(shown or records), None),
            largest_region_of=samples if reduced else None,
        )
    return code


def _predict(folder: Path, workspace: Path, status: Status) -> None:
    """Masks and uncertainty of all images, with the mean uncertainty of each in ``index.json``."""
    from wss.checkpoints import load_checkpoint
    from wss.datasets import open_source
    from wss.pipeline.workspace import Workspace
    from wss.viz import encode_png, indexed_png

    network = status.values.get("network")
    if network is None:
        return
    source = open_source(Workspace(workspace).dataset())
    names = list(dict.fromkeys(i for split in source.catalogue.splits.values() for i in split))
    predictor = load_checkpoint(network)
    index: dict[str, float] = {}
    status.tell(stage="predict-all", done=0, total=len(names))
    out = folder / "predictions"
    for number, name in enumerate(names, 1):
        image = source.read(name).image
        labels = np.empty(image.shape[:2], np.uint8)
        doubt = np.empty(image.shape[:2], np.uint8)
        for area, maps in predictor.parts(image):
            ordered = np.partition(maps, max(0, len(maps) - 2), axis=0)
            second = ordered[-2] if len(maps) > 1 else np.zeros_like(ordered[-1])
            labels[area] = maps.argmax(0)
            doubt[area] = np.rint(255 * (1 - (ordered[-1] - second)).clip(0, 1))
        write_bytes(out / f"{name}.png", indexed_png(labels, predictor.palette), flush=False)
        write_bytes(out / f"{name}.uncertainty.png", encode_png(doubt), flush=False)
        index[name] = float(doubt.mean() / 255)
        status.tell(done=number)
    if status.values.get("largest_region_of") is not None:
        _keep_largest(out, Path(status.values["largest_region_of"]), names, predictor.palette)
    write_text(folder / "index.json", json.dumps(index))


def _applied(largest_region: str) -> bool:
    """True if a stage ``largest-region`` kept the largest regions only."""
    from wss.store import PREDICTIONS, Store

    return bool(Store(Path(largest_region), PREDICTIONS).meta["largest_region"]["applied"])


def _keep_largest(out: Path, samples: Path, names: Sequence[str], palette: NDArray[np.uint8]) -> None:
    """Remove all but the largest region of foreground from the masks in ``out``: of each volume, else of each image."""
    from wss.datasets.images import read_label
    from wss.ops.largest_region import outside_largest
    from wss.stages.largest_region import groups, stacked
    from wss.store import SAMPLES, Store
    from wss.viz import indexed_png

    store = Store(samples, SAMPLES)
    background = store.meta["background"]
    for ids in groups(store, [name for name in names if name in store]):
        masks = {name: read_label(out / f"{name}.png") for name in ids}
        outside = outside_largest(stacked(store, ids, masks.__getitem__), background)
        for name, drop in zip(ids, outside, strict=True):
            if drop.any():
                labels = np.where(drop, np.uint8(background), masks[name])
                write_bytes(out / f"{name}.png", indexed_png(labels, palette), flush=False)


def _last_error(folder: Path) -> str | None:
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else None


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file, empty where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(Path(sys.argv[1])))
