"""The protocol of a pipeline: what each stage will do, with the numbers that a paper states, before anything runs."""

from __future__ import annotations

from typing import Any

from wss.datasets.source import Catalogue
from wss.methods import Phase
from wss.params import canonical
from wss.pipeline.spec import Node, Pipeline
from wss.stages.crf import CrfParams
from wss.stages.edges import EdgesParams
from wss.stages.predict import PredictParams
from wss.stages.prepare import PrepareParams
from wss.stages.similarity_walk import SimilarityWalkParams
from wss.stages.train import TrainParams
from wss.training.batches import EpochBatches


def protocols(pipeline: Pipeline, known: dict[str, Catalogue]) -> dict[str, dict[str, Any]]:
    """The protocol of each stage that has one, by stage id.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id, see ``catalogues``.

    Returns:
        For a training ``split``, ``images`` (the labelled ones where the method uses no others), ``steps``, ``batch_size``,
        ``crop``, ``resize``, ``scales`` (of the augmentation), ``augment``, ``network``, ``initialisation``, ``method``,
        ``labels`` (the annotation), ``phases`` (``terms``, ``steps``, ``lr``, ``schedule`` and the rest of a phase) and ``seed``.
        For other stages what decides their result.
    """
    return {node.id: found for node in pipeline.nodes.values() if (found := _protocol(node, pipeline, known))}


def _protocol(node: Node, pipeline: Pipeline, known: dict[str, Catalogue]) -> dict[str, Any] | None:
    params = node.params
    if isinstance(params, TrainParams):
        return _training(node, params, pipeline, known[node.id])
    if isinstance(params, PredictParams):
        images = len(known[node.id].splits.get(params.split, ())[: params.limit])
        return {"split": params.split, "images": images, **canonical(params.test_time, tagged=False)}
    if isinstance(params, CrfParams):
        return {"iterations": params.iterations, **params.kernels()}
    if isinstance(params, SimilarityWalkParams):
        crf = None if params.crf is None else {"iterations": params.crf.iterations, **params.crf.kernels()}
        return {**canonical(params, tagged=False), "crf": crf}
    if isinstance(params, EdgesParams):
        return {**canonical(params, tagged=False), "weights": params.weights}
    if node.stage.name in ("samples", "evaluate", "report"):
        return None
    return dict(canonical(params, tagged=False))


def _training(node: Node, params: TrainParams, pipeline: Pipeline, catalogue: Catalogue) -> dict[str, Any]:
    everything = len(catalogue.splits.get(params.split, ()))
    prepared = _prepared(node, pipeline)
    fraction = prepared.fraction if prepared is not None else 1.0
    images = everything if params.method.uses_unlabelled or not everything else max(1, round(fraction * everything))
    phases = [_phase(phase, images, params.batch_size) for phase in params.phases]
    augment = canonical(params.augment, tagged=False)
    return {
        "split": params.split,
        "images": images,
        "steps": sum(phase["steps"] for phase in phases),
        "batch_size": min(params.batch_size, images) if images else params.batch_size,
        "crop": augment["crop"],
        "resize": augment["resize"],
        "scales": augment["scale"],
        "augment": augment,
        "network": canonical(params.network, tagged=False),
        "initialisation": _initialisation(node, params),
        "method": canonical(params.method, tagged=False),
        "labels": None if prepared is None else prepared.annotation,
        "phases": phases,
        "seed": params.seed,
    }


def _phase(phase: Phase, images: int, batch_size: int) -> dict[str, Any]:
    steps = phase.steps or (len(EpochBatches(images, batch_size, phase.epochs or 1, 0)) if images else 0)
    return {**canonical(phase, tagged=False), "steps": steps}


def _initialisation(node: Node, params: TrainParams) -> str:
    if node.inputs.get("initial"):
        return f"network of {node.inputs['initial'][0]}"
    return params.weights or "random"


def _prepared(node: Node, pipeline: Pipeline) -> PrepareParams | None:
    """The parameters of the stage that made the labels which a stage's labels come from."""
    while node.inputs.get("labels"):
        node = pipeline.nodes[node.inputs["labels"][0]]
        if isinstance(node.params, PrepareParams):
            return node.params
    return None


def lines(name: str, protocol: dict[str, Any]) -> list[str]:
    """A protocol as lines of text."""
    if "phases" not in protocol:
        return [f"{name}: {_listed(protocol)}"]
    network = protocol["network"]
    spec = " ".join(str(network[key]) for key in ("name", "backbone") if network.get(key))
    rest = {key: value for key, value in network.items() if key in ("output_stride", "multi_scale") and value}
    size = (
        f"crops of {_size(protocol['crop'])}"
        if protocol["crop"]
        else "whole images, or crops of 321 if their sizes differ"
    )
    size = f"whole images resized to {_size(protocol['resize'])}" if protocol["resize"] else size
    size = "whole images, padded" if protocol["augment"].get("whole") else size
    augment = {k: v for k, v in protocol["augment"].items() if k not in ("crop", "resize", "whole", "sides") and v}
    found = [
        f"{name}: {protocol['method']['name']} from {protocol['labels'] or 'labels'}, {spec}"
        + (f" ({_listed(rest)})" if rest else "")
        + f", from {protocol['initialisation']}; {protocol['images']} images of {protocol['split']}, batch "
        f"{protocol['batch_size']}, {protocol['steps']} steps, seed {protocol['seed']}",
        f"    {size}; {_listed(augment)}",
        f"    method: {_listed({k: v for k, v in protocol['method'].items() if k != 'name'})}",
    ]
    for phase in protocol["phases"]:
        rest = {k: v for k, v in phase.items() if k not in ("terms", "steps", "epochs") and v not in (None, [])}
        found.append(f"    {phase['steps']} steps: {_listed(phase['terms'])}; {_listed(rest)}")
    return found


def _size(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_size(value)}" for name, value in values.items() if value is not None) or "-"
