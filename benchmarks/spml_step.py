"""What the contrastive part of SPML adds to a training step: k-means, segments, three relations and their gradients.

    python benchmarks/spml_step.py --sizes 257x257 --images 2 --out benchmarks/results/spml-step-NAME.json

Forward and backward of the network alone, from a fixed gradient of its embedding, against forward and backward of the whole
step without the classifier. The memory bank holds so many copies of the batch's segments that a pixel meets as many as in a
step on 12 images beside a bank of two such batches, as published. Superpixels are Felzenszwalb's, scribbles four strokes an
image. Variants take turns within each repeat, in one process; ratios are of CPU time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import timing
import torch
from skimage.segmentation import felzenszwalb
from torch import Tensor

from wss.methods import Batch, Spml
from wss.networks import NetworkSpec

CLASSES = 21
PUBLISHED_BATCH, PUBLISHED_BANK = 12, 2
TERMS = {"similarity": 0.1, "annotation": 1.0, "cooccurrence": 0.5}
NETWORKS = {
    "deeplab-v2, ResNet-101": NetworkSpec(name="deeplab-v2", backbone="resnet101"),
    "deeplab-v3plus, MobileNetV2": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
    "unet": NetworkSpec(name="unet"),
}


def scribbled(count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels (B,H,W) with four strokes, and the classes that they have, bool (B,K)."""
    labels = torch.full((count, height, width), 255)
    tags = torch.zeros(count, CLASSES, dtype=torch.bool)
    for image in range(count):
        for stroke, k in enumerate([0, *(1 + torch.randperm(CLASSES - 1, generator=generator)[:3]).tolist()]):
            top, left = height * (1 + 4 * (stroke // 2)) // 8, width * (1 + 4 * (stroke % 2)) // 8
            labels[image, top : top + 5, left : left + width // 4] = k
            tags[image, k] = True
    return labels, tags


def first_batch(images: list[Tensor]) -> Batch:
    regions = [felzenszwalb(image.permute(1, 2, 0).numpy(), scale=200, sigma=0.8, min_size=100) for image in images]
    superpixels = torch.from_numpy(np.stack(regions)).long()
    labels, tags = scribbled(*superpixels.shape, torch.Generator().manual_seed(0))
    valid = torch.ones_like(labels, dtype=torch.bool)
    return Batch(torch.stack(images).float(), labels, valid, {"superpixels": superpixels}, tags, 0)


def alone(model: Any, batch: Batch) -> None:
    embedding = model(batch.rgb, embedded=True)
    embedding.backward(torch.full_like(embedding, 1e-3))


def whole(method: Spml, model: Any, batch: Batch) -> None:
    found = method.losses(model, batch, TERMS)
    sum((weight * found[term] for term, weight in TERMS.items()), torch.zeros(())).backward()


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    images = timing.pictures(options.data, options.images, height, width)
    batch = first_batch(images)
    copies = -(-PUBLISHED_BATCH * (1 + PUBLISHED_BANK) // len(images)) - 1
    method = Spml(bank_batches=copies)
    timings = timing.Timings()
    shares: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for name, spec in NETWORKS.items():
        torch.manual_seed(0)
        model: Any = method.build(spec, CLASSES).train()
        whole(method, model, batch)
        for _ in range(copies):
            model.bank.push(**model.bank.state[0])
        for _ in range(options.repeats):
            timings.measure(f"{name}: network", alone, model, batch)
            timings.measure(f"{name}: step", whole, method, model, batch)
        ratio = timings.ratio(f"{name}: step", f"{name}: network")
        shares[f"{name}: contrastive part / network"] = None if ratio is None else round(ratio - 1, 2)
        facts[name] = {"segments": sum(len(kept["prototypes"]) for kept in model.bank.state)}
    return {"times": timings.rows(), "ratios": shares, "bank": facts}


def main() -> None:
    assert __doc__
    timing.run(
        __doc__,
        measure,
        "float32, forward and backward; medians over repeats; ratios are of CPU time",
        sizes=["257x257"],
        threads=[1],
    )


if __name__ == "__main__":
    main()
