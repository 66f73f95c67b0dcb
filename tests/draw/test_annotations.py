import json
import os
import random

import pytest
from draw_client import stroke

from wss.draw import annotations, history, limits
from wss.draw.annotations import Annotations
from wss.draw.project import open_project
from wss.draw.refusals import Refused
from wss.errors import DataError, StoreError


def _document(page, name="a"):
    return json.loads((page.studio.project.root / f"strokes/{name}.json").read_text())


def test_a_stroke_is_on_disk_before_the_answer(page, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(handle))
    image = page.image()
    answer = page.draw(image, stroke("s", 1, (3, 4), (9, 9)))
    assert answer["revision"] == 1 and len(flushed) >= 2  # the file and its folder
    assert _document(page)["objects"] == answer["annotation"]["objects"]
    assert not list((page.studio.project.root / "strokes").glob("*.tmp"))


def test_a_full_disk_changes_nothing_and_says_so(page, monkeypatch):
    image = page.image()
    page.draw(image, stroke("s", 1, (3, 4)))

    def full(path, text):
        raise StoreError(f"{path}: the disk is full") from OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(annotations, "write_text", full)
        error = page.draw(image, stroke("t", 1, (3, 4)), status=507)[
            "error"
        ]  # so that the page keeps it and tries again
    assert "strokes cannot be written (No space left on device); free some space" in error
    assert page.get(f"/api/images/{image}/annotation")["revision"] == 1
    assert page.draw(image, stroke("t", 1, (3, 4)))["revision"] == 2


def test_everything_survives_a_restart_undo_too(page, folder, open_page):
    image = page.image()
    page.draw(image, stroke("s", 1, (3, 4)), stroke("t", 0, (5, 6)))
    page.change(image, {"op": "remove", "ids": ["s"]})
    page.change(image, {"op": "tags", "tags": [1, 0, 1]})
    page.change(image, {"op": "undo"})
    before = page.get(f"/api/images/{image}/annotation")
    again = open_page(folder)
    assert again.image() == image
    after = again.get(f"/api/images/{image}/annotation")
    assert after == before and after["can_undo"] and after["can_redo"] and after["tags"] is None
    assert again.change(image, {"op": "redo"})["annotation"]["tags"] == [0, 1]
    for _ in range(2):
        answer = again.change(image, {"op": "undo"})
    assert [item["id"] for item in answer["annotation"]["objects"]] == ["s", "t"]


def test_a_second_tab_cannot_overwrite_the_first(page):
    image = page.image()
    page.draw(image, stroke("s", 1, (3, 4)), base=0)
    refused = page.draw(image, stroke("t", 1, (3, 4)), base=0, status=409)
    assert "another tab" in refused["error"]
    assert [item["id"] for item in refused["annotation"]["objects"]] == ["s"]
    for change in ({"op": "undo"}, {"op": "remove", "ids": ["s"]}, {"op": "tags", "tags": [1]}):
        page.change(image, change, base=0, status=409)
    assert page.get(f"/api/images/{image}/annotation")["revision"] == 1


def test_a_repeated_request_is_done_once(page):
    image = page.image()
    first = page.draw(image, stroke("s", 1, (3, 4)), base=0)
    assert page.draw(image, stroke("s", 1, (3, 4)), base=0) == first
    page.draw(image, stroke("s", 0, (3, 4)), base=1, status=400)  # the same id for something else
    page.draw(image, stroke("t", 0, (3, 4)), stroke("t", 0, (3, 4)), base=1, status=400)
    assert page.get(f"/api/images/{image}/annotation")["revision"] == 1


def test_a_brief_answer_has_no_objects(page):
    answer = page.draw(page.image(), stroke("s", 1, (3, 4)), brief=True)
    assert answer == {"revision": 1, "can_undo": True, "can_redo": False, "annotation": None}


