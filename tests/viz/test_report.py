from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from wss.errors import UsageError
from wss.metrics import confusion_matrix, metrics_record, miou
from wss.viz import DataSummary, Gallery, Picture, Report, Run, Step, render_report, tabulate

CLASSES = ("background", "cat", "dog")
VOID_ELEMENTS = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page and checks that every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> at {self.getpos()} closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def record(confusion, **changes):
    settings = {
        "split": "val",
        "num_images": 2,
        "crf": False,
        "scales": [1.0],
        "flip": False,
        "backbone": "unet",
        "initialisation": "none",
        "method": "pce",
        "store_key": "k",
    }
    return metrics_record(confusion, CLASSES, **{**settings, **changes})


@pytest.fixture(scope="module")
def report() -> Report:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    truth = np.zeros((60, 80), np.uint8)
    truth[10:40, 10:40], truth[:, 78:] = 1, 255
    weak, full = truth.copy(), truth.copy()
    weak[10:40, 10:25], full[10:40, 10:13] = 0, 0
    weak[weak == 255], full[full == 255] = 0, 0
    scribble = np.full((60, 80), 255, np.uint8)
    scribble[20, 15:35], scribble[50, 5:70] = 1, 0
    confusions = {"pce": confusion_matrix(truth, weak, 3), "dense": confusion_matrix(truth, full, 3)}
    runs = [
        Run(
            name,
            name,
            "dense masks" if name == "dense" else "scribbles",
            record(c, dice_per_class={"cat": 0.625}, hd95_per_class={"cat": 4.25}),
            is_upper_bound=name == "dense",
            confusion=c,
            curves={"loss": [(1, 2.0), (2, 1.0)], "val_miou": [(1, None), (2, 0.4)], "epoch": [(1, 1), (2, 2)]},
            details={"optimiser": {"lr": 0.01, "nesterov": False}, "phases": [{"epochs": 3}, {"epochs": 4}]},
        )
        for name, c in confusions.items()
    ]
    pictures = [
        Picture(
            f"image {rank}", image, rank, scribble, truth, {"pce": weak, "dense": full}, {"pce": 0.5, "dense": None}
        )
        for rank in ("worst", "best", "median")
    ]
    return Report(
        "Cats and dogs",
        CLASSES,
        runs,
        subtitle="A subtitle",
        summary="A summary.",
        background=0,
        pictures=pictures,
        data=DataSummary(
            "Pets", {"train": 1234, "val": 1}, 0.0123, {"cat": 20, "background": 65}, {"background": 1, "cat": 3}
        ),
        provenance=[Step("train", "0123456789abcdef" * 4, {"seconds": 12.5, "inputs": {"labels": "feed"}})],
        environment={"torch": "2.4", "seed": 7},
        created="2024-05-06",
    )


def test_the_page_is_valid_and_says_what_was_measured(report):
    page = Page(render_report(report))
    weak, full = (run.metrics["miou"] for run in report.runs)
    for words in (
        "Cats and dogs",
        "A subtitle",
        "A summary.",
        f"pce , trained on scribbles, reaches {100 * weak:.1f}% mIoU on val (2 images), {100 * weak / full:.1f}% of the "
        f"{100 * full:.1f}% that dense reaches with dense masks.",
        "upper bound",
        "single scale",
        "1,234 images",
        "1 image",
        "1.23%",
        "Dice, pce",
        "62.5%",
        "4.2",
        "0123456789ab",
        "nesterov no",
        "feed",
        "torch 2.4",
        "Made 2024-05-06 by wss.",
    ):
        assert words in page.text, words
    assert "nan" not in page.text.lower().split()


def test_scores_of_training_images_have_a_curve_in_percent(report):
    runs = [
        dataclasses.replace(run, curves={**run.curves, "train_miou": [(1, 0.25), (2, 0.45)]}) for run in report.runs
    ]
    page = render_report(dataclasses.replace(report, runs=runs))
    assert "mIoU on training images. pce: from 25% to 45%" in page
    assert "mIoU on training images. pce" not in render_report(report)


