"""Checks of a pipeline against its data sets, before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wss.datasets import open_source
from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError, WssError
from wss.pipeline.factors import Level
from wss.pipeline.probabilities import check_probabilities
from wss.pipeline.reports import check_report
from wss.pipeline.spec import Node, Pipeline
from wss.stages.evaluate import check_masks
from wss.stages.features import FeaturesParams
from wss.stages.label_quality import LabelQualityParams
from wss.stages.prepare import PrepareParams, labelled
from wss.stages.samples import SamplesParams, stored_catalogue
from wss.stages.stored_training import check_alike, check_stored
from wss.stages.superpixel_bound import SuperpixelBoundParams
from wss.stages.train_initial import check_initial
from wss.stages.train_params import TrainParams
from wss.store import Store

_REMEDIES = {
    "box": "list boxes in boxes.csv, or add masks to draw boxes from",
    "tag": "list tags in tags.csv, or add masks, boxes or scribbles",
    "scribble": "add scribbles, or masks to draw scribbles from",
    "point": "add points or scribbles, or masks to draw points from",
    "mask": "add masks",
}
"""Remedy in error messages, by missing annotation."""


def catalogues(pipeline: Pipeline, given: Mapping[str, Store] | None = None) -> dict[str, Catalogue]:
    """Open the data sets of a pipeline.

    Args:
        pipeline: The stages.
        given: Stores of stages ``samples`` by id. Their data sets are not opened.

    Returns:
        Catalogue of the data set, by stage id, for each stage ``samples`` and each stage with an input ``samples``.

    Raises:
        WssError: A data set is missing or damaged.
    """
    by_stage: dict[str, Catalogue] = {}
    for node in pipeline.nodes.values():
        if given is not None and node.id in given:
            by_stage[node.id] = stored_catalogue(given[node.id])
        elif isinstance(node.params, SamplesParams):
            by_stage[node.id] = open_source(node.params.dataset).catalogue
        elif node.inputs.get("samples"):
            by_stage[node.id] = by_stage[node.inputs["samples"][0]]
    return by_stage


def check_pipeline(pipeline: Pipeline, known: dict[str, Catalogue]) -> list[str]:
    """Call the ``check`` of every stage.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id, see ``catalogues``.

    Returns:
        Messages about results that will be left out, from the data set's list of files.

    Raises:
        WssError: A stage's ``check`` refuses its parameters with this data set; the message names the stage. Or a training
            needs masks that the data set does not have; the message names the rows of a study to leave out.
    """
    bare: dict[str, str] = {}
    for node in pipeline.nodes.values():
        try:
            check_probabilities(node, pipeline.nodes)
            if node.id in known:
                _check(node, pipeline, known[node.id], bare)
        except WssError as error:
            raise type(error)(f"stage {_named(node)}: {error}") from error
    if bare:
        raise DataError(_without_masks(pipeline, bare))
    return left_out(pipeline, known)


def _check(node: Node, pipeline: Pipeline, catalogue: Catalogue, bare: dict[str, str]) -> None:
    """Raise for certain errors of a stage. Trainings that lack masks are added to ``bare``, with their split."""
    check_report(node, pipeline)
    if node.stage.check is not None:
        node.stage.check(node.params, catalogue)
    if isinstance(node.params, TrainParams) and (prepared := prepared_labels(node, pipeline)) is not None:
        _check_labels(node, node.params.split, pipeline, prepared, catalogue, bare)
        if prepared.fraction < 1 and prepared.split != node.params.split:
            raise UsageError(
                f"trains on split {node.params.split!r}, but `prepare` keeps labels for the fraction {prepared.fraction:g} of "
                f"split {prepared.split!r}; give both stages the same split"
            )
    if isinstance(node.params, TrainParams) and node.inputs.get("initial"):
        before = pipeline.nodes[node.inputs["initial"][0]]
        if isinstance(before.params, TrainParams):
            check_initial(node.params, before.params, len(catalogue.classes), before.id)
    if isinstance(node.params, TrainParams) and node.inputs.get("features"):
        check_stored(node.params)
        made = pipeline.nodes[node.inputs["features"][0]].params
        if isinstance(made, FeaturesParams):
            check_alike(made.network, node.params.network)


def _check_labels(
    node: Node, split: str, pipeline: Pipeline, prepared: PrepareParams, catalogue: Catalogue, bare: dict[str, str]
) -> None:
    """Raise if no training image can have labels. If the reason is missing masks, add the training to ``bare`` instead."""
    ids = catalogue.splits.get(split, ())
    from_masks = prepared.annotation == "mask" or _bounded(node, pipeline)
    if from_masks and set(ids) <= catalogue.unmasked:
        bare[node.id] = split
    elif not labelled(prepared, ids, catalogue):
        raise DataError(
            f"no image of split {split!r} has a file with its labels ({prepared.annotation}); "
            f"{_REMEDIES.get(prepared.annotation, 'add some')}, or see `wss data info` for what is labelled"
        )


def _bounded(node: Node, pipeline: Pipeline) -> bool:
    """True if a stage ``superpixel-bound`` makes the labels of a training."""
    while node.inputs.get("labels"):
        node = pipeline.nodes[node.inputs["labels"][0]]
        if isinstance(node.params, SuperpixelBoundParams):
            return True
    return False


def _without_masks(pipeline: Pipeline, bare: Mapping[str, str]) -> str:
    """Error message for trainings that lack masks."""
    names, splits = _shortened(list(bare)), " and ".join(repr(split) for split in dict.fromkeys(bare.values()))
    trains = "trains" if len(bare) == 1 else "train"
    problem = f"{names} {trains} on masks, and no image of split {splits} has a file with its labels (mask)"
    choice = _remedy(pipeline, bare)
    if choice is not None:
        name, rows, kept = choice
        lost = f"row {rows[0]}" if len(rows) == 1 else f"rows {', '.join(map(str, rows))}"
        return f"{problem}; leave out the {lost}: `--set factors.{name}=[{','.join(map(str, kept))}]`"
    if pipeline.levels:
        return f"{problem}; every row of {pipeline.name} needs masks: add masks of images of split {splits}"
    return (
        f"{problem}; add masks of images of split {splits}, or choose a pipeline for the labels that you have "
        "(`wss pipelines` lists pipelines; `wss run pce` learns from scribbles)"
    )


def _remedy(pipeline: Pipeline, bare: Mapping[str, str]) -> tuple[str, list[Level], list[Level]] | None:
    """A choice of levels of one factor that removes the trainings in ``bare``.

    Returns:
        The name of the factor, the levels to leave out, and the levels to keep. If several factors allow such a choice, the
        one with the fewest levels to keep. None if no factor does.
    """
    choices = []
    for name, levels in pipeline.levels.items():
        lost = [
            n for n in levels if _still(pipeline, name, [other for other in levels if other != n], bare) < set(bare)
        ]
        kept = [level for level in levels if level not in lost]
        if lost and kept and not _still(pipeline, name, kept, bare):
            choices.append((name, lost, kept))
    return min(choices, key=lambda choice: len(choice[2]), default=None)


def _still(pipeline: Pipeline, factor: str, levels: Sequence[Level], bare: Mapping[str, str]) -> set[str]:
    """Trainings of ``bare`` that remain with these levels of a factor; all if these levels do not give a valid pipeline."""
    if pipeline.choose is None or not levels:
        return set(bare)
    try:
        return set(bare) & set(pipeline.choose({factor: levels}).nodes)
    except UsageError:
        return set(bare)


def left_out(pipeline: Pipeline, known: Mapping[str, Catalogue]) -> list[str]:
    """List the images and results that stages will leave out because masks are missing. Uses only the data set's list of files.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id.

    Returns:
        One line of text per reason, with the stages.
    """
    stages: dict[str, list[str]] = {}
    for node in pipeline.nodes.values():
        compared = _compared(node, pipeline)
        if compared is None:
            continue
        split, limit, what = compared
        ids = known[node.id].splits.get(split, ())[:limit]
        without = [i for i in ids if i in known[node.id].unmasked]
        if without:
            which = (
                f"no image of split {split!r} has a mask"
                if len(without) == len(ids)
                else (f"{len(without)} of {len(ids)} images of split {split!r} have no mask, {without[0]!r} first")
            )
            gone = what if len(without) == len(ids) else f"these images in {what}"
            stages.setdefault(f"{which}: left out are {gone}", []).append(node.id)
    return [f"{reason} ({_shortened(names)})" for reason, names in stages.items()]


def _compared(node: Node, pipeline: Pipeline) -> tuple[str, int | None, str] | None:
    """Split whose masks a stage uses for comparison, maximum number of images, and name of the result; None for other stages."""
    if node.stage.name == "evaluate" and (params := _predicting(node, pipeline)) is not None:
        return params.split, getattr(params, "limit", None), "scores"
    if isinstance(node.params, LabelQualityParams):
        return node.params.split, None, "scores of labels"
    if isinstance(node.params, SuperpixelBoundParams):
        return node.params.split, None, "best labels of superpixels"
    return None


def require_scores(pipeline: Pipeline, known: Mapping[str, Catalogue]) -> None:
    """Check that the stages ``evaluate`` can score every image, using only the data set's list of files.

    Raises:
        DataError: An image has no mask.
    """
    for node in pipeline.nodes.values():
        if node.stage.name == "evaluate" and (params := _predicting(node, pipeline)) is not None:
            check_masks(known[node.id], params.split, getattr(params, "limit", None))


def _shortened(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def prepared_labels(node: Node, pipeline: Pipeline) -> PrepareParams | None:
    """Parameters of the stage ``prepare`` at the start of the chain of a stage's labels, or None."""
    while node.inputs.get("labels"):
        node = pipeline.nodes[node.inputs["labels"][0]]
        if isinstance(node.params, PrepareParams):
            return node.params
    return None


def _predicting(node: Node, pipeline: Pipeline) -> Any:
    """Parameters of the stage that set the split of the predictions that ``node`` scores, or None."""
    while node.inputs.get("predictions"):
        node = pipeline.nodes[node.inputs["predictions"][0]]
        if hasattr(node.params, "split"):
            return node.params
    return None


def _named(node: Node) -> str:
    return f"{node.id!r}" if node.id == node.stage.name else f"{node.id!r} ({node.stage.name})"