def test_undo_and_redo_say_when_there_is_nothing(page):
    image = page.image()
    assert "nothing to undo" in page.change(image, {"op": "undo"}, status=400)["error"]
    assert "nothing to redo" in page.change(image, {"op": "redo"}, status=400)["error"]
    page.change(image, {"op": "remove", "ids": ["x"]}, status=400)
    page.change(image, {"op": "dance"}, status=400)
    assert page.get(f"/api/images/{image}/annotation")["revision"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_undoing_everything_gives_every_earlier_state(seed):
    """Against a list of copies, the obvious way."""
    draw = random.Random(seed)
    document = {"objects": [], "tags": None, "done": [], "undone": []}
    states, place, number = [([], None)], 0, 0

    def state():
        return [item["id"] for item in document["objects"]], document["tags"]

    for _ in range(120):
        kind = draw.choice(["add", "add", "remove", "tags", "undo", "undo", "redo"])
        if kind == "undo" and place > 0:
            history.undo(document)
            place -= 1
        elif kind == "redo" and place < len(states) - 1:
            history.redo(document)
            place += 1
        elif kind in ("add", "remove", "tags"):
            ids = [item["id"] for item in document["objects"]]
            if kind == "remove" and not ids:
                continue
            if kind == "add":
                count = draw.randint(1, 3)
                history.add(document, [{"id": str(number + n)} for n in range(count)])
                number += count
            elif kind == "remove":
                history.remove(document, draw.sample(ids, draw.randint(1, len(ids))))
            else:
                history.tag(document, draw.choice([None, [0], [1, 2]]))
            states = [*states[: place + 1], state()]
            place += 1
        assert state() == states[place]
    json.dumps(document)


def test_history_is_bounded():
    document = {"objects": [], "tags": None, "done": [], "undone": []}
    for n in range(limits.STEPS + 10):
        history.add(document, [{"id": str(n)}])
    for _ in range(limits.STEPS):
        history.undo(document)
    assert len(document["objects"]) == 10
    with pytest.raises(Refused, match="nothing to undo"):
        history.undo(document)


def test_damaged_documents_are_named_and_kept(page, folder):
    page.draw(page.image(), stroke("s", 1, (3, 4)))
    path = folder / "strokes/a.json"
    whole = path.read_text()
    for text, message in (
        (whole[:-20], "cannot be read"),
        ("[]", "no annotation"),
        (whole.replace('"version": 1', '"version": 9'), "later wss"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            Annotations(folder / "strokes").load(["a"])
        assert path.read_text() == text


def test_leftovers_of_killed_servers_are_removed(page, folder):
    page.draw(page.image(), stroke("s", 1, (3, 4)))
    left = folder / "strokes/a.json.99999999.tmp"
    left.write_text("half")
    Annotations(folder / "strokes").load(["a"])
    assert not left.exists()


class TestClasses:
    def test_they_can_be_added_renamed_and_coloured(self, page, folder, open_page):
        known = page.get("/api/project")
        assert [item["name"] for item in known["classes"]] == ["background", "leaf"]
        assert (folder / "classes.txt").read_text() == "0 background\n1 leaf\n"
        items = known["classes"]
        items[1] = items[1] | {"name": "stem", "color": "#00FF00", "pattern": 3}
        page.post("/api/classes", {"revision": known["classes_revision"], "classes": items}, method="PUT")
        again = open_page(folder).get("/api/project")["classes"][1]
        assert again == {"index": 1, "name": "stem", "color": "#00ff00", "pattern": 3}

    def test_a_stale_list_is_refused(self, page):
        known = page.get("/api/project")
        body = {"revision": known["classes_revision"] - 1, "classes": known["classes"]}
        assert page.post("/api/classes", body, 409, "PUT")["classes"] == known["classes"]

    @pytest.mark.parametrize("name", ["", " ", "a:b", "a\nb" + "\0", "leaf", "LEAF", "x" * 81, "\u202eabc"])
    def test_names_that_classes_txt_cannot_hold_are_refused(self, page, name):
        known = page.get("/api/project")
        items = [*known["classes"], {"index": None, "name": name, "color": "#000000", "pattern": 0}]
        page.post("/api/classes", {"revision": known["classes_revision"], "classes": items}, 400, "PUT")

    def test_order_and_indices_stay(self, page):
        known = page.get("/api/project")
        a, b = known["classes"]
        for items in ([b, a], [b], [a, a], [a, b | {"index": 5}], [{**a, "index": None}]):
            page.post("/api/classes", {"revision": known["classes_revision"], "classes": items}, 400, "PUT")

    def test_a_class_is_removed_only_while_nothing_is_drawn_in_it(self, page):
        image = page.image()
        page.draw(image, stroke("s", 1, (3, 4)))
        known = page.get("/api/project")
        body = {"revision": known["classes_revision"], "classes": known["classes"][:1]}
        assert "a has something drawn" in page.post("/api/classes", body, 409, "PUT")["error"]
        page.change(image, {"op": "remove", "ids": ["s"]})
        page.post("/api/classes", body, method="PUT")
        # The steps that would bring the stroke back are forgotten.
        page.change(image, {"op": "undo"}, status=400)

    def test_a_killed_server_leaves_names_and_colours_consistent(self, page, folder, open_page):
        (folder / "classes.txt").write_text("0 background\n")  # killed between draw.json and classes.txt
        names = [item["name"] for item in open_page(folder).get("/api/project")["classes"]]
        assert names == ["background", "leaf"]
        assert "leaf" in (folder / "classes.txt").read_text()


def test_ids_of_images_stay_when_images_are_added(page, folder):
    before = page.image("b")
    (folder / "0.png").write_bytes((folder / "a.png").read_bytes())
    project = open_project(folder, None)
    assert project.ids[before] == "b" and "0" in project.names
