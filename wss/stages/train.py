"""Stage ``train``: a network, trained on images and their labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wss.checkpoints import model_meta
from wss.datasets.source import Catalogue
from wss.distributed import all_reduce_sum, call_on_all, check_parts, local_world_size, shard, world_size
from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED
from wss.methods import CrossEntropyMethod, Phase
from wss.metrics import confusion_matrix, miou
from wss.networks import check_pretrained
from wss.networks.stored_features import compute_again
from wss.precision import MIN_STEPS, Precision, Step, decide
from wss.predictor import Predictor
from wss.stages.splits import evenly, require_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage
from wss.stages.stored_training import check_stored, load_stored, view_set, without_backbone
from wss.stages.train_initial import initialise, require_known_parts
from wss.stages.train_params import LARGEST_CROP_PX, LARGEST_WHOLE_PX, TrainParams
from wss.store import EDGES, FEATURES, LABELS, MODEL, SAMPLES, SUPERPIXELS, Store, StoreWriter
from wss.training.augment import AugmentParams, common_size
from wss.training.batches import TrainingSet
from wss.training.class_weights import median_frequency_weights
from wss.training.log import TrainingLog
from wss.training.loop import Hooks, LoopSettings, fit, total_steps
from wss.training.optimiser import freeze, trained_groups
from wss.training.reader import MAPS, SampleReader
from wss.training.trial import method_step

"""Input maps that methods may need, with the name of one map in error messages."""


def run(params: TrainParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Train the network with regular checkpoints, and store its final weights.

    Raises:
        DataError: No training image has a label, or the method needs tags and no training image has any.
        UsageError: Parameters contradict the data, the network, the inputs or the number of processes; or maps that the method
            needs are missing.
        WssError: The loss diverged.
    """
    samples, labels = inputs["samples"], inputs["labels"]
    ids = _training_ids(params, samples, labels)
    doubts = params.method.doubts(params.network, {t for phase in params.phases for t, w in phase.terms.items() if w})
    if doubts is not None:
        context.progress.say(doubts)
    if "tags" in params.method.needs and params.augment.crop is not None:
        context.progress.say(
            "tags describe whole images, and a crop may lack a tagged class: train.augment.crop=null with "
            "train.augment.resize trains on whole images"
        )
    maps = _maps(params, inputs, ids)
    features = inputs.maybe("features")
    if features is not None:
        check_stored(params)
    num_classes = len(samples.meta["classes"])
    declared = params.method
    params = _weighted(params, labels, ids, samples.meta["classes"], context)
    batch = min(params.batch_size, len(ids))
    check_parts(batch)
    if params.compile and world_size() > 1:
        raise UsageError(f"train.compile works in one process only, and this run has {world_size()}; leave it out")
    logs = TrainingLog(context.logs / output.path.stem[:12]) if context.logs else nullcontext(lambda rows: None)
    with torch.random.fork_rng(devices=[context.device] if context.device.type == "cuda" else []), logs as log:
        torch.manual_seed(params.seed)
        model = params.method.build(params.network, num_classes)
        if features is None:
            initialisation = initialise(model, params, inputs, context)
        else:
            initialisation = load_stored(model, params, features)
            params = params.model_copy(update={"phases": without_backbone(params.phases)})
        memory = torch.channels_last if params.channels_last else torch.contiguous_format
        model = model.to(memory_format=memory)  # type: ignore[call-overload]
        tags, read = _tags(params, labels, ids, num_classes), SampleReader(samples, labels, maps)
        if features is None:
            augmentations, size = _sized(params, samples, ids, context)
            data = TrainingSet(ids, read, augmentations, params.seed, tags, samples.meta["background"], size)
        else:
            data = view_set(params, features, samples, ids, read, tags)
        state = output.load_checkpoint()
        steps = total_steps(len(ids), batch, params.phases)
        precision = _precision(params, model, data, batch, steps, state, context)
        settings = LoopSettings(
            batch_size=batch,
            seed=params.seed,
            device=context.device,
            workers=_workers(context, len(ids)),
            amp=precision.used,
            channels_last=params.channels_last,
            compile=params.compile,
            deep_supervision=params.network.deep_supervision,
            average=params.average,
            validate_every=params.validate_every if any(_scored_ids(params, samples, ids).values()) else 0,
        )
        advance = context.progress.task(
            f"training {params.method.name}", steps, _done(state, len(ids), batch, params.phases)
        )
        model, rows = call_on_all(
            _fit,
            model,
            params,
            data,
            settings,
            samples,
            state,
            save=lambda reached: output.save_checkpoint({**reached, "precision": precision.record()}),
            log=log,
            advance=advance,
            say=context.progress.say,
        )
    compute_again(model)
    output.put_tree("state", model.state_dict())
    output.meta.update(model_meta(declared, params.network, initialisation, samples.meta))
    output.meta["num_images"] = len(ids)
    output.meta["labels"] = labels.meta
    output.meta["bfloat16"] = precision.used
    if (weights := getattr(params.method, "class_weights", None)) is not None:
        output.meta["class_weights"] = dict(zip(samples.meta["classes"], weights, strict=True))
    output.log["epochs"] = rows
    output.log["parameters"] = sum(p.numel() for p in model.parameters())
    output.log["processes"] = world_size()
    output.log["precision"] = precision.record()


