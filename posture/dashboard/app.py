"""The web application: which page and which data stand under which address."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from posture.dashboard import messages, pages
from posture.dashboard.feed import Feed
from posture.dashboard.live import Live
from posture.dashboard.protection import Protection
from posture.dashboard.streams import Stream
from posture.settings.parsers import PI_ID

STATIC = Path(__file__).resolve().parent / "static"
CACHED = {"Cache-Control": "no-cache"}
"""A browser keeps the files, and asks each time whether they have changed."""
MAIN_STREAMS = """\
<h1 class="headline" id="headline">Waiting for the streams</h1>
<div class="filters" id="filters" role="group" aria-label="Show"></div>
<ul class="grid" id="grid" aria-label="Streams"></ul>
"""

Wake = Callable[[], contextlib.AbstractAsyncContextManager[None]]


class _Static(StaticFiles):
    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(CACHED)
        return response


class Dashboard:
    """The pages.

    Args:
        live: what is known of the streams.
        feed: the pages' feeds.
    """

    def __init__(self, live: Live, feed: Feed) -> None:
        self._live, self._feed = live, feed

    def application(self, hosts: Collection[str], running: Wake) -> Starlette:
        """Return the application.

        Args:
            hosts: as ``Protection`` takes them.
            running: a context in which the sources are read.
        """

        @contextlib.asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            async with running():
                yield

        return Starlette(
            routes=[
                Route("/", self.streams_page),
                Route("/healthz", _healthz),
                Route("/api/feed", self.feed),
                Route("/api/streams", self.streams),
                Route("/api/streams/{pi_id}", self.stream),
                Route("/api/streams/{pi_id}/picture", self.picture),
                Mount("/static", _Static(directory=STATIC)),
            ],
            middleware=[Middleware(Protection, hosts=hosts, describe=pages.error)],
            exception_handlers={HTTPException: _refused, Exception: _failed},
            lifespan=lifespan,
        )

    async def streams_page(self, _request: Request) -> Response:
        """All streams."""
        return pages.page("Streams", MAIN_STREAMS, script="streams", at="/")

    async def feed(self, _request: Request) -> Response:
        """Answer with events for ever."""
        if self._feed.is_full:
            raise HTTPException(503, "too many pages are open; close some")
        events = self._feed.events({}, lambda: True)
        # a proxy must not wait for the end
        return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def streams(self, _request: Request) -> Response:
        """All streams, as JSON."""
        with self._live.hold():
            streams = messages.of_streams(self._live.streams, list(self._live.streams))
        return JSONResponse({"now": time.time(), "streams": streams})

    async def stream(self, request: Request) -> Response:
        """One stream, as JSON."""
        return JSONResponse(messages.of_stream(self._known(request)))

    async def picture(self, request: Request) -> Response:
        """Answer with a stream's newest picture."""
        picture = self._known(request).picture
        if picture is None:
            raise HTTPException(404, "this stream sends no picture now")
        return Response(picture.jpeg, media_type="image/jpeg")

    def _known(self, request: Request) -> Stream:
        """Return the stream that a request names.

        Raises:
            HTTPException: there is none.
        """
        pi_id = request.path_params["pi_id"]
        with self._live.hold():
            if pi_id in self._live.streams:
                return self._live.streams[pi_id]
        if not PI_ID.fullmatch(pi_id):
            raise HTTPException(404, "that is no stream's name; accepted: a-z, 0-9 and -, up to 32")
        raise HTTPException(404, f"stream {pi_id} is not known: no topic and no row speaks of it")


async def _healthz(_request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def _refused(request: Request, error: Exception) -> Response:
    status, why = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": why}, status)
    return pages.error(status, "there is no such page" if (status, why) == (404, "Not Found") else why)


async def _failed(request: Request, _error: Exception) -> Response:
    return await _refused(request, HTTPException(500, "an error of ours; the dashboard's log has it"))
