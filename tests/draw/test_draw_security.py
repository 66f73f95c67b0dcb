import json

import pytest
from draw_client import ORIGIN, PORT, TOKEN, Page, stroke
from starlette.testclient import TestClient

from wss.draw import limits
from wss.draw.security import new_token, require_allowed
from wss.errors import UsageError


def _raw(page, method="GET", path="/api/project", cookie=True, **headers):
    """A request whose every header is given here."""
    client = TestClient(page.client.app, base_url=ORIGIN, raise_server_exceptions=False)
    if cookie:
        client.cookies = page.client.cookies
    return client.request(method, path, headers=headers, content=b"{}" if method != "GET" else None)


def test_nothing_is_told_without_the_cookie(page):
    stranger = Page(page.studio, enter=False)
    for path in ("/", "/page/index.html", "/api/project", "/api/status", f"/api/images/{page.image()}/annotation"):
        answer = stranger.client.get(path)
        assert answer.status_code == 403, path
        assert "a.png" not in answer.text and "leaf" not in answer.text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "é" * 20])
def test_a_wrong_token_gives_no_cookie(page, token):
    stranger = Page(page.studio, enter=False)
    answer = stranger.client.get("/", params={"token": token}, follow_redirects=False)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_two_tokens_are_no_token(page):
    stranger = Page(page.studio, enter=False)
    assert stranger.client.get(f"/?token=x&token={TOKEN}", follow_redirects=False).status_code == 403


def test_the_cookie_cannot_be_read_or_sent_by_other_pages_and_is_not_the_token(page):
    answer = Page(page.studio, enter=False).client.get(f"/?token={TOKEN}", follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    assert answer.headers["location"] == "/"


def test_a_guessed_cookie_is_refused(page):
    for value in ("", "x", TOKEN, "0" * 64, "\x7f"):
        client = TestClient(page.client.app, base_url=ORIGIN)
        answer = client.get("/api/project", headers={"Cookie": f"wss_draw_{PORT}={value}"})
        assert answer.status_code == 403, value


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""])
def test_another_host_name_is_refused(page, host):
    """DNS rebinding: a name of the attacker that leads to 127.0.0.1."""
    assert _raw(page, host=host).status_code == 421


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"[::1]:{PORT}", f"LOCALHOST:{PORT}"])
def test_names_of_this_machine_are_known(page, host):
    assert _raw(page, host=host).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1"])
def test_another_origin_is_refused(page, origin):
    assert _raw(page, origin=origin).status_code == 403
    answer = _raw(page, "POST", "/api/training", origin=origin, **{"content-type": "application/json"})
    assert answer.status_code == 403


def test_a_change_needs_an_origin_and_json(page):
    change = f"/api/images/{page.image()}/changes"
    assert _raw(page, "POST", change, **{"content-type": "application/json"}).status_code == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert _raw(page, "POST", change, origin=ORIGIN, **{"content-type": kind}).status_code == 415, kind
    answer = _raw(page, "POST", change, origin=ORIGIN, **{"content-type": "application/json"})
    assert answer.status_code == 400


def test_pictures_cannot_be_embedded_elsewhere(page):
    path = f"/api/images/{page.image()}/thumbnail"
    assert _raw(page, path=path, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert _raw(page, path=path, **{"sec-fetch-site": "same-origin"}).status_code == 200


def test_every_answer_carries_the_policy_and_is_not_kept(page):
    for path in ("/", "/api/project", "/page/nothing.js", f"/api/images/{page.image()}/tile/0/0/0"):
        headers = page.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"


def test_frames_are_allowed_only_where_a_notebook_asked_for_it(page):
    framed = Page(page.studio, framed=True).client.get("/").headers["content-security-policy"]
    assert "frame-ancestors http://localhost:* http://127.0.0.1:*" in framed


def test_the_page_has_no_inline_script_or_style(page):
    import re

    text = page.get("/").decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)


