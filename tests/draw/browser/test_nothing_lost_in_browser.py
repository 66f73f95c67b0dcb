"""The server is killed while somebody draws; nothing that the page called saved is lost, and nothing unsent either."""


def test_first_classes_then_kill_restart_and_reload(visit, own_server):
    page = visit(own_server)
    page.page.fill("#first-class", "sky, ground")
    page.press("Enter")
    page.page.wait_for_selector('.class-row[aria-pressed="true"]:has-text("sky")')
    page.drag((10, 12), (70, 8), (130, 12))
    page.wait_saved()
    own_server.kill()
    page.choose("ground")
    page.drag((10, 84), (70, 88), (130, 84))
    page.page.wait_for_selector('#saved[data-state="away"]')
    page.wait_alert("The server does not answer")
    page.drag((10, 60), (130, 60))
    assert "2 changes" in page.page.inner_text("#saved-text")
    own_server.start()
    page.wait_saved()
    page.wait_mask()
    assert [one["class"] for one in page.objects()] == [1, 2, 2]
    page.page.reload()
    page.page.wait_for_selector("body[data-ready]")
    page.wait_mask()
    assert [one["class"] for one in page.objects()] == [1, 2, 2]
    page.press("Control+z")  # the history outlives the server
    page.wait_saved()
    assert [one["class"] for one in page.objects()] == [1, 2]


def test_unsent_strokes_outlive_a_reload_while_the_server_is_away(visit, own_server):
    page = visit(own_server)
    page.page.fill("#first-class", "sky")
    page.press("Enter")
    page.page.wait_for_selector('.class-row:has-text("sky")')
    own_server.kill()
    page.drag((10, 12), (130, 12))
    page.page.wait_for_selector('#saved[data-state="away"]')
    own_server.start()
    page.page.evaluate("location.reload()")
    page.page.wait_for_selector("body[data-ready]")
    page.wait_saved()
    (stroke,) = page.objects()
    assert stroke["class"] == 1
