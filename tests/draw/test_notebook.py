import sys
import urllib.error
import urllib.request

import pytest
from draw_client import make_folder

import wss
from wss.errors import WssError


def test_a_notebook_shows_the_page_and_stops_the_server(tmp_path):
    drawing = wss.draw(make_folder(tmp_path / "photos"), height=500)
    try:
        assert drawing.url.startswith("http://localhost:") and "token=" in drawing.url
        assert f'<iframe src="{drawing.url}"' in drawing._repr_html_() and 'height="500"' in drawing._repr_html_()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        answer = opener.open(drawing.url, timeout=10)
        assert (
            answer.status == 200 and "frame-ancestors http://localhost:*" in answer.headers["content-security-policy"]
        )
    finally:
        drawing.stop()
    assert "stopped" in repr(drawing)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(drawing.url, timeout=2)
    drawing.stop()


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WssError, match="did not start"):
        wss.draw(tmp_path)


def test_wss_stays_quick_to_import():
    import subprocess

    code = "import sys, wss; assert 'wss.draw' not in sys.modules; wss.draw; print('torch' in sys.modules, callable(wss.draw))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False True", done.stderr
