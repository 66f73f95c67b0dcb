"""Checks of a pipeline against its data sets before anything runs."""

from __future__ import annotations

from typing import Any

from wss.datasets import open_source
from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError, WssError
from wss.pipeline.spec import Node, Pipeline
from wss.stages.evaluate import check_masks
from wss.stages.prepare import PrepareParams, labelled
from wss.stages.samples import SamplesParams
from wss.stages.train import TrainParams, check_initial


def catalogues(pipeline: Pipeline) -> dict[str, Catalogue]:
    """Open the data sets of a pipeline.

    Returns:
        By id of each stage ``samples``, and of each stage with an input ``samples``, the catalogue of its data set.

    Raises:
        WssError: A data set is missing or damaged.
    """
    found: dict[str, Catalogue] = {}
    for node in pipeline.nodes.values():
        if isinstance(node.params, SamplesParams):
            found[node.id] = open_source(node.params.dataset).catalogue
        elif node.inputs.get("samples"):
            found[node.id] = found[node.inputs["samples"][0]]
    return found


def check_pipeline(pipeline: Pipeline, known: dict[str, Catalogue]) -> None:
    """Call the ``check`` of every stage.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id, see ``catalogues``.

    Raises:
        WssError: A stage's ``check`` refuses its parameters with this data set; the message names the stage.
    """
    for node in pipeline.nodes.values():
        if node.id in known:
            try:
                _check(node, pipeline, known[node.id])
            except WssError as error:
                raise type(error)(f"stage {_named(node)}: {error}") from error


def _check(node: Node, pipeline: Pipeline, catalogue: Catalogue) -> None:
    if node.stage.check is not None:
        node.stage.check(node.params, catalogue)
    if node.stage.name == "evaluate" and (params := _predicting(node, pipeline)) is not None:
        check_masks(catalogue, params.split, getattr(params, "limit", None))
    if isinstance(node.params, TrainParams) and (prepared := prepared_labels(node, pipeline)) is not None:
        _check_labels(prepared, node.params.split, catalogue)
        if prepared.fraction < 1 and prepared.split != node.params.split:
            raise UsageError(
                f"trains on split {node.params.split!r}, and its labels are the share {prepared.fraction:g} of split "
                f"{prepared.split!r}; give both the same split"
            )
    if isinstance(node.params, TrainParams) and node.inputs.get("initial"):
        before = pipeline.nodes[node.inputs["initial"][0]]
        if isinstance(before.params, TrainParams):
            check_initial(node.params, before.params, len(catalogue.classes), before.id)


def _check_labels(prepared: PrepareParams, split: str, catalogue: Catalogue) -> None:
    """Raise if no image to train on can have labels."""
    if not labelled(prepared, catalogue.splits.get(split, ()), catalogue):
        raise DataError(
            f"no image of split {split!r} has a file with its labels ({prepared.annotation}); `wss data info` shows what is "
            "labelled"
        )


def prepared_labels(node: Node, pipeline: Pipeline) -> PrepareParams | None:
    """Parameters of the stage ``prepare`` from whose labels those of a stage are made, or None."""
    while node.inputs.get("labels"):
        node = pipeline.nodes[node.inputs["labels"][0]]
        if isinstance(node.params, PrepareParams):
            return node.params
    return None


def _predicting(node: Node, pipeline: Pipeline) -> Any:
    """Parameters of the stage that chose the split of the predictions which a stage scores, or None."""
    while node.inputs.get("predictions"):
        node = pipeline.nodes[node.inputs["predictions"][0]]
        if hasattr(node.params, "split"):
            return node.params
    return None


def _named(node: Node) -> str:
    return f"{node.id!r}" if node.id == node.stage.name else f"{node.id!r} ({node.stage.name})"
