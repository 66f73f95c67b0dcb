import io
import json
import os
import sys
import time
import zipfile

import numpy as np
import pytest
from draw_client import Page, halves, make_folder, stroke
from PIL import Image

from wss.datasets import open_source
from wss.draw import job, prepared, training
from wss.draw.painting import region_pixels
from wss.draw.project import open_project
from wss.draw.proposing import look, novelty
from wss.draw.studio import Studio
from wss.viz import encode_png, indexed_png

TWO = (stroke("l", 0, (4, 4), (8, 40)), stroke("r", 1, (50, 4), (56, 40)))
PALETTE = np.array([(0, 0, 0), (255, 0, 0)], np.uint8)


@pytest.fixture(autouse=True)
def quick_edges(monkeypatch):
    from wss.edges.build import DetectorParams

    monkeypatch.setattr(prepared, "DetectorParams", lambda: DetectorParams(detector="gradient"))


def _trained(page, labels, doubt=20):
    """Leave what a training leaves."""
    folder = page.studio.project.workspace.root / "draw-jobs/20260101-000000"
    (folder / "predictions").mkdir(parents=True)
    for name, mask in labels.items():
        (folder / f"predictions/{name}.png").write_bytes(indexed_png(mask, PALETTE))
        (folder / f"predictions/{name}.uncertainty.png").write_bytes(encode_png(np.full(mask.shape, doubt, np.uint8)))
    (folder / "index.json").write_text(json.dumps({name: n / 10 + 0.1 for n, name in enumerate(labels)}))
    (folder / "job.json").write_text('{"pipeline": "pce", "budget_s": 60}')
    (folder / "status.json").write_text('{"state": "done", "begun": 1, "finished": 41, "record": null}')


class TestAccepting:
    def test_one_region_of_a_propagated_mask_becomes_a_label(self, page):
        image = page.image()
        page.draw(image, *TWO)
        answer = page.post(f"/api/images/{image}/accept", {"base": 1, "source": "propagation", "x": 60.2, "y": 30})
        (region,) = [item for item in answer["annotation"]["objects"] if item["kind"] == "region"]
        assert region["class"] == 1 and answer["revision"] == 2
        inside = region_pixels(region["rle"])
        assert inside[30, 60] and not inside[30, 10] and abs(inside.sum() - 48 * 40) < 100
        assert page.change(image, {"op": "undo"})["annotation"]["objects"][-1]["id"] == "r"

    def test_of_two_regions_of_a_class_only_the_one_that_was_clicked(self, page):
        labels = np.zeros((48, 64), np.uint8)
        labels[2:10, 2:10] = labels[20:30, 20:30] = 1
        _trained(page, {"a": labels})
        image = page.image()
        answer = page.post(f"/api/images/{image}/accept", {"base": 0, "source": "prediction", "x": 25, "y": 25})
        inside = region_pixels(answer["annotation"]["objects"][0]["rle"])
        expected = np.zeros((48, 64), bool)
        expected[20:30, 20:30] = True
        np.testing.assert_array_equal(inside, expected)

    def test_what_cannot_be_accepted_says_why(self, page):
        path = f"/api/images/{page.image()}/accept"
        assert "two classes" in page.post(path, {"base": 0, "source": "propagation", "x": 1, "y": 1}, 400)["error"]
        assert "train first" in page.post(path, {"base": 0, "source": "prediction", "x": 1, "y": 1}, 404)["error"]
        page.draw(page.image(), *TWO)
        assert "another tab" in page.post(path, {"base": 0, "source": "propagation", "x": 1, "y": 1}, 409)["error"]
        assert "outside" in page.post(path, {"base": 1, "source": "propagation", "x": 99, "y": 1}, 400)["error"]
        page.post(path, {"base": 1, "source": "guess", "x": 1, "y": 1}, 400)
        page.post(path, {"base": 1, "source": "propagation", "x": "1", "y": None}, 400)


