"""Drawing by pointer and by keyboard, against the real server in a real browser."""

import pytest
from drawing_page import DrawPage


def two_strokes(page):
    page.choose("sky")
    page.drag((10, 12), (70, 8), (130, 12))
    page.choose("ground")
    page.drag((10, 84), (70, 88), (130, 84))


def test_strokes_by_pointer_are_saved_and_their_mask_is_painted(visit, server):
    page = visit(server, "scene-0")
    two_strokes(page)
    page.wait_saved()
    page.wait_mask()
    sky, ground = page.objects()
    assert (sky["kind"], sky["class"], ground["class"]) == ("stroke", 1, 2)
    assert sky["points"][0] == pytest.approx([10, 12], abs=0.5)
    assert sky["points"][-1] == pytest.approx([130, 12], abs=0.5)
    assert len(sky["points"]) > 5
    assert page.mask_at(70, 3) == "sky"
    assert page.mask_at(70, 92) == "ground"
    assert page.colour_of("ink", 70, 8)[3] == 255
    assert page.colour_of("mask", 70, 20)[3] > 0
    assert page.colour_of("ink", 70, 48)[3] == 0


def test_a_line_a_point_and_a_box_by_keyboard_alone(visit, server):
    page = visit(server, "scene-1")
    page.page.focus("#stage")
    page.press("2", "b", "Space", *["ArrowRight"] * 4, "Space", *["ArrowDown"] * 3, "Enter")
    page.wait_saved()
    (line,) = page.objects()
    assert (line["kind"], line["class"], len(line["points"])) == ("stroke", 1, 3)
    (x0, y0), (x1, y1), (x2, y2) = line["points"]
    assert x1 > x0 and y1 == y0 and x2 == x1 and y2 > y1
    page.press("3", "p", *["Shift+ArrowLeft"] * 2, "Space")
    page.wait_status("Point of ground drawn")
    page.press("r", "Space", "Control+ArrowLeft", "Control+ArrowUp", "Space")
    page.wait_status("Box of ground drawn")
    page.wait_saved()
    _, point, box = page.objects()
    assert (point["kind"], point["x"], point["y"]) == ("point", x2 - 2, y2)
    assert box["kind"] == "box" and box["x0"] < box["x1"] == x2 - 2
    page.press("b", "Space", "ArrowRight", "Escape")
    page.wait_status("Dropped")
    assert len(page.objects()) == 3


def test_undo_and_redo_by_button_and_key(visit, server):
    page = visit(server, "scene-2")
    two_strokes(page)
    page.wait_saved()
    page.page.click("#undo")
    page.wait_status("Undone")
    page.wait_saved()
    assert [one["class"] for one in page.objects()] == [1]
    page.press("Control+z")
    page.wait_saved()
    assert page.objects() == []
    assert page.page.is_disabled("#undo")
    page.press("Control+Shift+z")
    page.wait_saved()
    page.page.wait_for_function("() => !document.getElementById('redo').disabled")
    assert [one["class"] for one in page.objects()] == [1]
    page.press("Control+y")
    page.wait_saved()
    page.wait_mask()
    assert [one["class"] for one in page.objects()] == [1, 2]


def test_erasing_whole_strokes_and_with_the_brush(visit, server):
    page = visit(server, "scene-3")
    two_strokes(page)
    page.wait_saved()
    page.tool("erase-brush")
    page.drag((68, 2), (68, 20))
    page.wait_saved()
    assert [one["kind"] for one in page.objects()] == ["stroke", "stroke", "erase"]
    assert page.colour_of("ink", 68, 9)[3] == 0
    assert page.colour_of("ink", 30, 11)[3] == 255
    page.tool("erase-stroke")
    page.click(40, 86)
    page.wait_status("1 object removed")
    page.wait_saved()
    assert [one["kind"] for one in page.objects()] == ["stroke", "erase"]
    page.tool("brush")


