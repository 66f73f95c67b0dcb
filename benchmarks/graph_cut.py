"""How good are masks that the graph cut makes from scribbles: the default energy, the published one, and no smoothness.

    python benchmarks/graph_cut.py --data DIR --out benchmarks/results/graph-cut.json

mIoU of the masks over all images. The sets are the training images of the embedded sample; the first 60 training photographs of
DIR/ccp_half (images/, masks/, train.txt), with simulated scribbles; and 100 slices spread over the training slices of DIR/acdc
(also scribbles/), with their scribbles. "later round" gives the graph cut the probabilities of a small classifier of pixels, by
colour, blurred colour and position, that is trained on the scribbles of the set: it stands in for the network of a later round.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timing
import torch

import wss.version
from wss.datasets.sample import SampleSource
from wss.metrics import confusion_matrix, miou
from wss.propagation import GraphCut
from wss.scribbles import image_seed, rasterise, simulate
from wss.superpixels import Felzenszwalb

Item = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Image (H,W,3), mask, scribble and superpixels (H,W)."""

FIRST = {
    "default": GraphCut(),
    "no smoothness": GraphCut(smoothness=0),
    "published": GraphCut(energy="published"),
    "published, with borders": GraphCut(energy="published", border=True),
    "bin by bin, sigma 1 of histograms that sum to 1 each": GraphCut(
        histograms="joint", sigma_colour=1 / 3, sigma_texture=1 / 2
    ),
    **{f"sigma_colour {s:g}": GraphCut(sigma_colour=s) for s in (0.5, 0.75, 1, 2, 4)},
    **{f"sigma_texture {s:g}": GraphCut(sigma_texture=s) for s in (0.5, 2, 10)},
    "without borders": GraphCut(border=False),
}
LATER = {
    "default": GraphCut(),
    "no smoothness": GraphCut(smoothness=0),
    "published": GraphCut(energy="published"),
    **{f"smoothness {s:g}": GraphCut(smoothness=s) for s in (0.3, 3, 10)},
    "sum, smoothness 100": GraphCut(unary="sum", smoothness=100),
}


def sample() -> Iterator[tuple[Any, Any, Any]]:
    source = SampleSource()
    for image_id in source.catalogue.splits["train"]:
        found = source.read(image_id)
        assert found.mask is not None and found.strokes is not None
        yield found.image, found.mask, rasterise(found.strokes, found.mask.shape)


def photographs(folder: Path) -> Iterator[tuple[Any, Any, Any]]:
    for name in (folder / "train.txt").read_text().split()[:60]:
        image = read(next((folder / "images").glob(f"{name}.*")), cv2.IMREAD_COLOR)[..., ::-1].copy()
        mask = read(folder / "masks" / f"{name}.png")
        yield image, mask, rasterise(simulate(mask, image_seed(0, name)), mask.shape)


def slices(folder: Path) -> Iterator[tuple[Any, Any, Any]]:
    names = (folder / "train.txt").read_text().split()
    for place in np.linspace(0, len(names) - 1, 100).astype(int):
        image, mask, scribble = (
            read(folder / kind / f"{names[place]}.png") for kind in ("images", "masks", "scribbles")
        )
        yield np.repeat(image[..., None], 3, 2), mask, scribble


def read(path: Path, mode: int = cv2.IMREAD_GRAYSCALE) -> Any:
    picture = cv2.imread(str(path), mode)
    if picture is None:
        raise SystemExit(f"{path} cannot be read")
    return picture


def score(items: list[Item], classes: int, method: GraphCut, probs: list[np.ndarray] | None = None) -> float:
    total = np.zeros((classes, classes), np.int64)
    for number, (image, mask, scribble, superpixels) in enumerate(items):
        extra = {} if probs is None else {"probs": probs[number]}
        labels = method.propagate(image, scribble, classes, superpixels=superpixels, **extra).labels
        known = labels != 255
        total += confusion_matrix(np.where(known, mask, 255), np.where(known, labels, 0), classes)
    return round(float(miou(total) or 0), 4)


def classified(items: list[Item], classes: int) -> list[np.ndarray]:
    """Probabilities (K,H,W) of every image, of a classifier of pixels that is trained on all scribbles."""
    torch.manual_seed(0)
    seen = [(_features(image)[scribble != 255], scribble[scribble != 255]) for image, _, scribble, _ in items]
    values = torch.from_numpy(np.concatenate([v for v, _ in seen]))
    labels = torch.from_numpy(np.concatenate([k for _, k in seen]).astype(np.int64))
    mean, deviation = values.mean(0), values.std(0) + 1e-6
    layers = [torch.nn.Linear(values.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(64, classes))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(1500):
        chosen = torch.randint(len(values), (1024,))
        loss = torch.nn.functional.cross_entropy(network((values[chosen] - mean) / deviation), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = [network((torch.from_numpy(_features(image)) - mean) / deviation) for image, *_ in items]
        return [scores.softmax(-1).permute(2, 0, 1).numpy() for scores in found]


def _features(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.float32) / 255
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    blurred = [cv2.GaussianBlur(values, (0, 0), s * min(height, width) / 96) for s in (2, 6, 16)]
    return np.concatenate([values, *blurred, (y / height)[..., None], (x / width)[..., None]], 2)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = {
        "sample": (sample(), 7),
        "ccp": (photographs(arguments.data / "ccp_half"), 11),
        "acdc": (slices(arguments.data / "acdc"), 4),
    }
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, (triples, classes) in sets.items():
        items = [(*triple, Felzenszwalb().segment(triple[0])) for triple in triples]
        probs = classified(items, classes)
        results[name] = {
            "first round": {title: score(items, classes, method) for title, method in FIRST.items()},
            "later round": {title: score(items, classes, method, probs) for title, method in LATER.items()},
        }
        for kind, rows in results[name].items():
            for title, value in rows.items():
                print(f"{name}, {kind}, {title}: {value:.4f}", flush=True)
    if arguments.out is None:
        return
    words = ["PATH" if Path(word).is_absolute() else word for word in sys.argv]
    record = {
        "command": " ".join(["python", *words]),
        "processor": timing.processor(),
        "date": date.today().isoformat(),
        "versions": {
            "wss": wss.version.__version__,
            "scikit-image": timing.version("scikit-image"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "settings": {"first round": _settings(FIRST), "later round": _settings(LATER)},
        "miou": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


def _settings(methods: dict[str, GraphCut]) -> dict[str, Any]:
    return {title: method.model_dump() for title, method in methods.items()}


if __name__ == "__main__":
    main()
