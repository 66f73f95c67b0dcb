"""The choice of `wss predict` to keep all regions of foreground or the largest alone: as asked, else as the pipeline decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wss.errors import UsageError, WssError
from wss.pipeline.catalogues import check_pipeline
from wss.pipeline.held_out import adapted
from wss.pipeline.spec import Node, Pipeline
from wss.stages.largest_region import LargestRegionParams
from wss.store import MODEL, Store

if TYPE_CHECKING:
    from wss.cli.session import Session

_LARGEST = "only the largest region of each volume or image is kept"
_ALL = "all regions are kept"
_TO_LARGEST = "--largest-region keeps only the largest of each volume or image"


class Chosen(NamedTuple):
    """A network and what is kept of its predictions.

    Attributes:
        network: Its store.
        background: Index of the background, if only the largest region of foreground is kept; None if all regions are.
        said: The choice in words; None where nobody asked and no pipeline has a say.
    """

    network: Path
    background: int | None
    said: str | None


def of_checkpoint(network: Path, asked: bool | None) -> Chosen:
    """Choose for a network that is named by itself: all regions, unless the largest are asked for.

    Args:
        network: Its store.
        asked: True for the largest, False for all, None if neither was said.

    Raises:
        UsageError: The largest are asked for, and the network has no background class.
    """
    if asked:
        return Chosen(network, _require_background(Store(network, MODEL).meta["background"]), _LARGEST)
    if asked is None:
        return Chosen(network, None, f"{_ALL}, as a network alone does not tell its pipeline's choice; {_TO_LARGEST}")
    return Chosen(network, None, _ALL)


def of_pipeline(session: Session, pipeline: Pipeline, asked: bool | None) -> Chosen:
    """Train the network of a pipeline where that is not done, and choose.

    Where nothing is asked, the pipeline decides, if it has a stage ``largest-region`` for predictions of this network. It is run
    as far as that stage. Its decision needs predictions of training images only: they take the place of those of a split that
    the data set does not have.

    Args:
        session: The command.
        pipeline: With a stage ``train``.
        asked: See ``of_checkpoint``.

    Raises:
        UsageError: The largest are asked for, and the data set has no background class.
    """
    training = pipeline.up_to("train")
    node = None if asked is not None else deciding(pipeline)
    if node is None:
        background = _require_background(session.catalogues(training)["train"].background) if asked else None
        said = None if asked is None else _LARGEST if asked else _ALL
        return Chosen(_trained(session, training), background, said)
    assert isinstance(node.params, LargestRegionParams)
    background = session.catalogues(training)["train"].background
    if background is None:
        return Chosen(_trained(session, training), None, f"{_ALL}, because the data set has no background class")
    if node.params.when == "always":
        said = f"{_LARGEST}, as by the pipeline ({node.id}.when=always); --all-regions keeps all"
        return Chosen(_trained(session, training), background, said)
    reason = ""
    for inputs in (node.inputs, {**node.inputs, "predictions": node.inputs["trained"]}):
        nodes = {**pipeline.nodes, node.id: replace(node, inputs=inputs)}
        part = replace(pipeline, nodes=nodes).up_to("train", node.id)
        try:
            _check(session, part)
        except WssError as error:
            reason = reason or str(error)
            continue
        outcomes = session.run(part)
        decided = outcomes[node.id].store.meta["largest_region"]
        network = outcomes["train"].store.path
        if decided["applied"]:
            said = f"{_LARGEST}, as the pipeline decided on training images; --all-regions keeps all"
            return Chosen(network, background, said)
        because = (
            "as the pipeline decided on training images"
            if "with_it" in decided
            else "because the network finds no labelled foreground on training images"
        )
        return Chosen(network, None, f"{_ALL}, {because}; {_TO_LARGEST}")
    said = f"{_ALL}, because the pipeline cannot decide here ({reason}); {_TO_LARGEST}"
    return Chosen(_trained(session, training), None, said)


def _trained(session: Session, training: Pipeline) -> Path:
    return session.run(training)["train"].store.path


def _check(session: Session, pipeline: Pipeline) -> None:
    """Raise for what ``Session.run`` would refuse before anything runs."""
    known = session.catalogues(pipeline)
    check_pipeline(adapted(pipeline, known)[0], known)


def deciding(pipeline: Pipeline) -> Node | None:
    """The last stage ``largest-region`` for predictions of the network ``train``."""
    for node in reversed(list(pipeline.nodes.values())):
        if isinstance(node.params, LargestRegionParams):
            source = node
            while source.inputs.get("predictions"):
                source = pipeline.nodes[source.inputs["predictions"][0]]
            if "train" in source.inputs.get("model", ()):
                return node
    return None


def _require_background(background: int | None) -> int:
    if background is None:
        raise UsageError(
            "--largest-region needs a background class, and this data set has none: every region is an object; leave it out"
        )
    return background