class TestTruth:
    def test_a_corrected_mask_is_kept_scored_and_removed(self, page, folder):
        image = page.image()
        page.draw(image, *TWO, stroke("fix", 1, (30, 2), (60, 2), width=5))
        answer = page.post(f"/api/images/{image}/truth", {"base": 1, "source": "propagation"})
        assert answer == {"revision": 2, "truth": True, "split": "val", "why": "scores are measured on it"}
        mask = np.array(Image.open(folder / "masks/a.png"))
        assert mask[2, 35] == 1 and mask[40, 2] == 0 and (mask != 255).all()
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(page.get(f"/api/images/{image}/truth")))), mask)
        assert page.post(f"/api/images/{image}/split", {"split": "train"}) == {"split": "train"}
        revision = page.get(f"/api/images/{image}/annotation")["revision"]
        page.post(f"/api/images/{image}/truth", {"base": revision, "source": "none"})
        assert (
            not (folder / "masks/a.png").exists() and page.client.get(f"/api/images/{image}/truth").status_code == 404
        )

    def test_it_survives_a_restart(self, page, folder, open_page):
        page.draw(page.image(), *TWO)
        page.post(f"/api/images/{page.image()}/truth", {"base": 1, "source": "propagation"})
        again = open_page(folder)
        info = again.get(f"/api/images/{again.image()}")
        assert info["has_truth"] and info["split"] == "val"
        answer = again.post(f"/api/images/{again.image()}/truth", {"base": 2, "source": "none"})
        assert not answer["truth"]
        assert not again.get(f"/api/images/{again.image()}/annotation")["truth"]

    def test_a_mask_that_somebody_else_made_is_not_replaced(self, folder, open_page):
        (folder / "masks").mkdir()
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(folder / "masks/a.png")
        page = open_page(folder)
        page.classes("leaf")
        page.draw(page.image(), *TWO)
        own = {entry["name"]: entry["own_truth"] for entry in page.get("/api/project")["images"]}
        assert own == {"a": True, "b": False, "c": False}  # the page does not offer it
        for source in ("propagation", "none"):
            page.post(f"/api/images/{page.image()}/truth", {"base": 1, "source": source}, 409)
        assert (np.array(Image.open(folder / "masks/a.png")) == 0).all()

    @pytest.mark.parametrize("source", ["propagation", "none"])
    def test_a_kill_on_the_way_leaves_no_mask_that_cannot_be_replaced(
        self, page, folder, open_page, monkeypatch, source
    ):
        page.draw(page.image(), *TWO)
        path = f"/api/images/{page.image()}/truth"
        if source == "none":
            page.post(path, {"base": 1, "source": "propagation"})
            monkeypatch.setattr(type(folder), "unlink", lambda *a, **k: 1 / 0)
        else:
            monkeypatch.setattr(page.studio.annotations, "mark", lambda *a, **k: 1 / 0)
        page.post(path, {"base": 1 + (source == "none"), "source": source}, 500)
        monkeypatch.undo()
        assert (folder / "masks/a.png").exists()
        again = open_page(folder)
        assert not again.get(f"/api/images/{again.image()}")["has_truth"]
        revision = again.get(f"/api/images/{again.image()}/annotation")["revision"]
        assert again.post(path, {"base": revision, "source": "propagation"})["truth"]

    def test_a_mask_that_comes_after_a_removal_is_somebody_elses(self, page, folder):
        page.draw(page.image(), *TWO)
        path = f"/api/images/{page.image()}/truth"
        page.post(path, {"base": 1, "source": "propagation"})
        page.post(path, {"base": 2, "source": "none"})
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(folder / "masks/a.png")
        again = Page(Studio(open_project(folder, None)))
        again.studio.close()
        again.post(path, {"base": 3, "source": "propagation"}, 409)
        assert (np.array(Image.open(folder / "masks/a.png")) == 0).all()

    def test_a_mask_that_came_while_the_server_runs_is_not_replaced(self, page, folder):
        page.draw(page.image(), *TWO)
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(folder / "masks/a.png")
        page.post(f"/api/images/{page.image()}/truth", {"base": 1, "source": "propagation"}, 409)
        assert (np.array(Image.open(folder / "masks/a.png")) == 0).all()

    def test_truth_is_corrected_on_top_of_itself(self, page, folder):
        image = page.image()
        path = f"/api/images/{image}/truth"
        assert "no truth" in page.post(path, {"base": 0, "source": "truth"}, 404)["error"]
        page.draw(image, *TWO)
        page.post(path, {"base": 1, "source": "propagation"})
        before = np.array(Image.open(folder / "masks/a.png"))
        page.change(image, {"op": "remove", "ids": ["l", "r"]})
        page.draw(image, stroke("fix", 1, (10, 20), (20, 20)))
        page.post(path, {"base": 4, "source": "truth"})
        after = np.array(Image.open(folder / "masks/a.png"))
        assert after[20, 15] == 1 != before[20, 15]
        assert 0 < (after != before).sum() < 60

    def test_val_needs_truth(self, page):
        assert "dense truth" in page.post(f"/api/images/{page.image()}/split", {"split": "val"}, 409)["error"]
        page.post(f"/api/images/{page.image()}/split", {"split": "test"}, 400)

    def test_an_empty_mask_is_no_truth(self, page):
        page.post(f"/api/images/{page.image()}/truth", {"base": 0, "source": "annotation"}, 409)


