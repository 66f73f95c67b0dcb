"""Predictions of a pipeline store probabilities if another stage reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from wss.errors import UsageError

if TYPE_CHECKING:
    from wss.pipeline.spec import Node


def decided(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Set the parameter ``probs`` of each stage where it is None: True if another stage reads the probabilities.

    Args:
        nodes: All stages of a pipeline. Commands that run only a part of it (`wss evaluate`) also store the probabilities that
            the other stages read, so that a later command (`wss evaluate --crf`) can continue from there.
    """
    read = {source for node in nodes.values() for source in _read(node)}
    return {
        name: replace(node, params=node.params.model_copy(update={"probs": name in read}))
        if getattr(node.params, "probs", False) is None
        else node
        for name, node in nodes.items()
    }


def check_probabilities(node: Node, nodes: Mapping[str, Node]) -> None:
    """Check that the inputs of a stage store the probabilities that it needs.

    Raises:
        UsageError: An input has no probabilities.
    """
    for role, wanted in node.stage.inputs.items():
        needed = wanted.probs == "needed" or (wanted.probs_needed is not None and wanted.probs_needed(node.params))
        for source in node.inputs.get(role, ()) if needed else ():
            params = nodes[source].params
            if not hasattr(params, "probs"):
                raise UsageError(
                    f"{node.stage.name} needs probabilities, but {source!r} gives labels only; name a stage `predict` as its "
                    f"input {role!r}"
                )
            if params.probs is False:
                raise UsageError(
                    f"{node.stage.name} needs probabilities, but {source!r} stores none; predict with `probs: true`, or leave "
                    "`probs` out"
                )


def _read(node: Node) -> list[str]:
    """Ids of the stages whose probabilities a stage reads."""
    return [s for role, wanted in node.stage.inputs.items() if wanted.probs for s in node.inputs.get(role, ())]
