import asyncio
import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from draw_client import halves, make_folder, stroke
from PIL import Image

from wss.draw import limits, pictures, png, prepared, propagating
from wss.draw.painting import paint, region_pixels
from wss.propagation import RandomWalk, Superpixel
from wss.superpixels import Felzenszwalb

TWO = (stroke("l", 0, (4, 4), (8, 40)), stroke("r", 1, (50, 4), (56, 40)))


def _decoded(text):
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture(autouse=True)
def quick_edges(monkeypatch):
    """The gradient's edges in place of the network's."""
    from wss.edges.build import DetectorParams

    monkeypatch.setattr(prepared, "DetectorParams", lambda: DetectorParams(detector="gradient"))


@pytest.fixture
def drawn(page):
    page.draw(page.image(), *TWO)
    return page


def test_the_mask_is_that_of_the_library(drawn):
    lines = drawn.propagate(drawn.image())
    assert [line["kind"] for line in lines] in (["coarse", "full"], ["full"])
    full = lines[-1]
    assert (full["x"], full["y"], full["width"], full["height"], full["revision"]) == (0, 0, 64, 48, 1)
    from wss.edges.gradient import gradient_edges

    image, labels = halves(split=24), paint(TWO, (48, 64))
    edges = np.rint(255 * gradient_edges(image)).astype(np.uint8).astype(np.float32) / 255
    expected = RandomWalk(nodes=prepared.NODES).propagate(image, labels, 2, edges=edges)
    np.testing.assert_array_equal(_decoded(full["mask"]), expected.labels)
    np.testing.assert_array_equal(_decoded(full["certainty"]), np.rint(255 * expected.margin))
    assert _decoded(full["mask"])[20, 20] == 0 and _decoded(full["mask"])[20, 27] == 1


def test_the_palette_is_the_classes(drawn):
    mask = Image.open(io.BytesIO(base64.b64decode(drawn.propagate(drawn.image())[-1]["mask"])))
    assert mask.mode == "P" and mask.getpalette()[3:6] == [255, 0, 0]


def test_superpixels_are_those_of_the_library(drawn):
    full = drawn.propagate(drawn.image(), "superpixel")[-1]
    image = halves(split=24)
    expected = Superpixel().propagate(image, paint(TWO, (48, 64)), 2, superpixels=Felzenszwalb().segment(image))
    np.testing.assert_array_equal(_decoded(full["mask"]), expected.labels)
    assert full["certainty"] is None and full["scale"] == 1


@pytest.mark.parametrize("method", ["graph-cut", "densecrf", "grabcut"])
def test_every_method_answers(drawn, method):
    assert drawn.propagate(drawn.image(), method)[-1]["kind"] == "full"


def test_less_than_two_classes_are_nothing(page):
    page.draw(page.image(), TWO[0])
    (line,) = page.propagate(page.image())
    assert line["kind"] == "nothing" and "two classes" in line["why"]


def test_an_older_ticket_is_stale(drawn):
    assert drawn.propagate(drawn.image(), ticket=5)[-1]["kind"] == "full"
    assert drawn.propagate(drawn.image(), ticket=4) == [{"kind": "stale"}]
    assert drawn.propagate(drawn.image(), ticket=1, tab="other")[-1]["kind"] == "full"


def test_a_newer_question_ends_the_one_that_is_being_answered(drawn, monkeypatch):
    """The first question waits for edges; the second one of the same tab comes meanwhile."""
    propagator, release = drawn.studio.propagator, threading.Event()
    monkeypatch.setattr(drawn.studio.prepared, "_made", lambda part, what: release.wait(10))
    name = "a"
    first = propagator.ask(name, {"method": "superpixel", "tab": "t", "ticket": 1})

    async def both():
        lines = []
        async for line in propagator.answers(first):
            lines.append(line)
        return lines

    timer = threading.Timer(0.2, lambda: propagator.ask(name, {"method": "superpixel", "tab": "t", "ticket": 2}))
    timer.start()
    with ThreadPoolExecutor(1) as alone:  # browser tests leave a running loop in this thread
        assert alone.submit(asyncio.run, both()).result() == [b'{"kind": "stale"}\n']
    release.set()


def test_while_edges_are_computed_a_quick_answer_comes_first(drawn):
    kinds = [line["kind"] for line in drawn.propagate(drawn.image("a"), coarse=True)]
    again = [line["kind"] for line in drawn.propagate(drawn.image("a"), ticket=2)]
    assert kinds[-1] == "full" and again == ["full"]