def test_weak_over_full_is_given_class_by_class(report):
    page = Page(render_report(report))
    weak, full = (run.metrics["iou_per_class"] for run in report.runs)
    cat = page.text.split("IoU by class")[1].split(" cat ")[1].split(" dog ")[0].split()
    assert cat == [f"{100 * weak['cat']:.1f}%", f"{100 * weak['cat'] / full['cat']:.0f}%", f"{100 * full['cat']:.1f}%"]
    dog = page.text.split("IoU by class")[1].split(" dog ")[1].split(" Mean ")[0].split()
    assert dog == ["\u2013"] * 3


def test_the_page_needs_nothing_else(report):
    html = render_report(report)
    page = Page(html)
    assert "http://" not in html
    assert "https://" not in html
    assert not page.all("script")
    assert not re.search(r"@import|url\(", html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "srcset"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, name)
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_can_be_read_without_seeing_it(report):
    html = render_report(report)
    page = Page(html)
    assert ("html", {"lang": "en"}) in page.tags
    images = page.all("img")
    assert len(images) == 3 * (3 + 2 * 2)
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(th["scope"] in ("col", "row") for th in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = [a["href"][1:] for a in page.all("a")] + [
        attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes
    ]
    assert set(targets) <= set(ids)
    assert "Classes of image best predicted by pce: background, cat" in {image["alt"] for image in images}
    wrong = 15 * 30 / (78 * 60)
    assert f"Errors of pce on image best: {100 * wrong:.1f}% of the pixels are wrong" in {i["alt"] for i in images}


def test_pictures_come_best_first(report):
    text = Page(render_report(report)).text
    assert text.index("image best") < text.index("image median") < text.index("image worst")


def test_names_cannot_inject_markup(report):
    evil = '<script>alert("x")</script>'
    runs = [
        dataclasses.replace(
            report.runs[0],
            name=evil,
            method=evil,
            supervision=evil,
            metrics={**report.runs[0].metrics, "split": evil, "backbone": evil, "iou_per_class": {evil: 0.5}},
            curves={evil: [(0, 1.0)]},
            details={evil: {evil: [evil]}},
        )
    ]
    pictures = [
        dataclasses.replace(report.pictures[0], image_id=evil, rank=evil, predictions={evil: report.pictures[0].truth})
    ]
    pictures = [dataclasses.replace(pictures[0], scores={evil: 0.5})]
    page = render_report(
        Report(
            evil,
            ("background", evil, "dog"),
            runs,
            subtitle=evil,
            summary=evil,
            pictures=pictures,
            data=DataSummary(evil, {evil: 1}, 0.1, {evil: 1}, {evil: 1}, {evil: evil}),
            provenance=[Step(evil, evil, {evil: evil})],
            environment={evil: evil},
            created=evil,
        )
    )
    assert not Page(page).all("script")
    assert "<script" not in page.lower()
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "changes",
    [
        {"runs": (), "pictures": ()},
        {"pictures": ()},
        {"data": None},
        {"provenance": (), "environment": {}},
        {"data": DataSummary("Pets")},
        {"palette": np.zeros((3, 3), np.uint8), "background": None},
    ],
    ids=str,
)
def test_missing_parts_leave_their_sections_out(report, changes):
    page = Page(render_report(dataclasses.replace(report, **changes)))
    sections = {attributes.get("id") for attributes in page.all("section")}
    links = {a["href"][1:] for a in page.all("a")} - {"main"}
    assert links == sections - {None}
    assert ("pictures" in sections) == bool(changes.get("pictures", True))
    assert ("data" in sections) == (changes.get("data", True) is not None)


def test_a_run_without_anything_is_still_a_page(report):
    page = Page(render_report(Report("Empty", CLASSES, [Run("pce", "pce", "scribbles")])))
    assert "No run has been scored yet." in page.text
    assert not page.all("svg")