class TestTraining:
    @pytest.fixture
    def scripted(self, page, monkeypatch):
        """Trainings that a script plays, in a process of its own as ever."""
        page.draw(page.image(), *TWO)

        def play(script):
            monkeypatch.setattr(
                training,
                "_command",
                lambda folder: [sys.executable, "-c", f"folder = {str(folder)!r}\n{_PLAYED}\n{script}", str(folder)],
            )
            return page

        return play

    def test_a_training_is_followed_to_its_end(self, scripted):
        page = scripted("tell(state='done', stage='done', total=5, finished=time.time())")
        assert page.get("/api/training")["state"] == "none"
        assert page.post("/api/training", {"pipeline": "auto", "budget_s": 30})["state"] == "running"
        found = _wait(page, "done")
        assert found["pipeline"] == "auto" and found["error"] is None
        assert (page.studio.project.root / "scribbles/a.png").exists()  # written before it began

    def test_one_runs_at_a_time_and_it_can_be_stopped_and_resumed(self, scripted, folder, open_page):
        page = scripted("time.sleep(60)")
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        _wait(page, "running", stage="train")
        assert "running" in page.post("/api/training", {"pipeline": "pce", "budget_s": 30}, 409)["error"]
        again = Page(open_page(folder).studio)  # a server that was killed and started again finds it
        assert again.get("/api/training")["state"] == "running"
        assert page.post("/api/training/stop", {})["state"] == "stopped"
        page.post("/api/training/stop", {}, 409)
        assert page.post("/api/training/resume", {})["state"] == "running"
        _wait(page, "running", stage="train")
        page.post("/api/training/stop", {})

    def test_stopped_before_it_told_its_number(self, page, monkeypatch):
        page.draw(page.image(), *TWO)
        monkeypatch.setattr(
            training, "_command", lambda f: [sys.executable, "-c", "import time; time.sleep(60)", str(f)]
        )
        numbers, kill = [], os.kill
        monkeypatch.setattr(
            training.os, "kill", lambda pid, n: numbers.append(pid) or (kill(pid, n) if pid > 0 else None)
        )
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        process = page.studio.trainer._process
        assert page.post("/api/training/stop", {})["state"] == "stopped"
        assert numbers == [process.pid] and process.poll() is not None  # 0 would be the server and all beside it

    def test_counts_are_those_of_the_stage_that_is_shown(self, scripted):
        page = scripted("tell(total=24); time.sleep(1); tell(stage='crf'); time.sleep(60)")
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        assert _wait(page, "running", stage="train", total=24)["doing"] == "Training the network"
        found = _wait(page, "running", stage="crf")
        assert (found["done"], found["total"], found["doing"]) == (0, 0, "Refining the borders of masks")
        page.post("/api/training/stop", {})

    def test_a_failure_is_told(self, scripted):
        page = scripted("tell(state='failed', error='the disk is full')")
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        assert _wait(page, "failed")["error"] == "the disk is full"

    def test_another_one_can_begin_as_soon_as_the_end_is_told(self, scripted):
        page = scripted("tell(state='failed', error='give more time'); time.sleep(3)")
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        _wait(page, "failed")
        assert page.post("/api/training", {"pipeline": "pce", "budget_s": 60})["state"] == "running"

    def test_a_killed_training_is_stopped(self, scripted):
        page = scripted("os.kill(os.getpid(), 9)")
        page.post("/api/training", {"pipeline": "pce", "budget_s": 30})
        _wait(page, "stopped")

    def test_nothing_is_trained_without_drawings(self, page):
        assert "draw" in page.post("/api/training", {"pipeline": "pce", "budget_s": 30}, 409)["error"]
        page.post("/api/training/resume", {}, 409)

    @pytest.mark.parametrize(
        "bad",
        [
            {"pipeline": "../x"},
            {"pipeline": ["pce"]},
            {"pipeline": "pce; rm"},
            {"budget_s": 1},
            {"budget_s": "60"},
            {"budget_s": 1e9},
        ],
    )
    def test_what_is_not_offered_is_refused(self, page, bad):
        page.draw(page.image(), *TWO)
        page.post("/api/training", {"pipeline": "pce", "budget_s": 60, **bad}, 400)

    def test_the_job_runs_the_command_line(self):
        line = job.command({"pipeline": "auto", "workspace": "/w", "budget_s": 60})
        assert line[1:] == ["-m", "wss", "run", "auto", "--workspace", "/w", "--json", "--budget", "60s"]

    def test_a_prediction_is_shown(self, page):
        labels = np.zeros((48, 64), np.uint8)
        labels[:, 30:] = 1
        _trained(page, {"a": labels}, doubt=77)
        import base64

        found = page.get(f"/api/images/{page.image()}/prediction")
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(found["mask"])))), labels)
        assert (np.array(Image.open(io.BytesIO(base64.b64decode(found["uncertainty"])))) == 77).all()
        assert page.client.get(f"/api/images/{page.image('b')}/prediction").status_code == 404
        assert page.get("/api/status")["predictions"] == found["of"]
        assert [i["has_prediction"] for i in page.get("/api/project")["images"]] == [True, False, False]


