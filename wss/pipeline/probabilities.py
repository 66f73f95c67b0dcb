"""Predictions of a pipeline keep their probabilities where another stage reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from wss.errors import UsageError

if TYPE_CHECKING:
    from wss.pipeline.spec import Node


def decided(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Decide for each stage with a parameter ``probs`` that was not given one.

    Args:
        nodes: All stages of a pipeline. Commands that run a part of it (`wss evaluate`) keep what the rest reads, so that a later
            one (`wss evaluate --crf`) goes on from there.
    """
    read = {source for node in nodes.values() for source in _read(node)}
    return {
        name: replace(node, params=node.params.model_copy(update={"probs": name in read}))
        if getattr(node.params, "probs", False) is None
        else node
        for name, node in nodes.items()
    }


def check_probabilities(node: Node, nodes: Mapping[str, Node]) -> None:
    """Raise if a stage needs probabilities that its input does not keep.

    Raises:
        UsageError: It does.
    """
    for role, wanted in node.stage.inputs.items():
        needed = wanted.probs == "needed" or (wanted.probs_needed is not None and wanted.probs_needed(node.params))
        for source in node.inputs.get(role, ()) if needed else ():
            params = nodes[source].params
            if not hasattr(params, "probs"):
                raise UsageError(
                    f"{node.stage.name} needs probabilities, and {source!r} gives labels only; name a stage `predict` as its "
                    f"input {role!r}"
                )
            if params.probs is False:
                raise UsageError(
                    f"{node.stage.name} needs probabilities, and {source!r} keeps none; predict with `probs: true`, or leave "
                    "`probs` out"
                )


def _read(node: Node) -> list[str]:
    """Ids of the stages whose probabilities a stage reads."""
    return [s for role, wanted in node.stage.inputs.items() if wanted.probs for s in node.inputs.get(role, ())]