def test_a_single_run_has_no_upper_bound_to_speak_of(report):
    page = Page(render_report(dataclasses.replace(report, runs=report.runs[:1], pictures=())))
    assert "WvF" not in page.text
    assert "upper bound" not in page.text.lower()


def test_scores_may_be_undefined(report):
    empty = np.zeros((3, 3), np.int64)
    runs = [
        Run("pce", "pce", "scribbles", record(empty), confusion=empty),
        Run("part", "pce", "scribbles", {"miou": 0.5}),
        Run("dense", "dense", "dense masks", record(empty), is_upper_bound=True),
    ]
    page = Page(render_report(Report("Void", CLASSES, runs)))
    assert "part (pce), trained on scribbles, reaches 50.0% mIoU." in page.text
    assert "WvF" not in page.text


def test_pictures_without_masks_have_no_error_maps(report):
    pictures = [dataclasses.replace(p, truth=None, scribble=None, scores={}) for p in report.pictures]
    page = Page(render_report(dataclasses.replace(report, pictures=pictures)))
    assert len(page.all("img")) == 3 * 3
    assert "Errors" not in page.text
    assert "void, not counted" not in page.text


def test_a_run_with_a_crf_is_compared_with_the_bound_that_has_one(report):
    weak, full = report.runs

    def with_miou(run: Run, name: str, value: float, crf: bool) -> Run:
        return dataclasses.replace(run, name=name, metrics={**run.metrics, "miou": value, "crf": crf})

    runs = [
        with_miou(full, "dense", 0.8, False),
        with_miou(full, "dense+CRF", 0.9, True),
        with_miou(weak, "pce+CRF", 0.45, True),
    ]
    text = Page(render_report(dataclasses.replace(report, runs=runs, pictures=()))).text
    assert (
        "pce+CRF , trained on scribbles, reaches 45.0% mIoU on val (2 images) after a CRF, 50.0% of the 90.0%" in text
    )
    alone = Page(render_report(dataclasses.replace(report, runs=[runs[0], runs[2]], pictures=()))).text
    assert "56.2% of the 80.0% that dense reaches with dense masks without a CRF." in alone


def test_a_run_is_compared_with_the_bound_of_its_network(report):
    def changed(run: Run, name: str, miou: float, backbone: str, **factors: str) -> Run:
        metrics = {**run.metrics, "miou": miou, "backbone": backbone}
        return dataclasses.replace(run, name=name, metrics=metrics, factors=factors)

    weak, full = report.runs
    runs = [changed(weak, "weak", 0.3, "resnet", network="resnet", scale="s")]
    runs += [changed(full, "vgg", 0.4, "vgg", network="vgg", scale="s")]
    runs += [
        changed(full, f"resnet {s}", miou, "resnet", network="resnet", scale=s) for s, miou in (("l", 0.5), ("s", 0.6))
    ]
    text = Page(render_report(dataclasses.replace(report, runs=runs, pictures=()))).text
    assert "50.0% of the 60.0% that resnet s reaches with dense masks." in text


def test_nine_large_pictures_stay_below_five_megabytes(report):
    rng = np.random.default_rng(1)
    names = [f"run {i}" for i in range(6)]
    runs = [dataclasses.replace(report.runs[0], name=name) for name in names]
    image = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)  # noise: nothing compresses worse
    truth = rng.integers(0, 3, (375, 500), dtype=np.uint8)
    pictures = [
        Picture(f"{i}", image, "best", truth, truth, dict.fromkeys(names, truth), dict.fromkeys(names, 0.5))
        for i in range(9)
    ]
    html = render_report(dataclasses.replace(report, runs=runs, pictures=pictures))
    assert len(html.encode()) < 5_000_000
    assert len(Page(html).all("img")) == 9 * (3 + 2 * 6)


