"""Pictures that are damaged, or go away while the server runs, stop neither proposals nor trainings of the others."""

import pytest
from draw_client import make_folder, stroke

from wss.datasets import open_source

TWO = (stroke("l", 0, (4, 4), (8, 40)), stroke("r", 1, (50, 4), (56, 40)))


def _damage(path):
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)  # the header stays, the pixels cannot be decoded
    path.write_bytes(data)


@pytest.fixture
def holed(tmp_path, open_page):
    """Six pictures: c is damaged before the start, d goes away and e is damaged afterwards."""
    folder = make_folder(tmp_path / "p", names=tuple("abcdef"))
    _damage(folder / "c.png")
    page = open_page(folder)
    page.classes("leaf")
    page.draw(page.image("a"), *TWO)
    page.draw(page.image("d"), *TWO)
    (folder / "d.png").unlink()
    _damage(folder / "e.png")
    return page


def test_next_proposes_what_can_be_read(holed):
    proposed = set()
    for after in "abf":
        proposed.add(holed.get(f"/api/next?after={holed.image(after)}")["image"])
    assert proposed <= {holed.image("b"), holed.image("f")}


def test_next_when_nothing_else_can_be_read(holed):
    holed.draw(holed.image("b"), *TWO)
    holed.draw(holed.image("f"), *TWO)
    found = holed.get("/api/next")
    assert found["image"] is None and "can be read" in found["reason"]


def test_trainings_leave_them_out_and_say_so(holed, monkeypatch):
    from wss.draw import training

    monkeypatch.setattr(training, "_command", lambda folder: ["true"])
    assert holed.post("/api/training", {"pipeline": "pce", "budget_s": 30})["left_out"] == ["c", "d", "e"]
    root = holed.studio.project.root
    catalogue = open_source("folder", root).catalogue
    assert set(catalogue.splits["train"]) == {"a"} and set(catalogue.splits["test"]) == {"b", "f"}


def test_a_picture_that_comes_back_is_read_again(holed):
    root = holed.studio.project.root
    holed.studio.dataset.complete()
    (root / "d.png").write_bytes((root / "a.png").read_bytes())
    (root / "e.png").write_bytes((root / "b.png").read_bytes())
    holed.studio.dataset.complete()
    assert holed.studio.dataset.left_out == ["c"]
    assert holed.get(f"/api/images/{holed.image('e')}")["error"] is None


def test_one_that_is_damaged_does_not_keep_the_labels_of_others_from_disk(tmp_path, open_page):
    from draw_client import Page

    from wss.draw.project import open_project
    from wss.draw.studio import Studio

    folder = make_folder(tmp_path / "p")
    page = open_page(folder)
    page.classes("leaf")
    for name in "ab":
        page.draw(page.image(name), *TWO)
    page.studio.dataset.complete()  # the list of training images names both
    page.studio.close()  # nothing writes label images in the background any more
    for name in "ab":
        page.draw(page.image(name), stroke("more", 1, (20, 20), (25, 20)))
    (folder / "a.png").write_bytes(b"")
    before = (folder / "scribbles/b.png").read_bytes()
    again = Page(Studio(open_project(folder, None)))
    again.studio.close()
    assert again.studio.project.names[0] == "a" and (folder / "scribbles/b.png").read_bytes() != before
