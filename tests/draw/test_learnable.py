"""Trainings that cannot succeed are refused before they begin, in one sentence with its remedy."""

import re
import shutil
import sys

import numpy as np
import pytest
from draw_client import make_folder, stroke
from PIL import Image

from wss.cli.budget import TOO_SHORT
from wss.draw import job, training
from wss.draw.doing import DOING, doing
from wss.pipeline.auto import RULES

TWO = (stroke("l", 0, (4, 4), (8, 40)), stroke("r", 1, (50, 4), (56, 40)))


@pytest.fixture(autouse=True)
def begun(monkeypatch):
    """Folders of the trainings that were begun; none of them computes anything."""
    folders = []

    def command(folder):
        folders.append(folder)
        return ["true"]

    monkeypatch.setattr(training, "_command", command)
    return folders


def _refused(page, pipeline="pce", status=409):
    error = page.post("/api/training", {"pipeline": pipeline, "budget_s": 30}, status)["error"]
    assert page.get("/api/training")["state"] == "none"
    return error


@pytest.mark.parametrize("pipeline", ["auto", "pce"])
def test_nothing_is_drawn(page, pipeline):
    assert "draw on some images" in _refused(page, pipeline)


@pytest.mark.parametrize("pipeline", ["auto", "pce"])
def test_one_class_alone(page, begun, pipeline):
    page.draw(page.image("a"), TWO[1])
    page.draw(page.image("b"), stroke("other", 1, (5, 5), (9, 9)))
    error = _refused(page, pipeline)
    assert error.startswith("leaf is the only class") and "a second one" in error
    page.draw(page.image("b"), TWO[0])  # the remedy
    page.post("/api/training", {"pipeline": pipeline, "budget_s": 30})
    assert len(begun) == 1


def test_the_second_class_is_erased_again(page):
    page.draw(page.image("a"), *TWO, {"id": "e", "kind": "erase", "width": 60, "points": [[53, 4], [56, 40]]})
    assert _refused(page).startswith("background is the only class")


def test_boxes_are_no_strokes(page, begun):
    page.draw(page.image("a"), {"id": "b", "kind": "box", "class": 1, "x0": 2, "y0": 2, "x1": 9, "y1": 9})
    assert "only boxes; draw strokes, or choose auto" in _refused(page)
    page.post("/api/training", {"pipeline": "auto", "budget_s": 30})
    assert len(begun) == 1


def test_all_annotated_images_are_kept_for_scores(page, begun):
    image = page.image("a")
    page.draw(image, *TWO)
    page.propagate(image)
    page.post(f"/api/images/{image}/truth", {"base": 1, "source": "propagation"})
    assert "every annotated image is in val" in _refused(page)
    page.post(f"/api/images/{image}/split", {"split": "train"})
    page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
    assert len(begun) == 1


def test_no_truth_is_needed(page, begun):
    page.draw(page.image("a"), *TWO)
    page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
    assert len(begun) == 1


def test_auto_would_look_at_none_of_the_few_annotated_images(tmp_path, open_page, begun):
    names = [f"n{number:02}" for number in range(45)]
    folder = make_folder(tmp_path / "many", names=names)
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in names))
    page = open_page(folder)
    page.classes("leaf")
    page.draw(page.image("n01"), *TWO)  # of 45, every second or third is looked at, from the first
    assert "choose a pipeline by its name" in _refused(page, "auto")
    page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
    assert len(begun) == 1


@pytest.mark.parametrize("listed", [True, False])
def test_own_lists_with_pictures_that_cannot_be_read(folder, open_page, begun, listed):
    (folder / ("train.txt" if listed else "test.txt")).write_text("a\nb\n" if listed else "c\n")
    page = open_page(folder)
    page.classes("leaf")
    page.draw(page.image("a"), *TWO)
    before = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(b"no picture")
    error = _refused(page)
    assert re.search(r"of train cannot be read: b;", error)
    assert ("take their lines out of train.txt" if listed else "move them out of the folder") in error
    entry = next(i for i in page.get("/api/project")["images"] if i["name"] == "b")
    assert "b.png" in entry["error"]
    if listed:
        (folder / "train.txt").write_text("a\n")
    else:
        (folder / "b.png").write_bytes(before)
    page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
    assert len(begun) == 1


def test_a_workspace_that_was_removed_is_made_anew(page, begun):
    page.draw(page.image("a"), *TWO)
    shutil.rmtree(page.studio.project.root / "workspace")
    page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
    assert len(begun) == 1 and page.studio.project.workspace.configured


def test_own_masks_teach_without_strokes(folder, open_page, begun):
    (folder / "train.txt").write_text("a\nb\n")
    (folder / "masks").mkdir()
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(folder / "masks/a.png")
    page = open_page(folder)
    page.classes("leaf")
    assert "only masks; draw strokes, or choose auto" in _refused(page)
    page.post("/api/training", {"pipeline": "auto", "budget_s": 30})
    assert len(begun) == 1


class TestBudget:
    @pytest.fixture
    def short(self, page, monkeypatch):
        """A training whose budget of 30 seconds was too short: `wss run` asks for 77."""
        page.draw(page.image(), *TWO)
        error = TOO_SHORT.format(budget="30s", least=77)
        script = (
            "import sys; from pathlib import Path; from wss.draw import job\n"
            f"job.command = lambda j: [sys.executable, '-c', 'import sys; print(\"error: {error}\", file=sys.stderr); "
            "sys.exit(2)'] if j['budget_s'] < 77 else ['true']\n"
            "job._predict = lambda *a: None\n"
            "sys.exit(job.main(Path(sys.argv[1])))"
        )
        monkeypatch.setattr(training, "_command", lambda folder: [sys.executable, "-c", script, str(folder)])
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        self.wait(page, "failed")
        return page

    def wait(self, page, state):
        import time

        deadline = time.monotonic() + 60
        while (found := page.get("/api/training"))["state"] != state:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def test_the_message_says_what_to_change(self, short):
        found = short.get("/api/training")
        assert found["least_s"] == 77
        assert found["error"] == "a budget of 30 seconds is too short on this machine; give at least 77 seconds"

    def test_the_same_is_not_tried_again(self, short):
        for body in ({}, {"budget_s": 30}, {"budget_s": 76}):
            assert "at least 77 seconds" in short.post("/api/training/resume", body, 409)["error"]
        short.post("/api/training/resume", {"budget_s": "80"}, 400)

    def test_a_longer_budget_goes_on(self, short, monkeypatch):
        monkeypatch.setattr(
            training, "_command", lambda folder: [sys.executable, "-c", "import time; time.sleep(60)", str(folder)]
        )
        assert short.post("/api/training/resume", {"budget_s": 80})["state"] == "running"
        folder = short.studio.trainer._last()
        assert job.read_json(folder / "job.json")["budget_s"] == 80
        assert job.read_json(folder / "job.json")["pipeline"] == "pce"
        short.post("/api/training/stop", {})

    def test_other_errors_stay_as_they_are(self):
        assert job.failure("the disk is full", 30) == {"error": "the disk is full"}


def test_every_stage_that_can_run_has_plain_words():
    from wss.pipeline.spec import load_pipeline, shipped_pipelines

    names = {*training.PIPELINES, *(rule.pipeline for rule in RULES)} - {"auto"}
    kinds = {node.stage.name for name in names for node in load_pipeline(shipped_pipelines()[name]).nodes.values()}
    assert len(kinds) > 10 and kinds <= set(DOING)
    assert doing("something-new") == "Working"
