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


def test_saved_is_said_only_after_the_server_has_answered(visit, server):
    page = visit(server, "scene-10")
    held = []
    page.page.route("**/changes", lambda route: held.append(route), times=1)
    page.drag((10, 12), (130, 12))
    page.page.wait_for_function("() => document.getElementById('saved-text').textContent === 'Saving'")
    page.drag((10, 30), (130, 30))  # the next stroke waits for nothing
    page.page.wait_for_timeout(300)
    assert page.page.inner_text("#saved-text") == "Saving"
    assert len(held) == 1
    held[0].continue_()
    page.wait_saved()
    assert len(page.objects()) == 2


def test_a_stroke_whose_answer_was_lost_is_drawn_once(visit, server):
    page = visit(server, "scene-11")
    requests = []

    def lose(route):
        requests.append(route.request.post_data_json)
        route.fetch()
        route.abort()

    page.page.route("**/changes", lose, times=1)
    page.page.on("request", lambda request: "/changes" in request.url and requests.append(request.post_data_json))
    page.drag((10, 12), (130, 12))
    page.page.wait_for_selector('#saved[data-state="away"]')
    page.wait_saved()
    sent = {request["change"]["object"]["id"] for request in requests}
    assert len(requests) >= 3 and len(sent) == 1
    assert [one["id"] for one in page.objects()] == list(sent)


def test_a_newer_question_ends_the_older_one(visit, server):
    page = visit(server, "scene-12")
    page.choose("sky")
    page.drag((10, 12), (130, 12))
    page.choose("ground")
    page.drag((10, 84), (130, 84))
    page.wait_mask()
    ended, held = [], []
    page.page.on("requestfailed", lambda request: ended.append((request.post_data_json or {}).get("revision")))
    page.page.route("**/propagate", lambda route: held.append(route), times=1)  # never answered
    page.drag((10, 70), (130, 70))
    page.wait_saved()
    page.page.wait_for_timeout(200)
    page.drag((10, 60), (130, 60))
    page.wait_mask()
    assert held[0].request.post_data_json["revision"] in ended
    assert len(page.objects()) == 4


def test_strokes_are_kept_while_the_disk_of_the_server_is_full(visit, server):
    page = visit(server, "scene-12")
    before = len(page.objects())
    text = "strokes cannot be written (No space left on device); free some space"
    page.page.route("**/changes", lambda route: route.fulfill(status=507, json={"error": text}))
    page.drag((10, 40), (130, 40))
    page.wait_alert("free some space")
    assert "1 change" in page.page.inner_text("#saved-text")
    page.page.unroute("**/changes")
    page.wait_saved()
    assert len(page.objects()) == before + 1
    page.page.wait_for_selector('#alerts [data-key="full"]', state="detached")