def test_slow_methods_show_a_reduced_copy_first(drawn, monkeypatch):
    monkeypatch.setattr(propagating, "_SLOW", 1000)
    coarse, full = drawn.propagate(drawn.image(), "densecrf")
    assert (coarse["kind"], full["kind"]) == ("coarse", "full") and coarse["scale"] > 1
    assert _decoded(coarse["mask"]).shape == _decoded(full["mask"]).shape == (48, 64)
    assert (_decoded(coarse["mask"]) == _decoded(full["mask"])).mean() > 0.9


def test_large_images_are_propagated_in_a_part(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr(limits, "WHOLE", 1000)
    monkeypatch.setattr(limits, "REGION", 40)
    monkeypatch.setattr(pictures, "TILE", 16)
    page = open_page(make_folder(tmp_path / "large"))
    page.classes("leaf")
    page.draw(page.image(), *TWO)
    right = {"x": 50, "y": 20, "width": 14, "height": 20}
    whole = page.propagate(page.image(), region=right)[-1]  # one class alone is drawn there
    assert (whole["kind"], whole["x"], whole["width"], whole["height"]) == ("full", 0, 64, 48)
    assert _decoded(whole["mask"])[10, 30] == 1 and _decoded(whole["mask"]).shape == (24, 32)
    body = {"base": 1, "source": "propagation", "region": right, "x": 60, "y": 20}
    accepted = page.post(f"/api/images/{page.image()}/accept", body)["annotation"]["objects"][-1]
    assert accepted["class"] == 1  # of the mask that is shown
    page.change(page.image(), {"op": "undo"})
    page.draw(page.image(), stroke("m", 1, (30, 4), (30, 40)), base=3)
    left = {"x": -5, "y": -8, "width": 30, "height": 20}
    full = page.propagate(page.image(), ticket=2, region=left)[-1]
    assert (full["x"], full["y"], full["width"], full["height"]) == (0, 0, 40, 40)
    assert _decoded(full["mask"]).shape == (40, 40)
    moved = page.propagate(page.image(), ticket=3, region=left | {"x": -3})[-1]
    assert moved["x"] == full["x"]  # parts begin at few places
    body = {"base": 4, "source": "propagation", "region": left, "x": 3, "y": 3}
    accepted = page.post(f"/api/images/{page.image()}/accept", body)["annotation"]["objects"][-1]
    assert accepted["rle"]["size"] == [48, 64] and accepted["class"] == 0
    assert (
        "part of the image"
        in page.post(f"/api/images/{page.image()}/truth", {"base": 5, "source": "propagation", "region": left}, 409)[
            "error"
        ]
    )


def test_a_large_image_as_a_whole_is_propagated_on_a_reduced_copy(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr(limits, "WHOLE", 1000)
    monkeypatch.setattr(pictures, "TILE", 16)
    folder = make_folder(tmp_path / "large", names=("a",), height=47, width=65)
    page = open_page(folder)
    page.classes("leaf")
    page.draw(page.image(), *TWO)
    full = page.propagate(page.image())[-1]
    assert (full["x"], full["y"], full["width"], full["height"]) == (0, 0, 65, 47) and full["scale"] % 2 == 0
    mask = _decoded(full["mask"])
    assert mask.shape == (24, 33) and (mask != 255).all()
    assert mask[12, 3] == 0 and mask[12, 30] == 1
    body = {"base": 1, "source": "propagation", "x": 63, "y": 45}
    accepted = page.post(f"/api/images/{page.image()}/accept", body)["annotation"]["objects"][-1]
    inside = region_pixels(accepted["rle"])
    assert accepted["class"] == 1 and inside.shape == (47, 65) and inside[45, 63] and not inside[45, 3]
    refused = page.post(f"/api/images/{page.image()}/truth", {"base": 2, "source": "propagation"}, 409)
    assert "reduced copy" in refused["error"]


@pytest.mark.parametrize(
    "bad",
    [
        {"method": "magic"},
        {"method": ["random-walk"]},
        {"tab": None},
        {"tab": "x" * 65},
        {"ticket": "1"},
        {"ticket": -1},
        {"region": {"x": 0}},
        {"region": [0, 0, 1, 1]},
        {"region": {"x": 1e300, "y": 0, "width": 1, "height": 1}},
    ],
)
def test_malformed_questions_are_refused(drawn, bad):
    body = {"revision": 0, "method": "random-walk", "tab": "t", "ticket": 1, **bad}
    drawn.post(f"/api/images/{drawn.image()}/propagate", body, 400)


def test_edges_are_kept_from_one_start_to_the_next(drawn, folder, open_page, monkeypatch):
    drawn.propagate(drawn.image())
    again = open_page(folder)
    monkeypatch.setattr(prepared, "build_detector", lambda *a: pytest.fail("computed again"))
    assert [line["kind"] for line in again.propagate(again.image())] == ["full"]


def test_an_image_that_was_replaced_gets_new_edges(drawn, folder, open_page):
    drawn.propagate(drawn.image())
    Image.fromarray(halves(split=40)).save(folder / "a.png")
    again = open_page(folder)
    assert _decoded(again.propagate(again.image())[-1]["mask"])[20, 33] == 0


def test_the_data_sets_scribbles_take_part(folder, open_page):
    (folder / "scribbles").mkdir()
    own = np.full((48, 64), 255, np.uint8)
    own[:, 2] = 0
    Image.fromarray(own).save(folder / "scribbles/a.png")
    (folder / "classes.txt").write_text("background\nleaf\n")
    page = open_page(folder)
    assert page.get("/api/project")["images"][0]["has_base"]
    np.testing.assert_array_equal(_decoded(base64.b64encode(page.get(f"/api/images/{page.image()}/base"))), own)
    page.draw(page.image(), TWO[1])
    assert page.propagate(page.image())[-1]["kind"] == "full"


def test_new_strokes_are_painted_over_what_was_painted_before(page):
    """The quick way of painting gives what painting everything gives."""
    rng, image = np.random.default_rng(0), page.image()
    for n in range(12):
        points = rng.uniform(0, 45, (3, 2)).tolist()
        item = {"id": f"e{n}", "kind": "erase", "width": 4, "points": points}
        page.draw(image, item if n % 4 == 3 else stroke(f"s{n}", n % 2, *points, width=5))
        objects = page.get(f"/api/images/{image}/annotation")["objects"]
        np.testing.assert_array_equal(page.studio.labels.drawn("a"), paint(objects, (48, 64)))
    page.change(image, {"op": "undo"})
    objects = page.get(f"/api/images/{image}/annotation")["objects"]
    np.testing.assert_array_equal(page.studio.labels.drawn("a"), paint(objects, (48, 64)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (300, 500)])
def test_png_files_are_read_back(shape):
    labels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png.indexed(labels, [(1, 2, 3)])))), labels)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png.grey(labels)))), labels)


