"""Run the server: one for each folder, on a port of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from wss.draw.security import LOOPBACK, Guard, new_token, require_allowed
from wss.errors import UsageError
from wss.store.lock import exclusive


def require_extra() -> None:
    """Raise unless Starlette and uvicorn are installed.

    Raises:
        UsageError: They are not.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"`wss draw` needs {error.name}, which is not installed: run `pip install 'wss[draw]'`, or in a checkout "
            "`pip install -e '.[draw]'`"
        ) from None


def serve(
    images: Path | None,
    workspace: Path | None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    framed: bool = False,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted.

    Args:
        images: Folder of images, see ``open_project``.
        workspace: Workspace instead.
        host: Where to listen.
        port: 0 takes a free one.
        token: Who knows it gets in; None makes one.
        framed: Pages of this machine may show the page in a frame.
        ready: Called with the address when requests are answered.

    Raises:
        UsageError: The extra is missing, the port is taken, another server has the folder, or ``host`` needs a token.
        DataError: The images or annotations cannot be read.
    """
    require_extra()
    require_allowed(host, token)
    import uvicorn

    from wss.draw.app import build_app
    from wss.draw.project import open_project
    from wss.draw.studio import Studio

    project = open_project(images, workspace)
    token = token or new_token()
    with exclusive(project.root / "draw.lock", _busy(project.root)), _listening(host, port) as listener:
        bound = listener.getsockname()[1]
        studio = Studio(project)
        hosts = LOOPBACK if host in LOOPBACK else (*LOOPBACK, host, socket.gethostname(), *_addresses(host))
        guard = Guard(build_app(studio), token, bound, hosts, framed)
        config = uvicorn.Config(
            guard,
            log_level="warning",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            date_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
        )
        shown = "localhost" if framed else "127.0.0.1" if host in ("0.0.0.0", "localhost") else host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}/?token={token}"

        class Announcing(uvicorn.Server):
            """Tells the address once requests are answered, and ends in good order at Ctrl+C."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                ready(address)

            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                if threading.current_thread() is not threading.main_thread():
                    yield
                    return
                before = {n: signal.signal(n, self.handle_exit) for n in (signal.SIGINT, signal.SIGTERM)}
                try:
                    yield
                finally:
                    for number, handler in before.items():
                        signal.signal(number, handler)

        server = Announcing(config)
        try:
            server.run(sockets=[listener])
        finally:
            studio.close()


def _busy(root: Path) -> Callable[[], None]:
    def refuse() -> None:
        raise UsageError(f"another `wss draw` has {root} open; use its page, or stop it first")

    return refuse


def _addresses(host: str) -> list[str]:
    """Addresses of this machine, where it listens on all of them."""
    if host not in ("0.0.0.0", "::"):
        return []
    with contextlib.suppress(OSError):
        return [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)]
    return []


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off the delay of small packets (40 ms for each answer) for sockets that name their protocol.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"--host {host} --port {port}: cannot listen there ({os.strerror(error.errno or 0)}); "
                "choose another port, or none"
            ) from None
        yield listener
