"""The requests that the page sends, each answered by one function."""

from __future__ import annotations

import json
import mimetypes
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from wss.draw import png
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
            answer = await run_in_threadpool(action, *given)
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return _refusing(handle)

    async def tile(request: Request) -> Response:
        part = request.path_params
        name = studio.project.name(part["image"])
        window = _window(request)
        data = await run_in_threadpool(studio.pictures.tile, name, part["level"], part["x"], part["y"], window)
        return Response(data, media_type="image/png" if part["level"] == 0 else "image/jpeg")

    def thumbnail(name: str) -> Response:
        return Response(studio.pictures.thumbnail(name), media_type="image/jpeg")

    def labels(mask: NDArray[np.uint8] | None, what: str) -> Response:
        if mask is None:
            raise unknown(what)
        return Response(png.indexed(mask, studio.project.classes.palette()), media_type="image/png")

    async def propagate(request: Request) -> Response:
        name = studio.project.name(request.path_params["image"])
        asked = studio.propagator.ask(name, await _body(request))
        return StreamingResponse(studio.propagator.answers(asked), media_type="application/x-ndjson")

    async def following(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(studio.next, request.query_params.get("after")))

    def export(body: dict[str, Any]) -> Response:
        made = studio.exporter.export(body)
        headers = {"Content-Disposition": f'attachment; filename="{made.name}"'}
        return Response(made.data, media_type=made.kind, headers=headers)

    image = "/api/images/{image}"
    return Starlette(
        routes=[
            Route("/", _page),
            Route("/page/{name:path}", _refusing(_static)),
            Route("/api/project", api(studio.overview)),
            Route("/api/classes", api(studio.change_classes, body=True), methods=["PUT"]),
            Route("/api/status", api(studio.status)),
            Route("/api/next", _refusing(following)),
            Route("/api/training", api(studio.trainer.state)),
            Route("/api/training", api(studio.trainer.start, body=True), methods=["POST"]),
            Route("/api/training/stop", api(studio.trainer.stop), methods=["POST"]),
            Route("/api/training/resume", api(studio.trainer.resume, body=True), methods=["POST"]),
            Route("/api/export", api(export, body=True), methods=["POST"]),
            Route(image, api(lambda name: studio.image(name, opened=True))),
            Route(image + "/tile/{level:int}/{x:int}/{y:int}", _refusing(tile)),
            Route(image + "/thumbnail", api(thumbnail)),
            Route(image + "/base", api(lambda name: labels(studio.labels.base(name), "scribble"))),
            Route(image + "/truth", api(lambda name: labels(studio.labels.truth(name), "truth"))),
            Route(image + "/truth", api(studio.masks.keep_truth, body=True), methods=["POST"]),
            Route(image + "/split", api(studio.masks.split, body=True), methods=["POST"]),
            Route(image + "/annotation", api(studio.annotation)),
            Route(image + "/changes", api(studio.change, body=True), methods=["POST"]),
            Route(image + "/propagate", _refusing(propagate), methods=["POST"]),
            Route(image + "/prediction", api(studio.prediction)),
            Route(image + "/accept", api(studio.accept, body=True), methods=["POST"]),
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
        except Exception as error:
            traceback.print_exc()
            message = f"the server failed ({type(error).__name__}); its terminal says more. What was drawn is on disk"
            return JSONResponse({"error": message}, 500)

    return handled


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "expected a JSON object")
    return body


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
