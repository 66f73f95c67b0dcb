"""Stage ``report``: one HTML page about the data, the runs and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import UsageError
from wss.metrics import iou
from wss.names import readable
from wss.params import Params
from wss.precision import Precision
from wss.stages.splits import evenly
from wss.stages.stage import Context, Input, Inputs, Stage
from wss.store import (
    LABELS,
    METRICS,
    MODEL,
    PICTURES,
    PREDICTIONS,
    QUALITY,
    REPORT,
    SAMPLES,
    SUPERPIXELS,
    Store,
    StoreWriter,
)
from wss.store.atomic import write_bytes
from wss.viz import (
    MOST_RUNS,
    DataSummary,
    Gallery,
    Gap,
    Picture,
    Report,
    Run,
    Section,
    Step,
    Study,
    Table,
    featured,
    level_text,
    outlined,
    render_report,
    tabulate,
)


class StudyParams(Params):
    """One table over factors that a study varies. The parameter ``factors`` of ``evaluate`` gives a run its factors."""

    title: str
    """Heading of the table."""
    rows: str
    """Factor in the rows. If its levels are numbers, the values are also drawn as a curve."""
    columns: str | None = None
    """Factor in the columns. None: one column."""
    values: tuple[str, ...] = Field(default=("miou",), min_length=1)
    """Values to show: entries of ``metrics.json`` (``miou``; the mean of ``dice_per_class`` or ``trimap_miou``), or of the last
    epoch of the training log (``pce``)."""
    baseline: str | float | None = None
    """Level of the row factor to compare with. The table then also shows the loss relative to this level."""
    where: dict[str, str | float] = Field(default={})
    """Use only runs with these levels of other factors."""
    average: tuple[str, ...] = ("seed",)
    """Factors over which the runs of one cell are averaged. Training seeds are always averaged."""
    text: str = ""
    """Paragraph below the heading."""


class ReportParams(Params):
    """Parameters of the stage ``report``."""

    title: str = "Weakly supervised segmentation"
    """Heading of the page."""
    pictures: int = Field(default=3, ge=0, le=20)
    """Number of images of each rank (best, median, worst), ranked by the first run that is not an upper bound. After them, up to
    the same total number of images follow that a stage painted but no shown run predicted, for example training images."""
    studies: tuple[StudyParams, ...] = ()
    """Tables over factors that a study varies. Each table uses all runs that have its factors."""


def run(params: ReportParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Render the page from the stores. Each metrics store is one run.

    If a stage left something out, or a study cannot be tabulated, the page gives the reason in the place of the figures.

    Raises:
        UsageError: The predictions or the model of a metrics store are not among the inputs.
    """
    samples = inputs["samples"]
    labels = inputs.maybe("labels")
    metrics = list({store.key: store for store in inputs.many("metrics")}.values())
    predictions, models = _behind(metrics, inputs.many("predictions"), inputs.many("models"))
    names = run_names(models, metrics)
    walks = any(store.meta["record"].get("walk") for store in metrics)
    runs = [_run(name, m, model, walks) for name, m, model in zip(names, metrics, models, strict=True)]
    studies, gaps = _studies(params.studies, runs, context)
    leading = featured(runs, studies, MOST_RUNS)
    shown = {n: (m, p) for n, m, p in zip(names, metrics, predictions, strict=True) if n in leading}
    superpixels = inputs.many("superpixels")
    pictures, without_pictures = _made(inputs.many("pictures"), "pictures")
    quality, without_quality = _made(inputs.many("quality"), "labels")
    gaps += without_pictures + without_quality
    made = [store for role in ("labels", "models", "predictions") for store in inputs.many(role)]
    everything = list(
        {store.key: store for store in (samples, *made, *metrics, *quality, *superpixels, *pictures)}.values()
    )
    page = render_report(
        Report(
            title=params.title,
            subtitle=_subtitle(samples, runs),
            classes=samples.meta["classes"],
            palette=np.array(samples.meta["palette"], np.uint8),
            background=samples.meta["background"],
            runs=_one_curve_each(runs, {n: model.key for n, model in zip(names, models, strict=True) if n in leading}),
            studies=studies,
            labels=[store.meta["record"] for store in quality],
            tables=[Table(**table) for store in pictures for table in store.meta.get("tables", [])],
            pictures=_pictures(params.pictures, samples, labels, shown, runs, superpixels, pictures),
            gaps=gaps,
            data=_data(samples, labels, models[0].params["split"] if models else "train"),
            provenance=[_step(store) for store in everything],
            environment=_environment(everything),
            created=max(str(store.attributes["created"]) for store in everything),
        )
    )
    output.put("html", np.frombuffer(readable(page).encode(), np.uint8))