def test_a_region_of_the_mask_is_accepted_by_one_click(visit, server):
    page = visit(server, "scene-4")
    two_strokes(page)
    page.wait_saved()
    page.wait_mask()
    page.tool("accept")
    page.click(70, 93)
    page.wait_status("Region of ground accepted")
    region = page.objects()[-1]
    assert (region["kind"], region["class"]) == ("region", 2)
    assert region["rle"]["size"] == [96, 144]
    assert page.colour_of("ink", 70, 93)[3] > 0
    page.tool("erase-stroke")
    page.click(70, 3)
    page.wait_status("No object there")
    page.click(70, 93)
    page.wait_status("1 object removed")
    page.wait_saved()
    assert [one["kind"] for one in page.objects()] == ["stroke", "stroke"]
    page.tool("brush")


def test_two_tabs_cannot_overwrite_each_other(visit, server):
    first = visit(server, "scene-5")
    second = visit(server, "scene-5")
    polling = "**/api/status"
    second.page.route(polling, lambda route: route.abort())  # so that it does not hear of the other tab before it draws
    first.choose("sky")
    first.drag((10, 10), (60, 10))
    first.wait_saved()
    second.choose("ground")
    second.drag((10, 80), (60, 80))
    second.wait_alert("Another tab changed this image")
    second.wait_saved()
    assert [one["class"] for one in second.objects()] == [1, 2]
    first.wait_status("Another tab changed this image")
    assert first.page.evaluate("document.getElementById('pane').dataset.revision") == str(
        first.annotation()["revision"]
    )


def test_tags_and_classes_are_edited(visit, server):
    page = visit(server, "scene-6")
    page.page.click('[aria-label="Tag: the image shows sky"]')
    page.wait_saved()
    assert page.annotation()["tags"] == [1]
    page.page.click("#edit-classes")
    page.page.click("#class-row-add")
    page.page.fill(".class-edit:last-child input[type=text]", "water")
    page.page.fill(".class-edit:last-child input[type=color]", "#112233")
    page.page.select_option(".class-edit:last-child select", "5")
    page.page.click("#classes-save")
    page.wait_status("Classes saved")
    classes = page.evaluate("async () => (await (await fetch('/api/project')).json()).classes")
    assert classes[-1] == {"index": 3, "name": "water", "color": "#112233", "pattern": 5}
    page.press("4")
    assert page.page.inner_text("#class-chip-name") == "water"


def test_the_view_zooms_to_the_pixel_and_moves(visit, server):
    page = visit(server, "scene-7")
    scale = "async () => (await import('/page/view.js')).view.zoom"
    before = page.evaluate(scale)
    left, top = page.screen(100, 50)
    page.page.mouse.move(left, top)
    page.page.mouse.wheel(0, -400)
    page.page.wait_for_function("old => import('/page/view.js').then((module) => module.view.zoom > old)", arg=before)
    assert page.screen(100, 50) == pytest.approx([left, top], abs=1)
    page.page.mouse.down(button="middle")
    page.page.mouse.move(left + 40, top + 30)
    page.page.mouse.up(button="middle")
    assert page.screen(100, 50) == pytest.approx([left + 40, top + 30], abs=1)
    page.press("0")
    assert page.evaluate(scale) == pytest.approx(before)


def test_one_finger_draws_and_two_fingers_zoom(browser, server):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = DrawPage(context, server)
    page.page.click("[data-panel=images]")
    page.show("scene-9")
    touch = context.new_cdp_session(page.page)

    def send(kind, *places):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    places = [page.screen(*place) for place in ((20, 40), (60, 42), (100, 40))]
    send("touchStart", places[0])
    for place in places[1:]:
        send("touchMove", place)
    send("touchEnd")
    page.wait_saved()
    (stroke,) = page.objects()
    assert stroke["points"][-1] == pytest.approx([100, 40], abs=1)
    scale = "async () => (await import('/page/view.js')).view.zoom"
    before = page.evaluate(scale)
    (x, y), other = places[1], places[2]
    send("touchStart", (x, y))
    send("touchStart", (x, y), other)
    send("touchMove", (x - 40, y), (other[0] + 40, other[1]))
    send("touchEnd")
    assert page.evaluate(scale) > 1.3 * before
    assert len(page.objects()) == 1
    assert page.evaluate("async () => (await import('/page/stage.js')).live.object") is None
    assert page.errors == []
    context.close()