def _weighted(
    params: TrainParams, labels: Store, ids: Sequence[str], classes: Sequence[str], context: Context
) -> TrainParams:
    """The parameters with computed class weights in place of ``auto``. A message reports the computed weights."""
    method = params.method
    if not isinstance(method, CrossEntropyMethod) or method.class_weights is None:
        return params
    weights = method.class_weights
    if weights == "auto":
        weights = median_frequency_weights((labels.get("labels", i) for i in ids), len(classes))
        context.progress.say(
            "class_weights auto: "
            + ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True))
        )
    return params.model_copy(update={"method": method.weighted(weights)})


def _precision(
    params: TrainParams,
    model: nn.Module,
    data: TrainingSet,
    batch: int,
    steps: int,
    state: Mapping[str, Any] | None,
    context: Context,
) -> Precision:
    """Precision of training steps: as before an interruption, or else decided now. Only the leader process decides."""
    if state is not None and "precision" in state:
        return Precision(**state["precision"])

    def prepare() -> Step:
        part = batch // world_size()
        return method_step(
            model, params.method, params.phases[0], data, part, context.device, channels_last=params.channels_last
        )

    precision = decide(params.amp, context.device, steps, MIN_STEPS, prepare)
    if precision.times is not None:
        context.progress.say(f"train: {precision}")
    return precision


def _nobody(*told: object) -> None:
    """No-op hook: only the leader process logs and saves."""