def _studies(declared: Sequence[StudyParams], runs: Sequence[Run], context: Context) -> tuple[list[Study], list[Gap]]:
    """The tables of the studies, and a gap with the reason for each study that these runs do not allow."""
    studies, gaps = [], []
    for study in declared:
        try:
            studies.append(tabulate(runs, **{n: getattr(study, n) for n in StudyParams.model_fields}))
        except UsageError as error:
            context.progress.say(f"report: left out: {error}")
            gaps.append(Gap("studies", study.title, str(error)))
    return studies, gaps


def _made(stores: Sequence[Store], section: Section) -> tuple[list[Store], list[Gap]]:
    """Split distinct stores of reporting stages into stores with content, and gaps with the reason for each empty store."""
    unique = list({store.key: store for store in stores}.values())
    gaps = {store.key: Gap(section, _title(store), why) for store in unique if (why := _why_empty(store)) is not None}
    return [store for store in unique if store.key not in gaps], list(gaps.values())


def _why_empty(store: Store) -> str | None:
    """Reason why a stage's store is empty; None if it is not empty."""
    if "left_out" in store.meta:
        return str(store.meta["left_out"])
    split = store.params.get("split")
    return None if store.ids else f"there was nothing to show{f' of split {split!r}' if split else ''}"


def _title(store: Store) -> str:
    return str(store.params.get("name") or store.attributes["stage"])


def _behind(
    metrics: Sequence[Store], predictions: Sequence[Store], models: Sequence[Store]
) -> tuple[list[Store], list[Store]]:
    """The predictions and the model from which each metrics store was computed.

    They are matched by content digest. So if a model was trained again under another key with an equal result, it counts as
    the model of predictions that were made before.
    """
    by_digest = {store.digest: store for store in (*predictions, *models)}
    by_key = {store.key: store for store in models}

    def source(store: Store, role: str) -> Store | None:
        return by_digest.get(next((s["digest"] for s in store.inputs.get(role, [])), ""))

    def model_of(prediction: Store) -> Store | None:
        earlier = source(prediction, "predictions")
        network = source(prediction, "model") if earlier is None else model_of(earlier)
        return by_key.get(prediction.meta["model"]) if network is None else network

    pairs = []
    for store in metrics:
        prediction = source(store, "predictions")
        model = None if prediction is None else model_of(prediction)
        if prediction is None or model is None:
            raise UsageError(f"report: the predictions or the model behind {store.path} are not among the inputs")
        pairs.append((prediction, model))
    return [prediction for prediction, _ in pairs], [model for _, model in pairs]