_PLAYED = """
import json, os, pathlib, time
folder = pathlib.Path(folder)
values = {"state": "running", "pid": os.getpid(), "begun": time.time(), "stage": "train"}
def tell(**new):
    values.update(new)
    path = folder / "status.tmp"
    path.write_text(json.dumps(values))
    path.replace(folder / "status.json")
tell()
"""


def _wait(page, state, stage=None, total=None):
    for _ in range(200):
        found = page.get("/api/training")
        if found["state"] == state and stage in (None, found["stage"]) and total in (None, found["total"]):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


class TestNext:
    def test_first_any_then_the_most_different_then_none(self, tmp_path, open_page):
        folder = make_folder(tmp_path / "p", names=("a", "b"))
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / "z.png")
        page = open_page(folder)
        page.classes("leaf")
        first = page.get("/api/next")
        assert first["image"] == page.image("a") and "Nothing is annotated" in first["reason"]
        page.draw(page.image("a"), *TWO)
        second = page.get(f"/api/next?after={page.image('a')}")
        assert second["image"] == page.image("z") and "colours and edges" in second["reason"]
        page.draw(page.image("b"), *TWO)
        page.draw(page.image("z"), *TWO)
        assert page.get("/api/next")["image"] is None

    def test_with_a_network_its_doubt_counts(self, page):
        _trained(page, {name: np.zeros((48, 64), np.uint8) for name in "abc"})
        found = page.get(f"/api/next?after={page.image('a')}")
        assert found["image"] == page.image("c") and "unsure about 30 %" in found["reason"]

    def test_equal_pictures_are_no_news(self):
        one, other = look(halves()), look(255 - halves())
        distances = novelty(np.stack([one, other]), one[None])
        assert distances[0] < 1e-6 < 0.1 < distances[1]


