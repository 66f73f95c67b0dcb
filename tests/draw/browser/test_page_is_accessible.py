"""axe-core finds no serious violation in the main states of the page, light and dark."""

import io
import shutil
import subprocess
import tarfile

import pytest
from drawing_page import DrawPage

AXE = "axe-core@4.14.1"
GRAVE = {"serious", "critical"}


@pytest.fixture(scope="session")
def axe(browser, request):
    """The source of axe-core, from npm; kept between runs."""
    folder = request.config.cache.mkdir("axe-core")
    kept = folder / f"{AXE}.js"
    if not kept.exists():
        if shutil.which("npm") is None:
            pytest.skip("needs npm, which has axe-core")
        done = subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm cannot give {AXE}: {done.stderr.decode()[-200:]}")
        packed = folder / done.stdout.decode().split()[-1]
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            kept.write_bytes(archive.extractfile("package/axe.min.js").read())
    return kept.read_text()


def violations(page, axe):
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document)")["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]} {node['any'][:1]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def close_dialog(page):
    page.press("Escape")
    page.page.wait_for_function("() => !document.querySelector('dialog[open]')")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_main_states_have_no_serious_violation(browser, server, axe, colours):
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme=colours, reduced_motion="reduce"
    )
    page = DrawPage(context, server, "scene-8")
    states = {"opened": violations(page, axe)}
    page.page.focus("#stage")
    page.press("2", "b", "Space", "ArrowRight", "Enter")
    page.wait_saved()
    states["drawn"] = violations(page, axe)
    page.press("s", "t", "u")
    states["side by side"] = violations(page, axe)
    page.press("s", "t", "u", "?")
    states["shortcuts"] = violations(page, axe)
    close_dialog(page)
    page.press("Control+e")
    states["export"] = violations(page, axe)
    close_dialog(page)
    page.page.click("#edit-classes")
    states["classes"] = violations(page, axe)
    close_dialog(page)
    page.evaluate("async () => (await import('/page/say.js')).warn('Something went wrong.')")
    states["alert"] = violations(page, axe)
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.page.click("[data-panel=mask]")
    states["narrow"] = violations(page, axe)
    assert {state: found for state, found in states.items() if found} == {}
    assert page.errors == []
    context.close()


def test_the_first_question_has_no_serious_violation(browser, own_server, axe, context):
    page = DrawPage(context, own_server)
    assert page.page.evaluate("() => document.activeElement.id") == "first-class"
    assert violations(page, axe) == []


def test_everything_on_the_page_is_reached_and_named(browser, server, context):
    """Tab goes through all parts of the page, and everything that takes the focus has a name."""
    page = DrawPage(context, server, "scene-8")
    reached = set()
    for _ in range(120):
        page.press("Tab")
        script = """() => {
            const one = document.activeElement;
            const label = one.labels?.[0]?.textContent ?? '';
            const name = one.getAttribute('aria-label') ?? one.title ?? '';
            const named = (label + name + one.textContent).trim() !== '' || one === document.body;
            return [one.id || one.className || one.tagName, named];
        }"""
        which, named = page.evaluate(script)
        assert named, which
        reached.add(which)
    assert {"stage", "width", "propose", "opacity", "open-export", "edit-classes"} <= reached