def test_what_does_not_fit_together_is_refused(report):
    with pytest.raises(UsageError, match="different name for every run"):
        render_report(dataclasses.replace(report, runs=[report.runs[0]] * 2))
    with pytest.raises(UsageError, match="no run is called 'dense'"):
        render_report(dataclasses.replace(report, runs=report.runs[:1]))
    with pytest.raises(UsageError, match="3 classes, but 2 colours"):
        render_report(dataclasses.replace(report, palette=np.zeros((2, 3), np.uint8)))
    with pytest.raises(UsageError, match=r"got shape \(2, 2\)"):
        wrong = dataclasses.replace(report.runs[0], confusion=np.zeros((2, 2), np.int64))
        render_report(dataclasses.replace(report, runs=[wrong], pictures=()))
    with pytest.raises(UsageError, match="different class names"):
        render_report(Report("x", ("a", "a")))


def test_the_picture_scores_shown_are_those_given(report):
    picture = report.pictures[0]
    score = miou(confusion_matrix(picture.truth, picture.predictions["pce"], 3))
    shown = dataclasses.replace(picture, scores={"pce": score})
    assert f"pce {100 * score:.1f}% mIoU" in Page(render_report(dataclasses.replace(report, pictures=[shown]))).text


def study_runs(report, lengths=(0.0, 0.5, 1.0), losses=("pce", "ncut"), seeds=(0, 1)):
    """Runs of a study: the mIoU is 0.5, plus a hundredth for each length, loss, seed and CRF; 0.8 on dense masks."""
    runs = []
    for i, length in enumerate(lengths):
        for j, loss in enumerate(losses):
            for seed in seeds:
                for crf in (False, True):
                    score = 0.5 + 0.01 * (i + j + seed + crf)
                    metrics = {**report.runs[0].metrics, "miou": score, "crf": crf}
                    name = f"loss {loss}, length {length:g}, seed {seed}{' + CRF' if crf else ''}"
                    factors = {"loss": loss, "length": length, "seed": seed}
                    log = {"pce": 0.25 + seed}
                    runs.append(
                        dataclasses.replace(report.runs[0], name=name, metrics=metrics, factors=factors, last_epoch=log)
                    )
    full = dataclasses.replace(report.runs[1], name="loss full", factors={"loss": "full"})
    return [*runs, dataclasses.replace(full, metrics={**full.metrics, "miou": 0.8})]


def test_a_study_is_a_table_and_a_chart(report):
    runs = study_runs(report)
    study = tabulate(
        runs, title="Shorter", rows="length", columns="loss", values=["miou", "pce"], baseline=1, text="A paragraph."
    )
    html = render_report(dataclasses.replace(report, runs=runs, pictures=(), studies=[study]))
    page = Page(html)
    text = page.text.split(" Studies ")[2]
    assert text.startswith("Shorter A paragraph. length pce ncut mIoU mIoU + CRF Partial cross-entropy mIoU")
    first = text.split(" 0 ")[1]
    assert first.startswith(
        "50.5% \u00b1 0.7 (\u221229.5) \u2193 3.8% 51.5% \u00b1 0.7 \u2193 3.7% 0.750 \u00b1 0.71 51.5%"
    )
    assert "full supervision 80.0% \u2013 \u2013 80.0%" in text
    assert "Means over 2 runs each \u00b1 sample standard deviation." in text
    labels = [svg["aria-label"] for svg in page.all("svg")]
    (spoken,) = (label for label in labels if label.startswith("mIoU over length"))
    assert "pce: 50.5% at 0, 51.5% at 0.5, 52.5% at 1; pce + CRF: 51.5% at 0" in spoken
    assert "full supervision: 80% at 0, 80% at 1" in spoken
    assert "full supervision + CRF" not in spoken
    assert any(label.startswith("Partial cross-entropy over length. pce: 0.75 at 0") for label in labels)
    assert all(th["scope"] in ("col", "row", "colgroup") for th in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)


