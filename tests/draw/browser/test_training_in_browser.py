"""Train a few steps from the page, look at the predictions and accept a region of one."""

import cv2
import numpy as np
import pytest
from drawing_page import DrawPage

TRAINING_MS = 240000


def _train(page):
    for minutes in (
        "0.2",
        "0.3",
        "0.6",
    ):  # on a busy machine the shorter ones end before the first step: the page says so
        page.page.fill("#budget", minutes)
        page.page.click("#train-start")
        page.page.wait_for_selector('#train-state[data-state="running"]')
        try:
            page.page.wait_for_selector('#train-state:not([data-state="running"])', timeout=TRAINING_MS)
        except Exception:
            page.page.click("#train-stop")  # it would outlive the server
            raise
        if page.page.get_attribute("#train-state", "data-state") == "done":
            return
        assert "ive at least" in page.page.inner_text("#train-error")
        assert "Go on with" in page.page.inner_text("#train-resume")
    raise AssertionError("the training did not end in its budget")


def test_train_see_predictions_and_accept_a_region(visit, own_server):
    page = visit(own_server)
    page.page.fill("#first-class", "sky, ground")
    page.press("Enter")
    page.page.wait_for_selector('.class-row:has-text("ground")')
    assert page.page.is_disabled("#train-start")
    page.choose("sky")
    page.drag((10, 12), (70, 8), (130, 12))
    page.choose("ground")
    page.drag((10, 84), (70, 88), (130, 84))
    page.wait_saved()
    page.page.select_option("#pipeline", "pce")
    _train(page)
    page.wait_alert("The network has predicted all images")
    page.page.wait_for_selector("#curve svg")
    page.page.click('#alerts button:has-text("Side by side")')
    page.page.wait_for_selector("#pane-side:not([hidden])")
    page.page.click("#propose")
    page.page.wait_for_selector("#reason:not([hidden])")
    assert page.page.inner_text("#reason-text").endswith(".")
    page.page.uncheck("#beside")
    page.page.check('input[name="source"][value="prediction"]')
    page.page.wait_for_function("() => document.getElementById('pane').dataset.painted === 'prediction'")
    named = page.mask_at(72, 48)
    page.tool("accept")
    page.click(72, 48)
    page.wait_status(f"Region of {named} accepted")
    assert [one["kind"] for one in page.objects()] == ["region"]
    page.page.click("#keep-truth")
    page.wait_status("kept as truth")
    page.page.select_option("#split", "val")
    page.wait_status("in val now")
    page.page.wait_for_selector('.image-row[aria-current="true"] .badge-truth:has-text("val")')


def _play(page, **training):
    """Let the server tell of a training that is in this state."""

    def answer(route):
        status = route.fetch().json()
        route.fulfill(json={**status, "training": {**status["training"], **training}})

    page.page.route("**/api/status", answer)


def test_what_cannot_be_learned_is_refused_in_the_panel(visit, own_server):
    page = visit(own_server)
    page.page.fill("#first-class", "sky, ground")
    page.press("Enter")
    page.page.wait_for_selector('.class-row:has-text("ground")')
    page.choose("sky")
    page.drag((10, 12), (70, 8), (130, 12))
    page.wait_saved()
    (own_server.folder / "images/scene-2.png").write_bytes(b"no picture")
    page.page.click("#train-start")
    page.page.wait_for_selector("#train-error:not([hidden])")
    assert page.page.inner_text("#train-error").startswith("Sky is the only class with strokes")
    assert page.page.is_hidden("#train-state") and page.page.is_enabled("#train-start")
    page.page.wait_for_selector('.image-row[title="scene-2"] .badge:text-is("cannot be read")')


def test_a_budget_that_was_too_short_offers_one_that_is_not(visit, server):
    page = visit(server, "scene-13")
    page.page.fill("#budget", "0.2")
    _play(page, state="failed", least_s=77, error="a budget of 12 seconds is too short; give at least 77 seconds")
    page.page.wait_for_selector('#train-resume:text-is("Go on with 2 minutes")')
    assert page.page.input_value("#budget") == "2"
    asked = []

    def resume(route):
        asked.append(route.request.post_data_json)
        route.fulfill(json={"state": "running", "doing": "Starting", "left_s": 120, "curve": []})

    page.page.route("**/api/training/resume", resume)
    page.page.click("#train-resume")
    page.page.wait_for_timeout(300)
    assert asked == [{"budget_s": 120}]
    page.page.unroute_all()


@pytest.mark.parametrize("width", [1440, 1024])
def test_stages_are_told_in_words_and_notes_lie_beside_the_panel(visit, server, context, width):
    page = visit(server, "scene-13")
    page.page.set_viewport_size({"width": width, "height": 800})
    curve = [[step, 1 / (1 + step)] for step in range(9)]
    _play(page, state="running", stage="largest-region", doing="Dropping stray pieces", done=2, total=9, curve=curve)
    page.page.wait_for_selector('#train-stage:text-is("Dropping stray pieces 2 / 9")')
    page.page.wait_for_selector("#curve svg")
    page.evaluate("async () => (await import('/page/say.js')).warn('The network has predicted all images.')")
    note = page.page.locator(".alert").bounding_box()
    panel = page.page.locator(".panel-side").bounding_box()
    assert note["x"] + note["width"] <= panel["x"]
    page.page.unroute_all()


def test_masks_of_the_data_set_are_not_offered_for_replacement(browser, own_server):
    root = own_server.folder
    own_server.kill()
    (root / "draw.json").unlink()  # as if nobody had opened it before
    (root / "masks").mkdir()
    cv2.imwrite(str(root / "masks/scene-0.png"), np.zeros((96, 144), np.uint8))
    (root / "classes.txt").write_text("background\nsky\n")
    (root / "train.txt").write_text("scene-1\n")
    own_server.start()
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = DrawPage(context, own_server, "scene-0")
    assert page.page.is_hidden("#keep-truth") and page.page.is_disabled("#split")
    assert "The data set has a mask of this image" in page.page.inner_text("#truth-note")
    assert page.page.locator("#truth-note button").count() == 0
    page.show("scene-1")
    assert page.page.is_visible("#keep-truth")
    context.close()


def test_on_a_phone_one_draws_while_a_panel_is_open(browser, server):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = DrawPage(context, server)
    page.page.click("[data-panel=images]")
    page.show("scene-13")
    whole = page.page.locator("#pane").bounding_box()["height"]
    page.page.click("[data-panel=classes]")
    page.page.wait_for_selector("#panel-classes >> visible=true")
    pane, sheet = (page.page.locator(which).bounding_box() for which in ("#pane", ".panel-side"))
    assert pane["y"] + pane["height"] <= sheet["y"] and pane["height"] >= 250
    left, top = page.screen(0, 0)
    right, bottom = page.screen(144, 96)
    assert pane["x"] <= left < right <= pane["x"] + pane["width"]  # the whole image is still there
    assert pane["y"] <= top < bottom <= pane["y"] + pane["height"]
    page.choose("sky")
    page.drag((20, 40), (100, 40))
    page.wait_saved()
    assert page.objects()[-1]["class"] == 1 and page.page.is_visible("#panel-classes")
    page.page.click(".tabs [data-panel=classes]")
    assert page.page.is_hidden("#panel-classes")
    assert page.page.locator("#pane").bounding_box()["height"] == whole
    assert page.errors == []
    context.close()