@pytest.mark.parametrize(
    "name",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..%252fapp.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "./../security.py",
        "\\..\\app.py",
    ],
)
def test_no_name_leads_out_of_the_page(page, name):
    answer = page.client.get(f"/page/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


@pytest.mark.parametrize("name", ["..", "a", "a.png", "../a.png", "%2e%2e%2fa.png", "0" * 20, "x" * 5000])
def test_images_have_ids_and_no_paths(page, name):
    for ending in ("", "/annotation", "/tile/0/0/0", "/thumbnail", "/truth"):
        assert page.client.get(f"/api/images/{name}{ending}").status_code == 404


def test_ids_tell_no_names(page):
    project = page.get("/api/project")
    for image in project["images"]:
        assert len(image["id"]) == 20 and set(image["id"]) <= set("0123456789abcdef")
    assert str(page.studio.project.root) not in json.dumps(project)


def test_long_bodies_are_refused_whatever_they_announce(page):
    path = f"/api/images/{page.image()}/changes"
    long = b" " * (limits.BODY_BYTES + 1)
    assert page.client.post(path, content=long).status_code == 413

    def chunks():
        for _ in range(limits.BODY_BYTES // 2**20 + 1):
            yield b" " * 2**20

    assert page.client.post(path, content=chunks()).status_code == 413
    for length in ("-1", "x", str(2**70)):
        answer = _raw(
            page, "POST", path, origin=ORIGIN, **{"content-type": "application/json", "content-length": length}
        )
        assert answer.status_code == 413, length


def test_many_points_objects_and_classes_are_refused(page):
    image = page.image()
    page.draw(image, stroke("s", 1, *[(1, 1)] * (limits.POINTS + 1)), status=400)
    page.draw(image, *[stroke(f"s{n}", 1, (1, 1)) for n in range(limits.OBJECTS + 1)], status=400)
    page.draw(image, *[stroke(f"s{n}", 1, (1, 1)) for n in range(limits.OBJECTS)])
    page.draw(image, stroke("one-more", 1, (1, 1)), status=400)
    known = page.get("/api/project")
    many = [{"index": None, "name": f"c{n}", "color": "#000000", "pattern": 0} for n in range(limits.CLASSES)]
    body = {"revision": known["classes_revision"], "classes": known["classes"] + many}
    page.post("/api/classes", body, 400, "PUT")


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "stroke", "class": 9},
        {"kind": "stroke", "class": -1},
        {"kind": "stroke", "class": True},
        {"kind": "stroke", "class": 255},
        {"kind": "stroke", "class": 1, "points": []},
        {"kind": "stroke", "class": 1, "points": [[1]]},
        {"kind": "stroke", "class": 1, "points": [["1", None]]},
        {"kind": "stroke", "class": 1, "points": [[1e9, 0]]},
        {"kind": "stroke", "class": 1, "points": [[5000, 0]]},
        {"kind": "stroke", "class": 1, "width": 1e6},
        {"kind": "stroke", "class": 1, "id": "../x"},
        {"kind": "stroke", "class": 1, "id": ""},
        {"kind": "stroke", "class": 1, "extra": 1},
        {"kind": "text", "class": 1},
        {"kind": "region", "class": 1, "rle": {"size": [48, 64], "counts": [1]}},
        {"kind": "region", "class": 1, "rle": {"size": [4800, 64], "counts": [4800 * 64]}},
        {"kind": "region", "class": 1, "rle": {"size": [48, 64], "counts": [-1, 48 * 64 + 1]}},
    ],
)
def test_what_cannot_be_drawn_is_refused_and_changes_nothing(page, bad):
    image = page.image()
    item = {"id": "s", "width": 3, "points": [[1, 1]]} if bad["kind"] != "region" else {"id": "s"}
    answer = page.draw(image, item | bad, status=400)
    assert answer["error"]
    assert page.get(f"/api/images/{image}/annotation")["revision"] == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"nul", b"[" * 100_000, b'{"base": NaN}', b"\xff\xfe", b'{"base":1e999}'])
def test_damaged_json_is_refused(page, body):
    answer = page.client.post(f"/api/images/{page.image()}/changes", content=body)
    assert answer.status_code == 400 and "error" in answer.json()


def test_nan_and_infinity_are_refused(page):
    for value in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = (
            '{"base":0,"change":{"op":"add","object":{"id":"s","kind":"stroke","class":1,"width":2,"points":[[%s,1]]}}}'
        )
        answer = page.client.post(f"/api/images/{page.image()}/changes", content=(text % value).encode())
        assert answer.status_code == 400, value


def test_windows_and_tiles_outside_are_refused(page):
    image = page.image()
    for part in ("9/0/0", "0/7/0", "0/0/99999999999", "0/-1/0"):
        assert page.client.get(f"/api/images/{image}/tile/{part}").status_code == 404, part
    for query in ("lo=1", "lo=a&hi=2", "lo=5&hi=5", "lo=nan&hi=2", "lo=0&hi=inf"):
        assert page.client.get(f"/api/images/{image}/tile/0/0/0?{query}").status_code == 400, query


def test_other_hosts_need_a_chosen_token():
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(UsageError, match="--token"):
            require_allowed(host, None)
        require_allowed(host, "0123456789abcdef")
    require_allowed("127.0.0.1", None)
    for token in ("short", "0123456789 abcdef", "0123456789abcdef&x=1", "0123456789abcdef/.."):
        with pytest.raises(UsageError, match="16 letters"):
            require_allowed("127.0.0.1", token)


def test_tokens_are_long_and_differ():
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50 and min(map(len, tokens)) >= 32