class TestFeatures:
    @pytest.fixture
    def stored(self, drawn):
        """Features of image a, as the stage stores them: two views, of which the second is mirrored."""
        from wss.store import FEATURES, StoreWriter

        cells = (np.moveaxis(halves(split=24)[::4, ::4], 2, 0) / 255).astype(np.float16)
        both = np.concatenate([c.reshape(3, -1).T for c in (cells, cells[..., ::-1])])
        path = drawn.studio.project.workspace.artifact("features", "0" * 64)
        path.parent.mkdir(parents=True)
        writer = StoreWriter(path, FEATURES, {"key": path.stem})
        writer.append("a", {"level4": both})
        writer.put_tree("backbone", {})
        writer.meta.update(strides={"level4": 4}, views=[[1.0, False], [1.0, True]])
        writer.finish({})
        return drawn, cells

    def test_it_is_offered_only_where_features_are_stored(self, drawn):
        (method,) = [m for m in drawn.get("/api/project")["methods"] if m["name"] == "features"]
        assert not method["ready"] and "pce-features" in method["why_not"]
        (line,) = drawn.propagate(drawn.image(), "features")
        assert line["kind"] == "nothing" and "pce-features" in line["why"]

    def test_the_mask_is_that_of_the_library(self, stored):
        from wss.propagation import FeatureHead

        drawn, cells = stored
        (method,) = [m for m in drawn.get("/api/project")["methods"] if m["name"] == "features"]
        assert method["ready"]
        full = drawn.propagate(drawn.image(), "features")[-1]
        expected = FeatureHead().propagate(halves(split=24), paint(TWO, (48, 64)), 2, features=cells)
        np.testing.assert_array_equal(_decoded(full["mask"]), expected.labels)
        assert full["scale"] == 4 and _decoded(full["certainty"]).shape == (12, 16)
        assert drawn.propagate(drawn.image("b"), "features", ticket=2)[-1]["kind"] == "nothing"
