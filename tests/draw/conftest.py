from importlib.util import find_spec

import pytest

pytest.importorskip("starlette", reason="the server needs the extra wss[draw]")
if not any(find_spec(name) for name in ("httpx2", "httpx")):
    pytest.skip("Starlette's TestClient needs httpx2", allow_module_level=True)

from draw_client import Page, make_folder

from wss.draw.project import open_project
from wss.draw.studio import Studio


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "photos")


@pytest.fixture
def open_page(request):
    """Open a folder as a server does."""

    def opened(images=None, workspace=None, **kwargs):
        studio = Studio(open_project(images, workspace))
        request.addfinalizer(studio.close)
        return Page(studio, **kwargs)

    return opened


@pytest.fixture
def page(folder, open_page):
    """A server on a new folder of three pictures, with one class beside the background."""
    page = open_page(folder)
    page.classes("leaf")
    return page
