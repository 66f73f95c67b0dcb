"""Checks of the report of a pipeline, before any stage runs."""

from __future__ import annotations

from wss.errors import UsageError
from wss.pipeline.spec import Node, Pipeline
from wss.stages.evaluate import EvaluateParams
from wss.stages.predict import PredictParams
from wss.stages.report import ReportParams


def check_report(node: Node, pipeline: Pipeline) -> None:
    """Check that a report can be made as declared, for any results.

    Args:
        node: A stage; only a ``report`` is checked.
        pipeline: The stages.

    Raises:
        UsageError: The predictions or the model of a score are not among the report's inputs, or no run has the factors of a
            study.
    """
    if not isinstance(node.params, ReportParams):
        return
    factors: set[str] = set()
    for scored in node.inputs["metrics"]:
        predicted = pipeline.nodes[scored].inputs["predictions"][0]
        maker = _maker(predicted, pipeline)
        behind = maker.inputs.get("model", ())
        if predicted not in node.inputs["predictions"] or not set(behind) <= set(node.inputs["models"]):
            raise UsageError(f"the predictions or the model behind {scored} are not among the inputs")
        params = pipeline.nodes[scored].params
        factors |= set(params.factors) if isinstance(params, EvaluateParams) else set()
        if isinstance(maker.params, PredictParams) and maker.params.test_time.walk:
            factors.add("walk")
    for study in node.params.studies:
        wanted = [study.rows, *([study.columns] if study.columns else [])]
        if not set(wanted) <= factors:
            known = ", ".join(sorted(factors)) or "no factors"
            raise UsageError(f"study {study.title!r}: no run has the factors {', '.join(wanted)}; runs have: {known}")


def _maker(name: str, pipeline: Pipeline) -> Node:
    """The stage that made predictions with a network, before other stages refined them."""
    node = pipeline.nodes[name]
    while node.inputs.get("predictions"):
        node = pipeline.nodes[node.inputs["predictions"][0]]
    return node
