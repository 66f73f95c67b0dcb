"""A trial of ``wss draw`` as a new user would do it: ten strokes on each of five images, masks at once, then a training.

    python benchmarks/draw_trial.py --data DIR --out benchmarks/results/draw-trial.json

For each of ACDC, CCP and CamVid: five training images spread over the list get ten strokes each, simulated from their masks
(classes in turn, longest strokes first; images with fewer get further ones of other seeds). They are drawn through HTTP. The
masks that the server answers are scored against the truth, beside those that the same walk makes from the data set's own
scribbles: those of people for ACDC, those of `wss data simulate` for the others. Then the server trains by ``auto`` for
``--budget`` seconds, and the same pipeline with the same number of steps trains on the own scribbles of the same five images.
Both are scored on further images with masks, none of which was drawn on.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from draw_client import DrawClient
from numpy.typing import NDArray
from PIL import Image
from timing import report

from wss.datasets.cards import colour_map
from wss.datasets.convert import write_label
from wss.metrics import confusion_matrix, miou
from wss.scribbles import Stroke, image_seed, rasterise, simulate

STROKES, IMAGES, HELD_OUT = 10, 5, 12


class DataSet(NamedTuple):
    """Where a data set's files are.

    Attributes:
        classes: Names.
        train: Images to draw on.
        val: Images to score.
        mask: The mask of an image.
        scribble: The scribbles that people drew, or None.
    """

    classes: list[str]
    train: list[Path]
    val: list[Path]
    mask: Callable[[Path], Path]
    scribble: Callable[[Path], Path] | None


def acdc(root: Path) -> DataSet:
    """ACDC: cardiac scans with scribbles of people."""
    lists = [
        [root / f"images/{name}.png" for name in (root / f"{s}.txt").read_text().split()] for s in ("train", "val")
    ]
    names = ["background", "right ventricle", "myocardium", "left ventricle"]
    return DataSet(names, *lists, lambda p: root / f"masks/{p.stem}.png", lambda p: root / f"scribbles/{p.stem}.png")


def ccp(root: Path) -> DataSet:
    """CCP: street photographs."""
    lists = [
        [root / f"images/{name}.jpg" for name in (root / f"{s}.txt").read_text().split()] for s in ("train", "val")
    ]
    return DataSet(_names(root / "classes.txt"), *lists, lambda p: root / f"masks/{p.stem}.png", None)


def camvid(root: Path) -> DataSet:
    """CamVid: driving."""
    lists = [sorted((root / split).glob("*.jpg")) for split in ("train", "val")]
    return DataSet(_names(root / "classes.txt"), *lists, lambda p: root / f"{p.parent.name}annot/{p.stem}.png", None)


def ten_strokes(mask: NDArray[np.uint8], name: str) -> list[Stroke]:
    """Ten strokes as a person might choose them: each class in turn, its longest first."""
    chosen: list[Stroke] = []
    for attempt in range(20):
        by_class: dict[int, list[Stroke]] = {}
        for stroke in sorted(simulate(mask, image_seed(attempt, name)), key=lambda s: -len(s.points)):
            by_class.setdefault(stroke.label, []).append(stroke)
        while any(by_class.values()) and len(chosen) < STROKES:
            chosen += [strokes.pop(0) for strokes in by_class.values() if strokes]
        if len(chosen) >= STROKES:
            break
    return chosen[:STROKES]


def trial(name: str, data: DataSet, folder: Path, budget: int) -> dict[str, Any]:
    """Draw, propagate, train, and the same from the data set's own scribbles."""
    train = [data.train[i * len(data.train) // IMAGES] for i in range(IMAGES)]
    val = [data.val[i * len(data.val) // HELD_OUT] for i in range(HELD_OUT)]
    drawn, own = folder / "drawn", folder / "own"
    for root in (drawn, own):
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        (root / "classes.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(data.classes)))
        for path in (*train, *val):
            shutil.copyfile(path, root / "images" / path.name)
        for path in val:
            shutil.copyfile(data.mask(path), root / f"masks/{path.stem}.png")
    result: dict[str, Any] = {"data": name, "images": IMAGES, "strokes": STROKES, "held_out": HELD_OUT}
    with DrawClient(drawn) as client:
        answers, pixels = {}, []
        start = time.perf_counter()
        for path in train:
            strokes = ten_strokes(np.array(Image.open(data.mask(path))), path.stem)
            client.draw(client.ids[path.stem], strokes)
            answers[path.stem] = client.propagate(client.ids[path.stem], "random-walk")[-1]
            pixels.append((rasterise(strokes, Image.open(path).size[::-1]) != 255).mean())
        result["seconds_of_answers"] = round(time.perf_counter() - start, 1)
        found = {n: np.array(Image.open(io.BytesIO(base64.b64decode(a["mask"])))) for n, a in answers.items()}
        result["drawn"] = {"pixels_percent": _percent(float(np.mean(pixels))), "mask_miou": _score(found, train, data)}
        training = {"state": "none"}
        while training["state"] != "done":
            training = client.json("POST", "/api/training", {"pipeline": "auto", "budget_s": budget})
            while training["state"] == "running":
                time.sleep(1)
                training = client.json("GET", "/api/training")
            if training["state"] != "done" and "give more time" not in str(training["error"]):
                raise RuntimeError(f"{name}: {training}")
            result["budget_s"], budget = budget, 2 * budget
        steps = int(training["curve"][-1][0])
        result["drawn"]["network_miou"] = _percent(training["scores"]["miou"])
    pipeline = str(re.search(r"extends: (\S+)", (drawn / "workspace/auto.yaml").read_text())[1])  # type: ignore[index]
    result |= {"pipeline": pipeline, "steps": steps}
    scribbles = {}
    for path in train:
        mask = np.array(Image.open(data.mask(path)))
        if data.scribble is None:
            scribbles[path.stem] = rasterise(simulate(mask, image_seed(0, path.stem)), (mask.shape[0], mask.shape[1]))
        else:
            scribbles[path.stem] = np.array(Image.open(data.scribble(path)))
        write_label(own / f"scribbles/{path.stem}.png", scribbles[path.stem], colour_map(len(data.classes)))
    (own / "train.txt").write_text("".join(f"{path.stem}\n" for path in train))
    (own / "val.txt").write_text("".join(f"{path.stem}\n" for path in val))
    found = {}
    for path in train:
        out = folder / "masks" / f"{path.stem}.png"
        line = ("propagate", path, "--scribbles", own / f"scribbles/{path.stem}.png", "--method", "random-walk")
        _wss(*line, "--edges", "embedded", "--set", "propagate.method.nodes=45000", "--out", out)
        found[path.stem] = np.array(Image.open(out))
    work = folder / "work"
    _wss("init", "--kind", "folder", "--root", own, "--workspace", work)
    _wss("run", pipeline, "--workspace", work, "--set", f"train.phases.0.steps={steps}")
    coverage = float(np.mean([(labels != 255).mean() for labels in scribbles.values()]))
    result["own_scribbles"] = {
        "pixels_percent": _percent(coverage),
        "mask_miou": _score(found, train, data),
        "network_miou": _percent(json.loads((work / "metrics.json").read_text())["miou"]),
    }
    return result


def _score(found: dict[str, NDArray[Any]], paths: list[Path], data: DataSet) -> float:
    """Return the mIoU over all images together, in percent."""
    count = len(data.classes)
    total = np.zeros((count, count), np.int64)
    for path in paths:
        truth, labels = np.array(Image.open(data.mask(path))), found[path.stem]
        total += confusion_matrix(np.where(labels == 255, 255, truth), np.where(labels == 255, 0, labels), count)
    return _percent(miou(total))


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _names(path: Path) -> list[str]:
    from wss.datasets.classlist import read_classes

    return list(read_classes(path).names)


def _wss(*line: object) -> None:
    subprocess.run([sys.executable, "-m", "wss", *map(str, line)], check=True, capture_output=True)


SETS = {"acdc": ("acdc", acdc), "ccp": ("ccp_half", ccp), "camvid": ("camvid", camvid)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("WSS_DATA"), help="folder of acdc, ccp_half, camvid"
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--budget", type=int, default=60, help="seconds of the server's training")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data DIR is needed (or WSS_DATA)")
    note = "Percent. Networks of five images and a minute: the two annotations can be compared, not how good either gets."
    results = []
    for name in options.sets:
        place, read = SETS[name]
        with tempfile.TemporaryDirectory(prefix="wss-trial-") as folder:
            results.append(trial(name, read(Path(options.data) / place), Path(folder), options.budget))
        print(results[-1], flush=True)
        report(options.out, results, note)


if __name__ == "__main__":
    main()
