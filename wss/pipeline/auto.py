"""The pipeline that `wss run auto` chooses: facts about a data set, and the rules that follow from them.

The rules are ``RULES``, read from the top: the first one that fits decides. Each names the measurements that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wss.datasets import DatasetSpec, Sample, open_source
from wss.errors import DataError
from wss.stages.samples import evenly

LOOKED_AT = 20
"""Training images that are read to learn what they look like."""

Annotation = Literal["scribbles", "masks", "boxes", "tags"]


@dataclass(frozen=True)
class Facts:
    """Facts that the rules look at.

    Attributes:
        images: Number of training images.
        annotation: What training images have; scribbles (and points) count before masks, masks before boxes, boxes before tags.
        annotated: Share of the images looked at that have it, 0..1.
        grey: All images looked at are grey.
        volumes: Images are slices of volumes.
        size: Median height and width in pixels.
        weights: File of DINOv2's weights, or None where none is at hand.
    """

    images: int
    annotation: Annotation
    annotated: float
    grey: bool
    volumes: bool
    size: tuple[int, int]
    weights: str | None

    def lines(self) -> list[str]:
        """One line for each fact, for people."""
        height, width = self.size
        return [
            f"{self.images} training images, {'slices of volumes, ' if self.volumes else ''}{'grey' if self.grey else 'colour'}, "
            f"about {width}x{height}",
            f"annotation: {self.annotation} on {100 * self.annotated:.0f} % of the images looked at",
            f"weights of DINOv2: {self.weights or 'none at hand'}",
        ]


@dataclass(frozen=True)
class Rule:
    """A pipeline and when it is chosen.

    Attributes:
        pipeline: Name of a shipped pipeline.
        when: In words.
        fits: The same as a function.
        why: What the choice rests on.
        changes: Gives the changes to the pipeline's stages that the facts ask for.
    """

    pipeline: str
    when: str
    fits: Callable[[Facts], bool]
    why: str
    changes: Callable[[Facts], dict[str, dict[str, Any]]] = lambda facts: {}


def _crop(facts: Facts) -> dict[str, dict[str, Any]]:
    """Crops for features: at most 256, and no larger than the images; 16 is the stride of the features."""
    side = max(16, min(256, max(facts.size) // 16 * 16))
    return {"features": {"weights": facts.weights}, "train": {"augment": {"crop": side}}}


def _slices(facts: Facts) -> dict[str, dict[str, Any]]:
    """Crops of nine tenths of the shorter side, at most 256; 16 is the stride of the deepest features."""
    side = max(32, min(256, int(0.9 * min(facts.size)) // 16 * 16))
    return {"train": {"augment": {"crop": side}}}


RULES = (
    Rule(
        "spml-tag",
        "image tags alone",
        lambda facts: facts.annotation == "tags",
        "the pipeline for tags; with boxes or scribbles masks would be better",
    ),
    Rule(
        "spml-box",
        "boxes without scribbles or masks",
        lambda facts: facts.annotation == "boxes",
        "the pipeline for boxes; with scribbles masks would be better",
    ),
    Rule(
        "dense",
        "masks without scribbles",
        lambda facts: facts.annotation == "masks",
        "masks tell more than any weak annotation",
    ),
    Rule(
        "dmpls-scans",
        "scribbles on slices of volumes",
        lambda facts: facts.volumes,
        "dmpls with only the largest region of foreground of each volume, where that is better on training images: on cardiac "
        "scans with human scribbles its mean Dice was .83 after 1,200 steps, without it .61 (docs/scans.md)",
        _slices,
    ),
    Rule(
        "dmpls",
        "scribbles on grey images",
        lambda facts: facts.grey,
        "on cardiac scans with human scribbles it had a mean Dice of .857 on patients not trained on, where pce had .825 and "
        "densecrf .839 (U-Net, 18 epochs, one seed)",
    ),
    Rule(
        "pce-features",
        "scribbles on colour images of at least 160 pixels, and weights of DINOv2 at hand",
        lambda facts: facts.weights is not None and min(facts.size) >= 160,
        "features of a self-supervised network tell objects apart that a network from scratch confuses (docs/features.md)",
        _crop,
    ),
    Rule(
        "pce",
        "scribbles on other colour images",
        lambda facts: True,
        "the baseline; on photographs no loss beside it has gained more than the dense CRF after it gains (docs/methods)",
    ),
)
"""Later rules hold where no earlier one fits."""


def look(dataset: DatasetSpec, weights: str | None) -> Facts:
    """Learn the facts of a data set from its lists and from some of its training images.

    Args:
        dataset: The data set.
        weights: File of DINOv2's weights, or None.

    Raises:
        DataError: It has no training images, or none of those looked at has an annotation.
    """
    source = open_source(dataset)
    ids = list(source.catalogue.splits.get("train", ()))
    if not ids:
        raise DataError("the data set has no images in split 'train'; `wss data info` lists the splits")
    samples = [source.read(image_id) for image_id in evenly(ids, LOOKED_AT)]
    shares = {name: float(np.mean([has(sample) for sample in samples])) for name, has in _HAS.items()}
    annotation = next((name for name, share in shares.items() if share > 0), None)
    if annotation is None:
        raise DataError(
            f"none of {len(samples)} training images has scribbles, masks, boxes or tags; `wss data check` tells what is missing"
        )
    sizes = np.array([sample.image.shape[:2] for sample in samples])
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    return Facts(
        images=len(ids),
        annotation=annotation,
        annotated=shares[annotation],
        grey=all(bool((sample.image == sample.image[..., :1]).all()) for sample in samples),
        volumes=bool(source.catalogue.volumes),
        size=(height, width),
        weights=weights,
    )


def choose(facts: Facts) -> tuple[Rule, dict[str, dict[str, Any]]]:
    """The first rule that fits, and the changes it makes to its pipeline."""
    rule = next(rule for rule in RULES if rule.fits(facts))
    return rule, rule.changes(facts)


def document(rule: Rule, facts: Facts, changes: Mapping[str, Mapping[str, Any]], budget: str | None) -> dict[str, Any]:
    """The choice as a pipeline file, which can be run and edited like any other."""
    timed = f" Steps fit into {budget} on the machine that chose them." if budget else ""
    return {
        "title": f"{rule.pipeline}, chosen by `wss run auto`",
        "description": f"Chosen for: {rule.when}. Why: {rule.why}. {'; '.join(facts.lines())}.{timed}",
        "extends": rule.pipeline,
        "stages": [{"id": name, "params": dict(params)} for name, params in changes.items()],
    }


def _some(values: Any) -> bool:
    return values is not None and len(values) > 0


def _scribbled(sample: Sample) -> bool:
    return _some(sample.strokes) or (sample.scribble is not None and bool((sample.scribble != 255).any()))


_HAS: dict[Annotation, Callable[[Sample], bool]] = {
    "scribbles": _scribbled,
    "masks": lambda sample: sample.mask is not None,
    "boxes": lambda sample: _some(sample.boxes),
    "tags": lambda sample: _some(sample.tags),
}
