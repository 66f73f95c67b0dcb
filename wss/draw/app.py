"""The requests that the page sends, each answered by one function."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wss.draw.refusals import Refused, unknown
from wss.draw.security import TooLong
from wss.draw.studio import Studio
from wss.errors import WssError

PAGE = Path(__file__).parent / "page"
_KINDS = {".html", ".css", ".js", ".svg", ".json"}
mimetypes.add_type("text/javascript", ".js")

Handler = Callable[[Request], Awaitable[Response]]


def build_app(studio: Studio) -> Starlette:
    """The application, without the guard that goes in front of it.

    Args:
        studio: What it is about.
    """

    def api(action: Callable[..., Any], *names: str, body: bool = False) -> Handler:
        """A handler that calls an action in a thread with the image's name, other parts of the path, and the body."""

        async def handle(request: Request) -> Response:
            given: list[Any] = []
            if "image" in request.path_params:
                given.append(studio.project.name(request.path_params["image"]))
            given += [request.path_params[name] for name in names]
            if body:
                given.append(await _body(request))
            found = await run_in_threadpool(action, *given)
            return found if isinstance(found, Response) else JSONResponse(found)

        return _refusing(handle)

    async def tile(request: Request) -> Response:
        part = request.path_params
        name = studio.project.name(part["image"])
        window = _window(request)
        data = await run_in_threadpool(studio.pictures.tile, name, part["level"], part["x"], part["y"], window)
        return Response(data, media_type="image/png" if part["level"] == 0 else "image/jpeg")

    def thumbnail(name: str) -> Response:
        return Response(studio.pictures.thumbnail(name), media_type="image/jpeg")

    def classes(body: dict[str, Any]) -> dict[str, Any]:
        found = studio.project.classes
        found.change(body.get("revision", -1), body.get("classes"), studio.blocked)
        return {"classes_revision": found.revision, "classes": found.items}

    image = "/api/images/{image}"
    return Starlette(
        routes=[
            Route("/", _page),
            Route("/page/{name:path}", _refusing(_static)),
            Route("/api/project", api(studio.overview)),
            Route("/api/classes", api(classes, body=True), methods=["PUT"]),
            Route(image, api(lambda name: studio.image(name, opened=True))),
            Route(image + "/tile/{level:int}/{x:int}/{y:int}", _refusing(tile)),
            Route(image + "/thumbnail", api(thumbnail)),
            Route(image + "/annotation", api(studio.annotations.answer)),
            Route(image + "/changes", api(studio.change, body=True), methods=["POST"]),
        ]
    )


def _refusing(handle: Handler) -> Handler:
    """Turn errors into answers with one sentence."""

    async def handled(request: Request) -> Response:
        try:
            return await handle(request)
        except Refused as refusal:
            return JSONResponse({"error": str(refusal), **refusal.more}, refusal.status)
        except TooLong:
            return JSONResponse({"error": "the request is too long; send fewer objects at a time"}, 413)
        except ClientDisconnect:
            return Response(status_code=400)
        except WssError as error:
            return JSONResponse({"error": str(error)}, 422)
        except MemoryError:
            return JSONResponse({"error": "not enough memory; close other programs or cut the image into tiles"}, 507)

    return handled


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "expected a JSON object")
    return found


def _window(request: Request) -> tuple[float, float] | None:
    query = request.query_params
    if "lo" not in query and "hi" not in query:
        return None
    try:
        low, high = float(query["lo"]), float(query["hi"])
    except (KeyError, ValueError):
        raise Refused(400, "expected lo and hi as numbers") from None
    if not (abs(low) < 1e9 and abs(high) < 1e9):
        raise Refused(400, "expected lo and hi as numbers")
    return low, high


async def _page(request: Request) -> Response:
    return Response((PAGE / "index.html").read_bytes(), media_type="text/html; charset=utf-8")


async def _static(request: Request) -> Response:
    """A file of the page. Only names of files that are there are known, so that no name leads elsewhere."""
    files = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.suffix in _KINDS}
    path = files.get(request.path_params["name"])
    if path is None:
        raise unknown("file")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Response(path.read_bytes(), media_type=kind)
