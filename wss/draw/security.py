"""Who may talk to the server: this machine's browser, from the page itself, with the token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from wss.draw import limits
from wss.errors import UsageError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""
SHORTEST_TOKEN = 16
"""Tokens that people choose themselves have at least so many characters."""
_SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def require_allowed(host: str, token: str | None) -> None:
    """Raise if a server on this host would be open to others without a token that somebody chose.

    Raises:
        UsageError: It would, or the token is short or has characters that an address cannot have.
    """
    if host not in LOOPBACK and token is None:
        raise UsageError(
            f"--host {host} lets other machines in: choose a token for them with --token (it travels unencrypted: better "
            "keep 127.0.0.1 and reach it through `ssh -L`)"
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not set(token) <= _TOKEN):
        raise UsageError(
            f"--token: expected at least {SHORTEST_TOKEN} letters, digits, - and _; leave it out to get a random one"
        )


_TOKEN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Guard:
    """ASGI middleware in front of everything.

    Args:
        app: What answers requests that are allowed.
        token: The token in the address.
        port: The port, which Host and Origin must name.
        hosts: Names under which the server may be addressed.
        framed: Pages of this machine may show it in a frame (notebooks).
    """

    def __init__(
        self, app: App, token: str, port: int, hosts: tuple[str, ...] = LOOPBACK, framed: bool = False
    ) -> None:
        self._app = app
        self._token = token
        self._cookie = f"wss_draw_{port}"
        self._secret = hmac.new(token.encode(), b"wss draw session", hashlib.sha256).hexdigest()
        names = [f"[{h}]" if ":" in h else h for h in hosts]
        self._hosts = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())
        self._origins = {f"http://{host}" for host in self._hosts}
        ancestors = "http://localhost:* http://127.0.0.1:*" if framed else "'none'"
        self._headers = [
            (b"content-security-policy", _POLICY.format(ancestors=ancestors).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            *([] if framed else [(b"x-frame-options", b"DENY")]),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets
            return
        send = self._with_headers(send)
        headers = _headers(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        if scope["path"] == "/" and scope["method"] == "GET" and scope["query_string"]:
            await self._enter(scope, send)
            return
        if not self._has_cookie(headers):
            await _answer(send, 403, "open the address that `wss draw` printed; it carries the token")
            return
        await self._app(scope, _Limited(receive, limits.BODY_BYTES), send)

    def _refusal(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        host, origin = headers.get("host", []), headers.get("origin", [])
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return 421, "this server is not reached under that name; open the address that `wss draw` printed"
        if len(origin) > 1 or (origin and origin[0].lower() not in self._origins):
            return 403, "requests of other pages are refused"
        if headers.get("sec-fetch-site", ["same-origin"])[0] == "cross-site" and scope["path"] != "/":
            return 403, "requests of other pages are refused"
        if scope["method"] in _SAFE:
            return None
        if not origin:
            return 403, "a request that changes something must carry the header Origin"
        kind = headers.get("content-type", [""])[0].split(";")[0].strip().lower()
        if kind != "application/json":
            return 415, "expected a body of type application/json"
        length = headers.get("content-length", ["0"])[0]
        if not length.isdigit() or int(length) > limits.BODY_BYTES:
            return 413, f"a request has at most {limits.BODY_BYTES // 2**20} MB; send fewer objects at a time"
        return None

    async def _enter(self, scope: Scope, send: Send) -> None:
        """Exchange the token for the cookie."""
        try:
            given = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=4).get("token", [""])
        except (UnicodeDecodeError, ValueError):
            given = [""]
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(), self._token.encode()):
            await _answer(send, 403, "the token is not that of this server; open the address that `wss draw` printed")
            return
        cookie = f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
        await send(
            {
                "type": "http.response.start",
                "status": 303,
                "headers": [(b"location", b"/"), (b"set-cookie", cookie.encode())],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    def _has_cookie(self, headers: dict[str, list[str]]) -> bool:
        jar: SimpleCookie = SimpleCookie()
        try:
            for line in headers.get("cookie", []):
                jar.load(line)
        except CookieError:
            return False
        given = jar[self._cookie].value if self._cookie in jar else ""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._secret.encode())

    def _with_headers(self, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in self._headers}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        return wrapped


class TooLong(Exception):
    """The body is longer than was announced or allowed."""


class _Limited:
    """Receives a body up to a limit, whatever its header says."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._left = most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLong
        return message


def _headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


async def _answer(send: Send, status: int, message: str) -> None:
    import json

    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