def test_a_study_over_names_has_no_chart_and_dashes_for_what_is_missing(report):
    runs = study_runs(report, lengths=(1.0,), seeds=(0,))[1:]
    study = tabulate(runs, title="CRF", rows="loss", where={"length": 1.0})
    page = Page(render_report(dataclasses.replace(report, runs=runs, pictures=(), studies=[study])))
    text = page.text.split(" Studies ")[2]
    assert text.startswith(
        "CRF loss mIoU mIoU + CRF pce \u2013 51.0% ncut 51.0% (\u221229.0) 52.0% full upper bound 80.0% \u2013"
    )
    assert "A dash: no such run." in text
    assert not any("over loss" in svg["aria-label"] for svg in page.all("svg"))


def test_runs_averaged_over_different_numbers_say_so(report):
    runs = [r for r in study_runs(report) if r.name != "loss pce, length 0, seed 1"]
    study = tabulate(runs, title="Shorter", rows="length", columns="loss")
    text = Page(render_report(dataclasses.replace(report, runs=runs, pictures=(), studies=[study]))).text
    assert "50.0% n=1 (\u221230.0)" in text
    assert "51.5% \u00b1 0.7 n=2" in text


def test_of_many_runs_the_page_shows_a_few_one_by_one(report):
    runs = study_runs(report, lengths=[0.1 * n for n in range(10)], seeds=(0, 1, 2))
    steps = [Step("train", f"{n:064d}", {"seconds": n}) for n in range(200)]
    study = tabulate(runs, title="Shorter", rows="length", columns="loss")
    html = render_report(dataclasses.replace(report, runs=runs, pictures=(), studies=[study], provenance=steps))
    page = Page(html)
    assert len(html.encode()) < 1_000_000
    confusions = [svg["aria-label"] for svg in page.all("svg") if svg["aria-label"].startswith("Confusion")]
    assert len(confusions) == 3
    best = "loss ncut, length 0.9, seed 2 + CRF"
    assert any(best in label for label in confusions)
    assert len([li for li in page.all("li") if (li.get("class") or "").startswith("card")]) == 3
    assert f"Of {len(runs)} runs, the best of each column" in page.text
    rows = page.text.split(f"All {len(runs)} runs")[1].split("IoU by class")[0]
    assert all(run.name in rows for run in runs)


def test_names_of_studies_cannot_inject_markup(report):
    evil = '<script>alert("x")</script>'
    runs = [dataclasses.replace(report.runs[0], factors={evil: level, "b": evil}) for level in (0.5, 1.0)]
    runs = [dataclasses.replace(run, name=f"{n}", last_epoch={evil: 1.0}) for n, run in enumerate(runs)]
    study = tabulate(runs, title=evil, text=evil, rows=evil, columns="b", values=["miou", evil], baseline=1.0)
    page = render_report(Report("x", CLASSES, runs, studies=[study]))
    assert not Page(page).all("script")
    assert "<script" not in page.lower()


def test_boxes_take_the_place_of_scribbles(report):
    boxes = np.array([[1, 1, 1, 3, 3]], np.int32)
    pictures = [dataclasses.replace(picture, boxes=boxes) for picture in report.pictures]
    page = render_report(dataclasses.replace(report, pictures=pictures))
    assert f"Boxes on {report.pictures[0].image_id}: {report.classes[1]}" in page
    assert "Scribbles on" not in page


def test_galleries_stand_with_their_image(report):
    red = np.full((60, 80, 3), (255, 0, 0), np.uint8)
    gallery = Gallery("Gradients of cat", [(f"loss {n}", red) for n in range(4)])
    pictures = [dataclasses.replace(report.pictures[0], galleries=[gallery]), *report.pictures[1:]]
    page = Page(render_report(dataclasses.replace(report, pictures=pictures)))
    assert len(page.all("img")) == 3 * (3 + 2 * 2) + 4
    assert "loss 2, image worst: Gradients of cat" in {image["alt"] for image in page.all("img")}
    after = page.text.split("image worst")[1]
    assert after.index("Gradients of cat") < after.index("Prediction")
