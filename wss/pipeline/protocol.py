"""Protocols of stages: the settings and numbers that papers state, computed before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wss.datasets.source import Catalogue
from wss.methods import METHODS, Phase
from wss.networks import NetworkSpec
from wss.params import canonical
from wss.pipeline.catalogues import prepared_labels
from wss.pipeline.spec import Node, Pipeline
from wss.stages.crf_kernels import CrfParams
from wss.stages.edges import EdgesParams
from wss.stages.features import FeaturesParams
from wss.stages.predict import PredictParams
from wss.stages.prepare import PrepareParams, drawn, labelled
from wss.stages.similarity_walk import SimilarityWalkParams
from wss.stages.train_params import LARGEST_CROP_PX, LARGEST_WHOLE_PX, TrainParams
from wss.training.loop import total_steps

_PRECISIONS = {True: ", autocast to bfloat16", False: ", float32", "auto": ", bfloat16 where it is faster"}
_FROM_TAGS = {method.model_fields["name"].default for method in METHODS if "tags" in method.needs}


def protocols(pipeline: Pipeline, known: Mapping[str, Catalogue]) -> dict[str, dict[str, Any]]:
    """The protocol of each stage that has one, by stage id.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id, see ``catalogues``.

    Returns:
        For a training: ``split``, ``images`` (number of images; images without labels according to the list of files do not
        count, unless the method uses unlabelled images), ``images_at_most`` (True if some images may lose all labels by
        ``drop``), ``steps`` (of all phases), ``batch_size``, ``crop``, ``resize``, ``scales`` (of the augmentation),
        ``augment``, ``network``, ``initialisation``, ``method``, ``labels`` (the annotation), ``simulated`` (True if labels are
        drawn from masks), ``amp``, ``phases`` (``terms``, ``steps``, ``lr``, ``schedule`` and the other settings of a phase)
        and ``seed``. For other stages: their parameters, with named choices replaced by their numbers.
    """
    return {node.id: protocol for node in pipeline.nodes.values() if (protocol := _protocol(node, pipeline, known))}


def _protocol(node: Node, pipeline: Pipeline, known: Mapping[str, Catalogue]) -> dict[str, Any] | None:
    params = node.params
    if isinstance(params, TrainParams):
        return _training(node, params, pipeline, known[node.id])
    if isinstance(params, PredictParams):
        images = len(known[node.id].splits.get(params.split, ())[: params.limit])
        test_time = canonical(params.test_time, tagged=False)
        return {"split": params.split, "images": images, **test_time, "probs": params.probs is not False}
    if isinstance(params, CrfParams):
        kernels = {"preset": "auto"} if params.preset == "auto" else params.kernels()
        return {"iterations": params.iterations, **kernels}
    if isinstance(params, SimilarityWalkParams):
        crf = None if params.crf is None else {"iterations": params.crf.iterations, **params.crf.kernels()}
        return {**canonical(params, tagged=False), "crf": crf}
    if isinstance(params, EdgesParams | FeaturesParams):
        return {**canonical(params, tagged=False), "weights": params.weights}
    if node.stage.name in ("samples", "evaluate", "report"):
        return None
    return dict(canonical(params, tagged=False))


def _training(node: Node, params: TrainParams, pipeline: Pipeline, catalogue: Catalogue) -> dict[str, Any]:
    prepared = prepared_labels(node, pipeline)
    images = _images(params, prepared, catalogue)
    phases = [_phase(phase, images, params.batch_size) for phase in params.phases]
    augment = canonical(params.augment, tagged=False)
    return {
        "split": params.split,
        "images": images,
        "images_at_most": prepared is not None and prepared.drop > 0,
        "steps": sum(phase["steps"] for phase in phases),
        "batch_size": params.batch_size,
        "crop": augment["crop"],
        "resize": augment["resize"],
        "scales": augment["scale"],
        "augment": augment,
        "network": canonical(params.network, tagged=False),
        "initialisation": _initialisation(node, params, pipeline),
        "method": canonical(params.method, tagged=False),
        "labels": None if prepared is None else prepared.annotation,
        "simulated": prepared is not None and drawn(prepared, catalogue),
        "amp": params.amp,
        "average": params.average,
        "phases": phases,
        "seed": params.seed,
    }


def _images(params: TrainParams, prepared: PrepareParams | None, catalogue: Catalogue) -> int:
    """Number of training images. Images without labels do not count, unless the method uses unlabelled images."""
    ids = catalogue.splits.get(params.split, ())
    if prepared is None or params.method.uses_unlabelled:
        return len(ids)
    return len(labelled(prepared, ids, catalogue))


def _phase(phase: Phase, images: int, batch_size: int) -> dict[str, Any]:
    steps = total_steps(images, batch_size, [phase]) if images else phase.steps or 0
    return {**canonical(phase, tagged=False), "steps": steps}


def _initialisation(node: Node, params: TrainParams, pipeline: Pipeline) -> str:
    """Initial weights of a training. If it continues another training, also the initial weights of the first training."""
    if node.inputs.get("features"):
        made = pipeline.nodes[node.inputs["features"][0]].params
        return f"{made.weights} (backbone), random (the rest)" if isinstance(made, FeaturesParams) else "random"
    if not node.inputs.get("initial"):
        return params.weights or "random"
    first = pipeline.nodes[node.inputs["initial"][0]]
    before = first
    while before.inputs.get("initial"):
        before = pipeline.nodes[before.inputs["initial"][0]]
    origin = before.params.weights if isinstance(before.params, TrainParams) else None
    new = f", new {' and '.join(params.fresh)}" if params.fresh else ""
    return f"network of {first.id} ({origin or 'random'}){new}"


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Protocols as lines of text. Stages with equal text share one block.

    Args:
        found: Protocols by stage id.

    Returns:
        For each block, a line with the ids and then indented lines.
    """
    blocks: dict[tuple[str, ...], list[str]] = {}
    for name, protocol in found.items():
        text = _training_text(protocol) if "phases" in protocol else [listed(protocol)]
        blocks.setdefault(tuple(text), []).append(name)
    return [line for text, names in blocks.items() for line in (", ".join(names), *(f"    {line}" for line in text))]


