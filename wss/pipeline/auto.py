"""The choice of a pipeline by `wss run auto`: facts about a data set, and rules that use them.

``RULES`` is read from the top; the first rule that fits decides. Each rule names the measurements behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wss.datasets import DatasetSpec, Sample, open_source
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.stages.splits import evenly

LOOKED_AT = 20
"""Number of training images that are read to find the facts."""

Annotation = Literal["scribbles", "masks", "boxes", "tags"]


@dataclass(frozen=True)
class Facts:
    """Facts about a data set that the rules use.

    Attributes:
        images: Number of training images.
        annotation: Annotation of the training images. If there are several kinds, the first of scribbles (and points), masks,
            boxes, tags.
        annotated: Fraction of the images read that have this annotation, 0..1.
        grey: True if all images read are grey.
        volumes: True if the images are slices of volumes.
        size: Median height and width in pixels.
        weights: File with DINOv2's weights, or None if there is none.
    """

    images: int
    annotation: Annotation
    annotated: float
    grey: bool
    volumes: bool
    size: tuple[int, int]
    weights: str | None

    def lines(self) -> list[str]:
        """One line of text per fact."""
        height, width = self.size
        return [
            f"{self.images} training images, {'slices of volumes, ' if self.volumes else ''}{'grey' if self.grey else 'colour'}, "
            f"about {width}x{height}",
            f"annotation: {self.annotation} on {100 * self.annotated:.0f} % of the images read",
            f"weights of DINOv2: {self.weights or 'not found'}",
        ]


@dataclass(frozen=True)
class Rule:
    """A pipeline and the condition under which it is chosen.

    Attributes:
        pipeline: Name of a shipped pipeline.
        when: The condition in words.
        fits: The condition as a function.
        why: Reason for the choice.
        changes: Returns changes to the parameters of the pipeline's stages, by stage id.
    """

    pipeline: str
    when: str
    fits: Callable[[Facts], bool]
    why: str
    changes: Callable[[Facts], dict[str, dict[str, Any]]] = lambda facts: {}


def _crop(facts: Facts) -> dict[str, dict[str, Any]]:
    """Crop size for stored features: at most 256 and at most the image's size, in multiples of 16, the stride of the features."""
    side = max(16, min(256, max(facts.size) // 16 * 16))
    return {"features": {"weights": facts.weights}, "train": {"augment": {"crop": side}}}


def _slices(facts: Facts) -> dict[str, dict[str, Any]]:
    """Crop size for slices: 0.9 of the shorter side, at most 256, in multiples of 16, the stride of the deepest features."""
    side = max(32, min(256, int(0.9 * min(facts.size)) // 16 * 16))
    return {"train": {"augment": {"crop": side}}}


RULES = (
    Rule(
        "spml-tag",
        "only image tags",
        lambda facts: facts.annotation == "tags",
        "the pipeline for tags; boxes or scribbles would give better predictions",
    ),
    Rule(
        "spml-box",
        "boxes without scribbles or masks",
        lambda facts: facts.annotation == "boxes",
        "the pipeline for boxes; scribbles would give better predictions",
    ),
    Rule(
        "dense",
        "masks without scribbles",
        lambda facts: facts.annotation == "masks",
        "masks contain more information than any weak annotation",
    ),
    Rule(
        "dmpls-scans",
        "scribbles on slices of volumes",
        lambda facts: facts.volumes,
        "dmpls; only the largest foreground region of each volume is kept if that is better on training images. On cardiac scans "
        "with human scribbles, the mean Dice was .83 with this step and .61 without it, after 1,200 steps (docs/scans.md)",
        _slices,
    ),
    Rule(
        "dmpls",
        "scribbles on grey images",
        lambda facts: facts.grey,
        "on cardiac scans with human scribbles, dmpls had a mean Dice of .857 on held-out patients; pce had .825 and densecrf "
        ".839 (U-Net, 18 epochs, one seed)",
    ),
    Rule(
        "pce-features",
        "scribbles on colour images of at least 160 pixels, and a file with the weights of DINOv2",
        lambda facts: facts.weights is not None and min(facts.size) >= 160,
        "features of a self-supervised network distinguish objects that a network trained from scratch confuses "
        "(docs/features.md)",
        _crop,
    ),
    Rule(
        "pce",
        "scribbles on other colour images",
        lambda facts: True,
        "the baseline; on photographs, no additional loss has gained more than a dense CRF after pce gains (docs/methods)",
    ),
)
"""Rules in order: the first rule that fits is used."""


def look(dataset: DatasetSpec, weights: str | None) -> Facts:
    """Find the facts of a data set from its lists and some of its training images.

    Args:
        dataset: The data set.
        weights: File with DINOv2's weights, or None.

    Raises:
        DataError: The data set has no training images, or none of the images read has an annotation.
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
            f"none of {len(samples)} training images has scribbles, masks, boxes or tags; `wss data check` shows what is missing"
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
    """The first rule that fits, and its changes to the pipeline."""
    rule = next(rule for rule in RULES if rule.fits(facts))
    return rule, rule.changes(facts)


def document(rule: Rule, facts: Facts, changes: Mapping[str, Mapping[str, Any]], budget: str | None) -> dict[str, Any]:
    """The choice as the content of a pipeline file, which can be run and edited like any other."""
    timed = f" The number of steps fits into {budget} on the machine that chose it." if budget else ""
    return {
        "title": f"{rule.pipeline}, chosen by `wss run auto`",
        "description": f"Chosen for: {rule.when}. Why: {rule.why}. {'; '.join(facts.lines())}.{timed}",
        "extends": rule.pipeline,
        "stages": [{"id": name, "params": dict(params)} for name, params in changes.items()],
    }


def _some(values: Any) -> bool:
    return values is not None and len(values) > 0


def _scribbled(sample: Sample) -> bool:
    return _some(sample.strokes) or (sample.scribble is not None and bool((sample.scribble != UNLABELLED).any()))


_HAS: dict[Annotation, Callable[[Sample], bool]] = {
    "scribbles": _scribbled,
    "masks": lambda sample: sample.mask is not None,
    "boxes": lambda sample: _some(sample.boxes),
    "tags": lambda sample: _some(sample.tags),
}
