"""Train a few steps from the page, look at the predictions and accept a region of one."""

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
        assert "give at least" in page.page.inner_text("#train-error")
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
