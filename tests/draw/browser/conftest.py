import os

import pytest
from drawing_page import DrawPage, Server, chromium_path, make_images


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium, driven by Playwright; tests are skipped where one of them is missing."""
    pytest.importorskip("starlette", reason="the page needs the extra wss[draw]")
    pytest.importorskip("uvicorn", reason="the page needs the extra wss[draw]")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    path = chromium_path()
    if path is None:
        pytest.skip("needs a chromium: apt-get install chromium, or its path in WSS_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory):
    """One server for tests that each take an image of their own."""
    folder = make_images(tmp_path_factory.mktemp("drawn") / "scenes", 14)
    (folder / "classes.txt").write_text("background\nsky\nground\n")
    server = Server(folder).start()
    yield server
    server.kill()


@pytest.fixture
def own_server(browser, tmp_path):
    """A server that a test may kill; its folder has images and nothing else."""
    server = Server(make_images(tmp_path / "scenes", 3)).start()
    yield server
    if server.process.poll() is None:
        server.kill()


@pytest.fixture
def context(browser):
    context = browser.new_context(viewport={"width": 1200, "height": 800}, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def visit(context):
    """Open pages, and demand at the end that no script failed in them."""
    pages = []

    def open_page(server, image=None):
        pages.append(DrawPage(context, server, image))
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.errors == []