class TestExport:
    def _files(self, page, form, what="scribbles"):
        answer = page.post("/api/export", {"format": form, "what": what})
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        return {name: archive.read(name) for name in archive.namelist()}

    @pytest.fixture
    def drawn(self, page):
        page.draw(page.image(), *TWO)
        return page

    def test_png(self, drawn):
        files = self._files(drawn, "png")
        assert sorted(files) == ["a.png", "classes.txt"]
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(files["a.png"]))), drawn.studio.labels.drawn("a"))

    @pytest.mark.parametrize(("form", "program"), [("labelme", "labelme"), ("cvat", "cvat")])
    def test_programs_read_the_strokes_back(self, drawn, form, program, tmp_path):
        from wss.datasets.classlist import read_classes
        from wss.datasets.drawn import open_drawings

        for name, data in self._files(drawn, form).items():
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / name).write_bytes(data)
        path = tmp_path / "out" / ("annotations.xml" if form == "cvat" else "")
        (strokes,) = [
            open_drawings(path, program, read_classes(drawn.studio.project.root / "classes.txt")).read("a").strokes
        ]
        np.testing.assert_allclose(strokes[0].points, np.array([[4, 4], [8, 40]]) - 0.5, atol=0.51)
        assert [s.label for s in strokes] == [0, 1]

    def test_scribblesup(self, drawn):
        text = self._files(drawn, "scribblesup")["a.xml"].decode()
        assert "<tag>leaf</tag>" in text and "<X>3.5</X>" in text

    def test_coco_masks_are_read_back(self, drawn, tmp_path, folder):
        drawn.post(f"/api/images/{drawn.image()}/truth", {"base": 1, "source": "propagation"})
        (tmp_path / "coco.json").write_bytes(self._files(drawn, "coco", "masks")["instances.json"])
        source = open_source("coco", tmp_path, train="coco.json", images=str(folder))
        found = source.read(source.catalogue.splits["train"][0]).mask
        np.testing.assert_array_equal(found, np.array(Image.open(folder / "masks/a.png")))

    def test_the_report_is_the_one_of_the_training(self, drawn, monkeypatch):
        from wss.draw import exporting

        root = drawn.studio.project.workspace.root
        (root / "report.html").write_text("<p>scores</p>")
        monkeypatch.setattr(
            exporting.subprocess, "run", lambda *a, **k: pytest.fail("a report must not train anything")
        )
        answer = drawn.post("/api/export", {"format": "report"})
        assert answer.text == "<p>scores</p>" and "report.html" in answer.headers["content-disposition"]

    @pytest.mark.parametrize(("form", "ending"), [("png", "png"), ("labelme", "json")])
    def test_names_that_are_not_utf8(self, tmp_path, open_page, form, ending):
        folder = make_folder(tmp_path / "p", names=("a",))
        (folder / "a.png").rename(folder / os.fsdecode(b"caf\xe9 \xc3\xa9.png"))
        page = open_page(folder)
        page.classes("leaf")
        (image,) = page.get("/api/project")["images"]
        page.draw(image["id"], *TWO)
        assert f"caf%E9 \u00e9.{ending}" in self._files(page, form)
        for cannot in ("cvat", "scribblesup"):
            answer = page.client.post("/api/export", json={"format": cannot})
            assert 400 <= answer.status_code < 500 and "rename the file" in answer.json()["error"]

    def test_masks_of_images_without_truth_are_predictions(self, page):
        labels = np.ones((48, 64), np.uint8)
        _trained(page, {"b": labels})
        files = self._files(page, "png", "masks")
        assert sorted(files) == ["b.png", "classes.txt"]
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(files["b.png"]))), labels)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"format": "png"}, 409),
            ({"format": "png", "what": "masks"}, 409),
            ({"format": "cvat", "what": "masks"}, 400),
            ({"format": "nifti", "what": "masks"}, 400),
            ({"format": "../x"}, 400),
            ({"format": "png", "what": "all"}, 400),
            ({"format": "network"}, 409),
            ({"format": "report"}, 409),
        ],
    )
    def test_what_cannot_be_exported_says_why(self, page, body, status):
        assert page.post("/api/export", body, status)["error"]
