"""A trial of ``wss draw`` as a new user would do it: ten strokes on each of five images, masks at once, then a training.

    python benchmarks/draw_trial.py --data DIR --out benchmarks/results/draw-trial.json

For each of ACDC, CCP and CamVid, ten strokes are drawn on each of five training images, spread over the list. All are
simulated from masks: first the longest of each class, then one after another in the largest region that the mask on the screen
has wrong. They are drawn through HTTP. The masks that the server answers are scored against the truth, beside those that the
same walk makes from the data set's own scribbles: those of people for ACDC, those of `wss data simulate` for the others. Then
`pce` trains on both for the same number of steps, as a training of the server does, but not for a time, so that the machine does
not decide how long. Both networks are scored on further images with masks, none of which was drawn on.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
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
from wss.scribbles.rasters import components

STROKES, IMAGES, HELD_OUT = 10, 5, 12


class DataSet(NamedTuple):
    """The files of a data set.

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


def first_strokes(mask: NDArray[np.uint8], name: str) -> list[Stroke]:
    """The longest stroke of each class, the largest classes first; at most ten."""
    longest: dict[int, Stroke] = {}
    for stroke in sorted(simulate(mask, image_seed(0, name)), key=lambda s: -len(s.points)):
        longest.setdefault(stroke.label, stroke)
    areas = np.bincount(mask.ravel(), minlength=256)
    return sorted(longest.values(), key=lambda s: -areas[s.label])[:STROKES]


def next_stroke(mask: NDArray[np.uint8], shown: NDArray[np.uint8], name: str, number: int) -> Stroke | None:
    """A stroke in the largest region that the mask on the screen has wrong; None: there is none worth a stroke."""
    wrong = np.where((shown != mask) & (mask != 255), mask, 255).astype(np.uint8)
    regions = sorted(components(wrong), key=lambda region: -int(region.inside.sum()))
    if not regions:
        return None
    only = np.full_like(mask, 255)
    only[regions[0].window][regions[0].inside] = regions[0].label
    return simulate(only, image_seed(number, name))[0]


def trial(name: str, data: DataSet, folder: Path, steps: int) -> dict[str, Any]:
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
        (root / "train.txt").write_text("".join(f"{path.stem}\n" for path in train))
        (root / "val.txt").write_text("".join(f"{path.stem}\n" for path in val))
        for path in val:
            shutil.copyfile(data.mask(path), root / f"masks/{path.stem}.png")
    result: dict[str, Any] = {"data": name, "images": IMAGES, "strokes": STROKES, "held_out": HELD_OUT, "steps": steps}
    with DrawClient(drawn) as client:
        answers, begun, pixels = {}, {}, []
        start = time.perf_counter()
        for path in train:
            image, mask = client.ids[path.stem], np.array(Image.open(data.mask(path)))
            strokes = first_strokes(mask, path.stem)
            client.draw(image, strokes)
            answers[path.stem] = client.propagate(image, "random-walk")[-1]
            begun[path.stem] = _shown(answers[path.stem])
            while len(strokes) < STROKES:
                stroke = next_stroke(mask, _shown(answers[path.stem]), path.stem, len(strokes))
                if stroke is None:
                    break
                strokes.append(stroke)
                client.draw(image, [stroke])
                answers[path.stem] = client.propagate(image, "random-walk")[-1]
            pixels.append((rasterise(strokes, Image.open(path).size[::-1]) != 255).mean())
        result["seconds_of_answers"] = round(time.perf_counter() - start, 1)
        found = {name: _shown(answer) for name, answer in answers.items()}
        result["drawn"] = {
            "pixels_percent": _percent(float(np.mean(pixels))),
            "mask_miou_of_first_strokes": _score(begun, train, data),
            "mask_miou": _score(found, train, data),
        }
    scribbles = {}
    for path in train:
        mask = np.array(Image.open(data.mask(path)))
        if data.scribble is None:
            scribbles[path.stem] = rasterise(simulate(mask, image_seed(0, path.stem)), (mask.shape[0], mask.shape[1]))
        else:
            scribbles[path.stem] = np.array(Image.open(data.scribble(path)))
        write_label(own / f"scribbles/{path.stem}.png", scribbles[path.stem], colour_map(len(data.classes)))
    found = {}
    for path in train:
        out = folder / "masks" / f"{path.stem}.png"
        line = ("propagate", path, "--scribbles", own / f"scribbles/{path.stem}.png", "--method", "random-walk")
        _wss(*line, "--edges", "embedded", "--set", "propagate.method.nodes=45000", "--out", out)
        found[path.stem] = np.array(Image.open(out))
    networks = []
    for root in (drawn, own):
        work = folder / f"{root.name}-work"
        _wss("init", "--kind", "folder", "--root", root, "--workspace", work)
        length = ("--set", f"train.phases.0.steps={steps}", "--set", "train.augment.crop=128")
        _wss("run", "pce", "--workspace", work, *length)
        networks.append(_percent(json.loads((work / "metrics.json").read_text())["miou"]))
    result["drawn"]["network_miou"] = networks[0]
    coverage = float(np.mean([(labels != 255).mean() for labels in scribbles.values()]))
    result["own_scribbles"] = {
        "pixels_percent": _percent(coverage),
        "mask_miou": _score(found, train, data),
        "network_miou": networks[1],
    }
    return result


def _shown(answer: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the labels of an answer."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))


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
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data DIR is needed (or WSS_DATA)")
    note = (
        "Percent. Networks of five images and few steps: the two annotations can be compared, not how good either gets."
    )
    results = []
    for name in options.sets:
        place, read = SETS[name]
        with tempfile.TemporaryDirectory(prefix="wss-trial-") as folder:
            results.append(trial(name, read(Path(options.data) / place), Path(folder), options.steps))
        print(results[-1], flush=True)
        report(options.out, results, note)


if __name__ == "__main__":
    main()
