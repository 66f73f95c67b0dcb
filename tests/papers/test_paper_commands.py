"""Every command of the page on the papers runs from the files of a data set to its report, and does what the page says."""

import html
import re
from pathlib import Path

import pytest

import wss
from tests.cli.commands import call
from tests.papers.harness import arguments, plan, run_small
from tests.papers.page import as_text, facts, others_of, read_page, untrue
from tests.voc_files import SBD, TRAIN, VAL, write_voc
from wss.pipeline.spec import shipped_pipelines
from wss.store import Store

PAGE = Path(wss.__file__).parents[1] / "docs/papers.md"
COMMANDS = read_page(PAGE.read_text())

IMAGES = {"voc": len(TRAIN + SBD), "context": len(TRAIN), "densepose": 4, "saliency": 4}
"""Training images: VOC's and SBD's, without VOC's validation images."""
SCORED = {"voc": len(VAL), "context": 2, "densepose": 2, "saliency": 2}
FEWER = {
    "wss run": {"network": ["resnet101"]},
    "wss run study-losses -w voc --preset voc2012-networks": {"network": [], "loss": ["pce", "kernelcut"]},
    "wss run study-lengths": {"loss": ["pce", "kernelcut"]},
    "wss run study-rawks -w context": {"bound": ["spcon"]},
    "wss run study-spml -w": {"relations": ["annotation", "with-affinity", "similarity-0"]},
}
"""Levels to run by the beginning of commands; longer ones count more, and an empty list means all."""
ROWS, COLUMNS = "row", "col(?:group)?"
LABELLED = {1: 10, 0.6615: 7, 0.4725: 5, 0.2835: 3}
"""Training images of VOC with masks, by the share that keeps them."""


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_page_says_is_true(command, files, desk):
    words = arguments(command, files)
    whole = plan(words)
    true = facts(whole)
    wrong = list(untrue(COMMANDS[command], true))
    assert not wrong, f"{wrong}\n{as_text(true)}"
    _check_images(words, whole)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs_to_its_report(command, files, desk):
    words = arguments(command, files)
    whole = plan(words)
    fewer: dict[str, list[str]] = {}
    for beginning in filter(command.startswith, FEWER):
        fewer |= FEWER[beginning]
    done = run_small(words, whole, desk, fewer)
    assert set(done.outcomes) == set(done.plan.stages)
    for name, row in done.plan.of("train").items():
        store = Store(Path(done.outcomes[name]["store"]))
        assert store.meta["num_images"] == row["protocol"]["images"] == whole.stages[name]["protocol"]["images"]
        assert store.log["epochs"][-1]["step"] == len(row["protocol"]["phases"])
    for name in done.plan.of("evaluate"):
        record = done.outcomes[name]["record"]
        assert 0 <= record["miou"] <= 1
        assert record["num_images"] == SCORED[_workspace(words)]
    _check_report(done.page, facts(done.plan), done.plan)
    claims = COMMANDS[command]
    for table in others_of(claims, facts(whole)):
        assert any(_has(text, table) for text in done.page.split("</table>")), table
    assert [text for text in claims.shows if f">{html.escape(text)}<" not in done.page] == []


def _workspace(words):
    return words[words.index("-w") + 1]


def _check_images(words, whole):
    kind = _workspace(words)
    protocols = {name: row["protocol"] for name, row in whole.of("train").items()}
    splits = {name: row["params"]["split"] for name, row in whole.stages.items() if "split" in row["params"]}
    assert set(splits.values()) == {"trainaug" if kind == "voc" else "train", "val"}, splits
    if words[1] != "study-semi-supervision":
        assert {protocol["images"] for protocol in protocols.values()} == {IMAGES[kind]}
        return
    for share, images in LABELLED.items():
        ids = [f"train-{name}-{share}-0".replace(".", "_") for name in ("first", "pce", "densecrf")]
        assert [protocols[name]["images"] for name in ids] == [images, images, IMAGES[kind]]


def _check_report(page, true, small):
    """Every table of a study is there, with its rows and columns; a pipeline that is no study has its scores there."""
    assert "mIoU" in page
    (report,) = small.of("report").values()
    studies = report["params"]["studies"]
    for number, (study, table) in enumerate(zip(studies, true.tables, strict=bool(studies)), 1):
        heading = f'<h3 id="study-{number}">{html.escape(study["title"])}</h3>'
        assert heading in page
        text = page.split(heading)[1].split("</table>")[0]
        assert _cells(text, COLUMNS)[0] == study["rows"]
        assert _has(text, table), table


def _has(text, table):
    return set(table["rows"]) <= set(_cells(text, ROWS)) and set(table.get("columns", [])) <= set(_cells(text, COLUMNS))


def _cells(text, scope):
    """The words at the beginning of every head of this scope, before any mark of upper bounds."""
    return [html.unescape(cell).strip() for cell in re.findall(rf'<th scope="{scope}"[^>]*>([^<]*)', text)]


def test_every_study_is_on_the_page():
    named = {command.split()[2] for command in COMMANDS}
    assert {name for name in shipped_pipelines() if name.startswith("study-")} <= named


def test_without_sbd_nothing_runs(desk):
    bare = write_voc(desk / "bare", sbd=False)
    assert call("init", "--kind", "voc", "--root", bare, "-w", "bare-work").code == 0
    for more in ((), ("--dry-run",)):
        refused = call("run", "study-losses", "-w", "bare-work", "--preset", "voc2012-resnet101", *more)
        assert refused.code != 0
        for part in ("trainaug", "10,582", "benchmark_RELEASE/dataset", "split=train", "4 images here"):
            assert part in refused.said, refused.said
    assert not list((desk / "bare-work").rglob("*.h5"))
    assert not list((desk / "bare-work").rglob("*.partial"))
