"""``wss draw``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def draw(
    images: Annotated[
        Path | None, typer.Argument(help="A folder of images, or the folder of a data set with `images` in it.")
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", help="Draw on the data set of this workspace instead, of any kind."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 chooses a free one.")] = 0,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; access from other machines needs --token.", metavar="HOST"),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="WSS_DRAW_TOKEN", help="Password of the page; default: a random one each time."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    framed: Annotated[
        bool, typer.Option("--framed", hidden=True, help="Allow pages of this machine to show it in a frame.")
    ] = False,
) -> None:
    """Draw scribbles in the browser, see masks at once, train, correct, export; serves one page on this machine.

    Everything is stored in the folder of the images, which becomes a data set of kind `folder`; with -w, in the folder `drawn`
    of the workspace. Stop it with Ctrl+C at any time: all drawings are on disk.

    Example: [bold]wss draw photos/[/bold]
    """
    from wss.draw.server import serve

    def ready(address: str) -> None:
        print(address, flush=True)
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    serve(images, workspace, host=host, port=port, token=token, framed=framed, ready=ready)