def run_names(models: Sequence[Store], metrics: Sequence[Store]) -> list[str]:
    """A short, unique name per run.

    It consists of the factors (or the method and the options that thin out annotation), the seed if names would otherwise be
    equal, a walk at test time, and CRF.
    """
    long = [
        ", ".join(f"{factor} {level_text(level)}" for factor, level in metric.meta.get("factors", {}).items())
        or f"{metric.meta['record']['method']}{_thinned(model)}"
        for model, metric in zip(models, metrics, strict=True)
    ]
    several = {name for name in long if len({m.key for m, n in zip(models, long, strict=True) if n == name}) > 1}
    names = []
    for model, metric, name in zip(models, metrics, long, strict=True):
        comma = "," if metric.meta.get("factors") else ""
        seed = f"{comma} seed {model.attributes['seed']}" if name in several else ""
        record = metric.meta["record"]
        names.append(f"{name}{seed}{' + walk' if record.get('walk') else ''}{_crf(record)}")
    return [name if names.count(name) == 1 else f"{name} #{names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _crf(record: Mapping[str, Any]) -> str:
    if record["crf"]:
        return " + CRF"
    return " + CRF (left out)" if record.get("crf_choice") else ""


def _thinned(model: Store) -> str:
    options = model.meta["labels"]["options"]
    return f" ({', '.join(f'{n} {v}' for n, v in options.items())})" if options else ""


def _one_curve_each(runs: Sequence[Run], models: Mapping[str, str]) -> list[Run]:
    """The runs, with training curves only at the first shown run of each network."""
    first = {model: name for name, model in reversed(list(models.items()))}
    return [run if run.name in first.values() else replace(run, curves={}) for run in runs]


def _run(name: str, metrics: Store, model: Store, walks: bool) -> Run:
    """One row of the report.

    If some runs use the random walk at test time (``walks``), every run gets the factor ``walk``, so that tables keep runs with
    and without the walk apart.
    """
    rows = model.log["epochs"]
    columns = {key for row in rows for key in row} - {"step", "epoch", "phase", "seconds", "seconds_per_step"}
    columns = {c for c in columns if c == "loss" or any(row.get(c) != row["loss"] for row in rows)}  # a sole term
    labels = model.meta["labels"]
    return Run(
        name=name,
        method=model.meta["method"]["name"],
        supervision=_supervision(labels["annotation"], labels["simulated"]),
        metrics=metrics.meta["record"],
        is_upper_bound=labels["annotation"] == "mask" and not labels["options"],
        confusion=np.array(metrics.meta["total"]),
        curves={key: [(row["step"], row[key]) for row in rows if key in row] for key in sorted(columns)},
        details={
            "parameters": model.log["parameters"],
            "training images": model.meta["num_images"],
            **_precision(model),
            **model.params,
        },
        factors=(_walk(metrics.meta["record"]) if walks else {}) | metrics.meta.get("factors", {}),
        last_epoch=rows[-1] if rows else {},
    )


def _precision(model: Store) -> dict[str, str]:
    """Precision of the training and its reason; empty if the model store did not record it."""
    return {"computed in": str(Precision(**model.log["precision"]))} if "precision" in model.log else {}


def _walk(record: Mapping[str, Any]) -> dict[str, str]:
    settings = ", ".join(f"{name} {value:g}" for name, value in record.get("walk", {}).items())
    return {"walk": f"walk ({settings})" if settings else "no walk"}


def _supervision(annotation: str, simulated: bool) -> str:
    names = {
        "mask": "dense masks",
        "tag": "image tags",
        "scribble": "simulated scribbles" if simulated else "scribbles",
        "point": "simulated points" if simulated else "points",
        "box": "boxes of masks" if simulated else "boxes",
    }
    return names.get(annotation, annotation)


def _subtitle(samples: Store, runs: Sequence[Run]) -> str:
    splits = {run.metrics["split"]: run.metrics["num_images"] for run in runs}
    scored = ", ".join(f"{count} images of '{split}'" for split, count in splits.items() if count)
    return f"{samples.meta['kind']} data set, {len(samples.meta['classes'])} classes; scored on {scored or 'nothing'}"


def _pictures(
    count: int,
    samples: Store,
    labels: Store | None,
    shown: Mapping[str, tuple[Store, Store]],
    runs: Sequence[Run],
    superpixels: Sequence[Store],
    illustrated: Sequence[Store],
) -> list[Picture]:
    """Choose the images of the report and collect their pictures.

    The images are the best, median and worst ones of the first shown run that is not an upper bound. If no image has a score,
    images of that run are evenly spread. If reporting stages painted some of the scored images (``illustrated``), these images
    are preferred within the best, the middle and the worst third.

    After them follow images that a reporting stage painted but no shown run predicted, such as training images. There are at
    most as many of these as of the others.
    """
    runs = [run for run in runs if run.name in shown]
    if not runs or not count:
        return []
    lead = next((run.name for run in runs if not run.is_upper_bound), runs[0].name)
    scores = {i: _image_score(shown[lead][0], i) for i in shown[lead][0].ids}  # of images with masks
    ranked = sorted((i for i, s in scores.items() if s is not None), key=lambda i: -float(scores[i] or 0))
    count_of_ranks = count
    count = min(count, max(1, len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    parts = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[-count:]}
    if any(i in store for store in illustrated for i in ranked):
        thirds = [part.tolist() for part in np.array_split(np.array(ranked), 3)]
        thirds[-1].reverse()  # its worst images first
        thirds = [sorted(third, key=lambda i: not any(i in store for store in illustrated)) for third in thirds]
        names = ("from the best third", "from the middle third", "from the worst third")
        parts = {name: third[:count] for name, third in zip(names, thirds, strict=True)}
    if not ranked:
        parts = {"not scored": evenly(shown[lead][1].ids, 3 * count_of_ranks)}
    chosen = {i: rank for rank, ids in parts.items() for i in ids}
    others = dict.fromkeys(i for store in illustrated for i in store.ids if not any(i in p for _, p in shown.values()))
    chosen |= dict.fromkeys(evenly(list(others), len(chosen)), "without prediction")
    pictures = []
    for image_id, rank in chosen.items():
        here = {name: stores for name, stores in shown.items() if image_id in stores[1]}
        image = samples.get("image", image_id)
        borders = [_borders(store, image_id, image) for store in superpixels if image_id in store]
        pictures.append(
            Picture(
                image_id=image_id,
                rank=rank,
                image=image,
                scribble=_of(labels, "labels", image_id),
                boxes=_of(labels, "boxes", image_id),
                truth=samples.get("mask", image_id) if samples.has("mask", image_id) else None,
                predictions={name: stores[1].get("labels", image_id) for name, stores in here.items()},
                scores={
                    name: _image_score(stores[0], image_id) for name, stores in here.items() if image_id in stores[0]
                },
                galleries=borders + [_gallery(store, image_id) for store in illustrated if image_id in store],
            )
        )
    return pictures


def _of(labels: Store | None, item: str, image_id: str) -> NDArray[Any] | None:
    here = labels is not None and image_id in labels and labels.has(item, image_id)
    return labels.get(item, image_id) if labels is not None and here else None


def _borders(superpixels: Store, image_id: str, image: NDArray[np.uint8]) -> Gallery:
    """The borders of an image's superpixels, drawn over the image."""
    ids = superpixels.get("superpixels", image_id)
    return Gallery(f"{ids.max() + 1} superpixels", [(str(superpixels.meta["method"]), outlined(image, ids))])


def _gallery(store: Store, image_id: str) -> Gallery:
    """The pictures that a stage painted of an image. The heading is from ``meta["titles"]``, or else the name of the stage."""
    title = store.meta.get("titles", {}).get(image_id, store.attributes["stage"])
    return Gallery(str(title), list(zip(store.meta["captions"], store.get("tiles", image_id), strict=True)))


def _image_score(metrics: Store, image_id: str) -> float | None:
    """Mean IoU over the classes in the image's mask or prediction."""
    each = iou(metrics.get("confusion", image_id))
    return None if np.isnan(each).all() else float(np.nanmean(each))


def _data(samples: Store, labels: Store | None, split: str) -> DataSummary:
    """Summary of the training data: the images of the split that the first run was trained on."""
    classes = samples.meta["classes"]
    train = samples.meta["splits"].get(split, [])
    counts = np.zeros((2, 256), np.int64)
    for image_id in train:
        if labels is not None and image_id in labels:
            counts[0] += np.bincount(labels.get("labels", image_id).ravel(), minlength=256)
        if samples.has("mask", image_id):
            counts[1] += np.bincount(samples.get("mask", image_id).ravel(), minlength=256)
    total = counts[0].sum()
    facts = {} if labels is None else {"annotation": labels.meta["annotation"], **labels.meta["options"]}
    if labels is not None and "objects" in labels.meta:
        facts["scribbles on one object"] = f"in {labels.meta['objects']}"
    return DataSummary(
        name=samples.meta["kind"],
        splits={name: len(ids) for name, ids in samples.meta["splits"].items()},
        coverage=float(1 - counts[0, 255] / total) if total else None,
        label_pixels=dict(zip(classes, counts[0].tolist(), strict=False)) if total else {},
        truth_pixels=dict(zip(classes, counts[1].tolist(), strict=False)) if counts[1].any() else {},
        facts=facts,
    )


def _step(store: Store) -> Step:
    names = ("seed", "wss_version", "torch_version", "device", "created", "duration_s")
    details: dict[str, Any] = {name: store.attributes[name] for name in names}
    inputs = {role: [s["key"][:12] for s in sources] for role, sources in store.inputs.items()}
    return Step(str(store.attributes["stage"]), store.key, {**details, "params": store.params, "inputs": inputs})


def _environment(stores: Sequence[Store]) -> dict[str, str]:
    names = {"wss": "wss_version", "torch": "torch_version", "device": "device"}
    return {shown: ", ".join(sorted({str(s.attributes[name]) for s in stores})) for shown, name in names.items()}


def _publish(store: Store, workspace: Path) -> list[Path]:
    if "left_out" in store.meta:
        return []
    path = workspace / "report.html"
    write_bytes(path, store.array("html").tobytes())
    return [path]


STAGE = Stage(
    "report",
    5,
    ReportParams,
    {
        "samples": Input(SAMPLES),
        "labels": Input(LABELS, optional=True),
        "models": Input(MODEL, many=True),
        "predictions": Input(PREDICTIONS, many=True),
        "metrics": Input(METRICS, many=True),
        "quality": Input(QUALITY, many=True, optional=True),
        "pictures": Input(PICTURES, many=True, optional=True),
        "superpixels": Input(SUPERPIXELS, many=True, optional=True),
    },
    REPORT,
    run,
    publish=_publish,
    reports=True,
)