def _fit(
    model: nn.Module,
    params: TrainParams,
    data: TrainingSet,
    settings: LoopSettings,
    samples: Store,
    state: Mapping[str, Any] | None,
    save: Callable[[Any], None] = _nobody,
    log: Callable[[Sequence[Mapping[str, float]]], None] = _nobody,
    advance: Callable[[int, str], None] = _nobody,
    say: Callable[[str], None] = _nobody,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train. Every process of a run calls this function."""
    model = model.to(settings.device)
    validate = _validator(params, samples, data.ids, settings)
    hooks = Hooks(validate=validate, save=save, log=log, advance=advance, say=say)
    return model, fit(model, params.method, params.phases, data, settings, hooks, state)


def _training_ids(params: TrainParams, samples: Store, labels: Store) -> list[str]:
    ids = [i for i in split_ids(samples, params.split) if i in labels]
    if "tags" in params.method.needs:
        return _tagged(params, labels, ids)
    if not params.method.uses_unlabelled:
        ids = [i for i in ids if bool((labels.get("labels", i) != UNLABELLED).any())]
    if not ids or all(bool((labels.get("labels", i) == UNLABELLED).all()) for i in ids):
        raise DataError(
            f"no image of split {params.split!r} has a labelled pixel; `wss data info` shows what is labelled; "
            "--drop or --shrink may have removed the labels, and image tags label no pixel"
        )
    _require_objects(params, samples, labels, ids)
    return ids


def _require_objects(params: TrainParams, samples: Store, labels: Store, ids: Sequence[str]) -> None:
    """Raise if labels come from boxes alone. Such labels are background outside the boxes, and no pixel is an object."""
    background = samples.meta["background"]
    if labels.meta["annotation"] != "box" or any(
        bool(np.isin(labels.get("labels", i), (background, UNLABELLED), invert=True).any()) for i in ids
    ):
        return
    raise DataError(
        f"boxes label nothing but the background, and method {params.method.name!r} learns from labelled pixels of every "
        "class; `wss train --method spml` finds objects in boxes (in a pipeline of yours: stages `cam` and `seeds` with method "
        "{name: box}), and other methods learn from `wss prepare --annotation point`"
    )


def _tagged(params: TrainParams, labels: Store, ids: Sequence[str]) -> list[str]:
    """The images that have tags. Images with neither tags nor labels are skipped."""
    tagged = [i for i in ids if labels.has("tags", i)]
    rest = sorted(set(ids) - set(tagged))
    untagged = next((i for i in rest if bool((labels.get("labels", i) != UNLABELLED).any())), None)
    if not tagged or untagged is not None:
        if untagged is None and labels.meta["annotation"] == "box":
            raise DataError(
                f"method {params.method.name!r} learns from boxes, and no image of split {params.split!r} has boxes or "
                "masks to draw them from; add boxes or masks, or choose a pipeline for the labels that you have (`wss run "
                "spml-scribble` learns from scribbles, `wss pipelines` lists all)"
            )
        what = f"no image of split {params.split!r} has them" if untagged is None else f"{untagged!r} has labels only"
        raise DataError(
            f"method {params.method.name!r} learns from image tags, and {what}; make the labels with `wss prepare "
            "--annotation tag`, or from labels that were made so"
        )
    return tagged


def _tags(
    params: TrainParams, labels: Store, ids: Sequence[str], num_classes: int
) -> dict[str, NDArray[np.bool_]] | None:
    """Classes in each image, bool (K,): its tags, or else the classes of its labelled pixels; None if the method needs none."""
    terms = {term for phase in params.phases for term in phase.terms}
    needs = params.method.needs.union(*(params.method.term_needs.get(term, frozenset()) for term in terms))
    if not {"tags", "classes"} & needs:
        return None
    every = np.arange(num_classes)
    return {
        i: labels.get("tags", i).astype(bool) if labels.has("tags", i) else np.isin(every, labels.get("labels", i))
        for i in ids
    }


def _maps(params: TrainParams, inputs: Inputs, ids: Sequence[str]) -> dict[str, Store]:
    """The stores of further maps that the method needs, by name. Each has a map for every training image."""
    return {name: _map(params, inputs, ids, name) for name in MAPS if name in params.method.needs}


def _map(params: TrainParams, inputs: Inputs, ids: Sequence[str], name: str) -> Store:
    store, method, what = inputs.maybe(name), params.method.name, MAPS[name]
    if store is None:
        raise UsageError(
            f"method {method!r} learns from {what}s, and this train stage has no input {name!r}: put a stage `{name}` before it "
            "in the pipeline and name it there"
        )
    missing = next((i for i in ids if i not in store), None)
    if missing is not None:
        raise UsageError(
            f"method {method!r} learns from {what}s, and {store.path} has none for {missing!r}; `wss {name}` makes one for "
            "every image"
        )
    return store


def _check_sides(params: TrainParams, num_classes: int) -> None:
    beyond = [label for pair in params.augment.sides for label in pair if label >= num_classes]
    if beyond:
        raise UsageError(f"train: augment.sides names class {beyond[0]}, but the classes are 0 to {num_classes - 1}")


def _sized(
    params: TrainParams, samples: Store, ids: Sequence[str], context: Context
) -> tuple[AugmentParams, tuple[int, int] | None]:
    """The augmentations with the training size filled in, and the common size of whole images, or None.

    With ``augment.whole``, images are whole and padded to the common size. Without it, and without a crop or a resize, images of
    one size, at most ``LARGEST_WHOLE_PX`` a side, stay whole; other images become squares.
    """
    given = params.augment
    _check_sides(params, len(samples.meta["classes"]))
    if not given.whole and (given.crop is not None or given.resize is not None):
        return given, None
    sizes: set[tuple[int, ...]] = {samples.shape("image", i)[:2] for i in ids}
    if given.whole:
        common = common_size(sizes, given)
        if given.resize is None and len(sizes) > 1:
            context.progress.say(f"images of {len(sizes)} sizes: padded to {common[0]}x{common[1]}")
        return given, common
    largest = int(max(max(size) for size in sizes))
    if len(sizes) == 1 and largest <= LARGEST_WHOLE_PX:
        return given, None
    side = min(LARGEST_CROP_PX, largest)
    option, how = ("resize", "whole images resized to") if "tags" in params.method.needs else ("crop", "crops of")
    context.progress.say(
        f"images of {len(sizes)} sizes: training on {how} {side}x{side} (train.augment.{option} changes it)"
    )
    return given.model_copy(update={option: side}), None


def _scored_ids(params: TrainParams, samples: Store, trained: Sequence[str]) -> dict[str, list[str]]:
    """Ids of the images that are scored during training, by the name of their score in the log."""
    held_out = samples.meta["splits"].get(params.validation_split, [])
    chosen = {"val_miou": (held_out, params.validation_images), "train_miou": (trained, params.train_images)}
    return {
        name: evenly([i for i in ids if samples.has("mask", i)], count) if count else []
        for name, (ids, count) in chosen.items()
    }


def _validator(
    params: TrainParams, samples: Store, trained: Sequence[str], settings: LoopSettings
) -> Callable[[nn.Module], Mapping[str, float]]:
    scored = {name: shard(ids) for name, ids in _scored_ids(params, samples, trained).items()}
    classes = samples.meta["classes"]

    def validate(model: nn.Module) -> Mapping[str, float]:
        palette = np.array(samples.meta["palette"], np.uint8)
        predictor = Predictor(model, classes, palette, settings.device, amp=settings.amp)
        scores = {}
        for name, ids in scored.items():
            total = np.zeros((len(classes), len(classes)), np.int64)
            for image_id in ids:
                prediction = predictor(samples.get("image", image_id))
                total += confusion_matrix(samples.get("mask", image_id), prediction, len(classes))
            total = all_reduce_sum(torch.from_numpy(total)).numpy()
            if total.any():
                scores[name] = miou(total)
        return scores

    return validate


def _workers(context: Context, images: int) -> int:
    """Number of loader processes: 0 for fewer than 16 images, else up to 8, at most jobs - 1 and the number of cores."""
    cores = len(os.sched_getaffinity(0)) // local_world_size()  # jobs may count cores of a whole cluster
    return 0 if images < 16 else max(0, min(8, context.jobs // local_world_size() - 1, cores))


def _done(state: Mapping[str, Any] | None, size: int, batch: int, phases: Sequence[Phase]) -> int:
    if state is None:
        return 0
    return total_steps(size, batch, phases[: state["phase"]]) + int(state["step"])


def _weights_digest(params: TrainParams, context: Context) -> str:
    """Digest of the weight file, so that a changed file with the same name gives a new network."""
    if params.weights is None or not Path(params.weights).is_file():
        return str(params.weights)
    return hashlib.sha256(Path(params.weights).read_bytes()).hexdigest()


def _check(params: TrainParams, catalogue: Catalogue) -> None:
    """Raise for errors that are certain before any image is read.

    The model is built on the meta device, which holds shapes but no values. So time and memory do not depend on the size of the
    model. A missing validation split is not an error, because only the curve depends on it.
    """
    require_split(catalogue.splits, params.split, catalogue.kind)
    _check_sides(params, len(catalogue.classes))
    for phase in params.phases:
        params.method.check(phase.terms, len(catalogue.classes), catalogue.background)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = params.method.build(params.network, len(catalogue.classes))
    check_pretrained(model, params.weights)
    require_known_parts(model, params.fresh)
    for phase in params.phases:
        freeze(model, phase)
        trained_groups(model, phase)


STAGE = Stage(
    "train",
    1,
    TrainParams,
    {
        "samples": Input(SAMPLES),
        "labels": Input(LABELS),
        "edges": Input(EDGES, optional=True),
        "superpixels": Input(SUPERPIXELS, optional=True),
        "features": Input(FEATURES, optional=True),
        "initial": Input(MODEL, optional=True),
    },
    MODEL,
    run,
    source=_weights_digest,
    check=_check,
)
