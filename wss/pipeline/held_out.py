"""Pipelines on data sets without held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wss.datasets.source import Catalogue
from wss.pipeline.spec import Node, Pipeline
from wss.stages.train_params import TrainParams

HELD_OUT = "val"
"""The split that shipped pipelines predict and score."""


def adapted(pipeline: Pipeline, known: Mapping[str, Catalogue]) -> tuple[Pipeline, list[str]]:
    """Adapt a pipeline to a data set without masks and without images in the split ``val``.

    Such a data set cannot be scored, so held-out images have no use. Its training images are predicted instead and shown in the
    report. If training images have masks, the pipeline is not changed, because scores of training images must not replace scores
    of held-out images. ``check_pipeline`` then refuses the pipeline.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id, see ``catalogues``.

    Returns:
        The pipeline, and messages about the changes.
    """
    trained = next((n.params.split for n in pipeline.nodes.values() if isinstance(n.params, TrainParams)), None)
    if trained is None:
        return pipeline, []
    chosen = {node.id for node in pipeline.nodes.values() if node.id in known and _moves(node, trained, known[node.id])}
    if not chosen:
        return pipeline, []
    nodes = {
        name: replace(node, params=node.params.model_copy(update={"split": trained})) if name in chosen else node
        for name, node in pipeline.nodes.items()
    }
    note = (
        f"the data set has no images in split {HELD_OUT!r}, and no image of {trained!r} has a mask: the images of {trained!r} "
        f"are used instead ({', '.join(name for name in nodes if name in chosen)})"
    )
    return replace(pipeline, nodes=nodes), [note]


def _moves(node: Node, trained: str, catalogue: Catalogue) -> bool:
    """True if a stage works on the split ``val``, this split has no images, and no training image has a mask."""
    images = catalogue.splits.get(trained, ())
    return (
        getattr(node.params, "split", None) == HELD_OUT
        and not isinstance(node.params, TrainParams)
        and not catalogue.splits.get(HELD_OUT)
        and bool(images)
        and set(images) <= catalogue.unmasked
    )
