"""The pictures of the README and of the pages about methods, from the embedded sample data set.

Run ``python docs/make_pictures.py`` in the root of the repository. It trains five small networks in ``build/pictures``, which
takes some minutes on a CPU, and writes ``docs/pictures/*.png``. Finished trainings are not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wss.edges.build import DetectorParams, build_detector
from wss.methods.regularised_losses import DenseCRF, KernelCut, NormalizedCut
from wss.propagation import RandomWalk
from wss.scribbles import rasterise, unpack_strokes
from wss.stages.gradients import gradient
from wss.stages.probabilities import probabilities
from wss.store import Store
from wss.viz import overlay, scribble_overlay, signed_map

WORKSPACE = Path("build/pictures")
TARGET = Path(__file__).parent / "pictures"
SCALE, GAP, CAPTION = 2, 8, 24
TRAIN, VAL = "train-0023", "val-0022"
"""The images that are shown."""

MOST = 4
"""Pictures of a stage that are shown beside the image."""

Picture = NDArray[np.uint8]


def main() -> None:
    """Train what is missing, and write all pictures."""
    if not (WORKSPACE / "wss.yaml").exists():
        _wss("init", "--kind", "sample")
    pce = _stores("pce", "--set", "predict.split=train")
    samples, palette = pce["samples"], np.array(pce["samples"].meta["palette"], np.uint8)
    image = np.array(samples.get("image", TRAIN))
    scribble = rasterise(unpack_strokes(samples.get("strokes", TRAIN)), image.shape[:2])
    edges = build_detector(DetectorParams())(image)
    walked = RandomWalk().propagate(image, scribble, num_classes=len(palette), edges=edges).labels
    predicted = pce["predict"].get("labels", TRAIN)
    tiles = [
        image,
        scribble_overlay(image, scribble, palette),
        overlay(image, walked, palette, unpainted=0),
        overlay(image, predicted, palette, unpainted=0),
    ]
    _save("overview", tiles, ["image", "scribbles", "mask, without training", "prediction of a network"])

    val = _stores("pce")
    probs = probabilities(val["predict"], VAL)
    segments = torch.from_numpy(probs / probs.sum(0))[None]
    seen = np.array(samples.get("image", VAL))
    rgb = torch.from_numpy(seen).permute(2, 0, 1)[None].float()
    chosen = int(np.bincount(probs.argmax(0).ravel())[1:].argmax()) + 1
    name = samples.meta["classes"][chosen]
    losses = {"densecrf": DenseCRF(), "ncut": NormalizedCut(), "kernelcut": KernelCut()}
    maps = [signed_map(gradient(loss, segments, rgb, "score")[0, chosen].numpy()) for loss in losses.values()]
    shades = np.repeat(np.rint(255 * probs[chosen]).astype(np.uint8)[..., None], 3, axis=2)
    _save("regularised-losses", [seen, shades, *maps], ["image", f"probability of {name}", *losses])

    for pipeline, stage, image_id, name in (
        ("rawks", "walk-pictures-train", None, "rawks"),
        ("bpg", "boundary-pictures", None, "bpg"),
        ("rw-ss", "eigenspace", None, "rw-ss"),
    ):
        pictures = _stores(pipeline)[stage]
        image_id = image_id or pictures.ids[0]
        shown = [np.array(samples.get("image", image_id)), *pictures.get("tiles", image_id)[:MOST]]
        _save(name, shown, ["image", *pictures.meta["captions"][:MOST]])

    spml = _stores("spml-scribble")
    ids = spml["superpixels"].get("superpixels", TRAIN)
    borders = image.copy()
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    borders[edge] = 255
    spread = overlay(image, spml["similarity-walk"].get("labels", TRAIN), palette, unpainted=0)
    final = overlay(seen, spml["predict"].get("labels", VAL), palette, unpainted=0)
    _save(
        "spml",
        [scribble_overlay(image, scribble, palette), borders, spread, final],
        ["scribbles", "superpixels", "pseudo-labels", "prediction (another image)"],
    )


def _wss(*words: str) -> Any:
    command = [sys.executable, "-m", "wss", *words, "-w", str(WORKSPACE), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else None


def _stores(pipeline: str, *options: str) -> dict[str, Store]:
    """The results of a pipeline by the ids of its stages."""
    outcomes = _wss("run", pipeline, *options)
    return {outcome["id"]: Store(Path(outcome["store"])) for outcome in outcomes if outcome.get("store")}


def _save(name: str, tiles: Sequence[Picture], captions: Sequence[str]) -> None:
    """Write tiles side by side, enlarged, each with a caption above it."""
    height, width = (SCALE * side for side in tiles[0].shape[:2])
    sheet = Image.new("RGB", (len(tiles) * (width + GAP) - GAP, CAPTION + height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left = number * (width + GAP)
        draw.text((left + width / 2, CAPTION / 2), caption, "black", font, anchor="mm")
        resample = Image.Resampling.BICUBIC if number == 0 else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(tile).resize((width, height), resample), (left, CAPTION))
    TARGET.mkdir(exist_ok=True)
    sheet.save(TARGET / f"{name}.png", optimize=True)
    print(TARGET / f"{name}.png")


if __name__ == "__main__":
    main()