def _training_text(protocol: Mapping[str, Any]) -> list[str]:
    network, augment, method = protocol["network"], protocol["augment"], protocol["method"]
    options = ("output_stride", "multi_scale", "widths", "stem_stride", "deep_supervision")
    usual = canonical(NetworkSpec(), tagged=False)
    rest = {name: network[name] for name in options if network[name] != usual[name]}
    spec = " ".join(str(network[name]) for name in ("name", "backbone") if network.get(name))
    varied = {
        name: value
        for name, value in augment.items()
        if name not in ("crop", "resize", "whole", "scale", "blur_sigma_px", "fill_rgb") and value
    }
    varied = {"scale": _range(augment["scale"]), **varied}
    if augment["blur"]:
        varied["blur_sigma_px"] = _range(augment["blur_sigma_px"])
    told = {name: value for name, value in method.items() if name not in ("focal_gamma", "dice") or value}
    text = [
        f"method {_value(told)}",
        f"labels {protocol['labels'] or 'of another stage'}{' drawn from masks' if protocol['simulated'] else ''}; "
        f"{'at most ' if protocol['images_at_most'] else ''}{protocol['images']} images of {protocol['split']}, "
        f"batch {_batch(protocol)}, {protocol['steps']} steps, seed {protocol['seed']}"
        f"{_PRECISIONS[protocol['amp']]}"
        f"{f', weights averaged with decay {average:g}' if (average := protocol['average']) else ''}",
        f"network {spec}{f' ({listed(rest)})' if rest else ''}, weights {protocol['initialisation']}",
        f"images {_seen(protocol)}; {listed(varied)}",
    ]
    for number, phase in enumerate(protocol["phases"]):
        other = {"poly": ("step_iters", "gamma"), "step": ("power",)}.get(
            phase["schedule"], ("power", "step_iters", "gamma")
        )
        rest = {k: v for k, v in phase.items() if k not in ("terms", "steps", "epochs", *other) and v not in (None, [])}
        text.append(f"phase {number + 1}: {phase['steps']} steps, {listed(phase['terms'])}; {listed(rest)}")
    return text


def _batch(protocol: Mapping[str, Any]) -> str:
    """The batch size. If there are fewer images, also their number."""
    size, images = protocol["batch_size"], protocol["images"]
    return f"{size} (all {images} images)" if images < size else str(size)


def _seen(protocol: Mapping[str, Any]) -> str:
    """Description of the size of training images, see ``TrainParams.augment``."""
    crop, resize = protocol["crop"], protocol["resize"]
    if protocol["augment"]["whole"]:
        return f"whole, resized to {_size(resize)}" if resize else "whole, padded to one size"
    resized = [f"resized to {_size(resize)}"] if resize else []
    if crop or resize:
        return ", ".join([*resized, f"crops of {_size(crop)}" if crop else "whole"])
    otherwise = "resized to" if protocol["method"]["name"] in _FROM_TAGS else "crops of"
    return f"whole if all have one size of at most {LARGEST_WHOLE_PX}, otherwise {otherwise} {_size(LARGEST_CROP_PX)}"


def _size(value: Any) -> str:
    return "x".join(map(str, value if isinstance(value, list) else [value, value]))


def _range(value: list[float]) -> str:
    return f"{_value(value[0])} to {_value(value[1])}"


def listed(values: Mapping[str, Any]) -> str:
    """Names with values as text. Skips values that are None, and the overlap of windows if there is no window."""
    left_out = {"overlap"} if "window" in values and values["window"] is None else set()
    shown = {name: value for name, value in values.items() if value is not None and name not in left_out}
    return ", ".join(f"{name} {_value(value)}" for name, value in shown.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if not isinstance(value, Mapping):
        return str(value)
    rest = listed({name: item for name, item in value.items() if name != "name"})
    return " ".join(part for part in (str(value.get("name", "")), f"({rest})" if rest else "") if part)
