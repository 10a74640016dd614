"""The web application: which page and which data stand under which address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from posture.dashboard import messages, pages
from posture.dashboard.access import Access, Gate, Who, token_of
from posture.dashboard.broker import BrokerReader, NotSentError
from posture.dashboard.farm_reader import FarmReader
from posture.dashboard.feed import Feed
from posture.dashboard.history_routes import HistoryRoutes
from posture.dashboard.live import Live
from posture.dashboard.logging_in import LoggingIn
from posture.dashboard.past import Past
from posture.dashboard.protection import Protection
from posture.dashboard.streams import Stream
from posture.pictures.base import Pictures
from posture.settings.parsers import PI_ID
from posture.settings.table import Dashboard as Settings
from posture.wire.commands import Command, RefusedCommandError

STATIC = Path(__file__).resolve().parent / "static"
CACHED = {"Cache-Control": "no-cache"}
"""A browser keeps the files, and asks each time whether they have changed."""
COOKIE = "posture_session"
MAIN_STREAMS = """\
<h1 class="headline" id="headline">Waiting for the streams</h1>
<div class="filters" id="filters" role="group" aria-label="Show"></div>
<ul class="grid" id="grid" aria-label="Streams"></ul>
"""
MAIN_HISTORY = '<div class="title"><h1>History</h1></div><div id="history"></div>'
MAIN_FARM = '<div class="title"><h1>Farm</h1></div><div id="farm"></div>'
MAIN_EVENTS = '<div class="title"><h1>Events</h1></div><div id="events"></div>'
MAIN_STREAM = '<div id="stream" class="stream-page"></div>'

Running = Callable[[], contextlib.AbstractAsyncContextManager[None]]


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
        broker: takes commands.
        gate: who may look.
        past: the database.
        farm: where streams run.
        pictures_of: as ``HistoryRoutes`` takes it.
    """

    def __init__(
        self,
        live: Live,
        feed: Feed,
        broker: BrokerReader,
        gate: Gate,
        past: Past,
        farm: FarmReader,
        pictures_of: Callable[[str], Pictures],
    ) -> None:
        self._live, self._feed, self._broker, self._gate, self._past = live, feed, broker, gate, past
        self._farm = farm
        self._history = HistoryRoutes(past, pictures_of, self._is_live)

    def application(self, settings: Settings, hosts: Collection[str], running: Running) -> Starlette:
        """Return the application.

        Args:
            settings: of cookies.
            hosts: as ``Protection`` takes them.
            running: a context in which the sources are read.
        """

        @contextlib.asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            async with running():
                yield

        session = Middleware(
            SessionMiddleware,
            secret_key=self._gate.key,
            session_cookie=COOKIE,
            max_age=round(settings.session_h * 3600),
            same_site="strict",
            https_only=settings.https,
        )
        return Starlette(
            routes=self._routes(),
            middleware=[
                Middleware(Protection, hosts=hosts, describe=pages.error),
                session,
                Middleware(Access, gate=self._gate, refuse=_refusal, again=pages.again),
            ],
            exception_handlers={HTTPException: _refused, Exception: _failed},
            lifespan=lifespan,
        )

    def _routes(self) -> list[BaseRoute]:
        login = LoggingIn(self._gate)
        return [
            Route("/", self.streams_page),
            Route("/streams/{pi_id}", self.stream_page),
            Route("/history", self.history_page),
            Route("/farm", self.farm_page),
            Route("/events", self.events_page),
            Route("/api/farm", self.farm),
            Route("/login", login.show),
            Route("/login", login.log_in, methods=["POST"]),
            Route("/logout", login.log_out, methods=["POST"]),
            Route("/healthz", _healthz),
            Route("/api/feed", self.feed),
            Route("/api/streams", self.streams),
            Route("/api/streams/{pi_id}", self.stream),
            Route("/api/streams/{pi_id}/picture", self.picture),
            Route("/api/streams/{pi_id}/command", self.command, methods=["POST"]),
            *self._history.routes(),
            Mount("/static", _Static(directory=STATIC)),
        ]

    async def streams_page(self, _request: Request) -> Response:
        """All streams."""
        return pages.page("Streams", MAIN_STREAMS, script="streams", at="/")

    async def stream_page(self, request: Request) -> Response:
        """One stream, as it is, or as its rows say it was."""
        pi_id = request.path_params["pi_id"]
        if pi_id not in self._past.names:
            self._known(request)
        head = '<script src="/static/vendor/uplot/uPlot.iife.min.js" defer></script>'
        style = '<link rel="stylesheet" href="/static/vendor/uplot/uPlot.min.css">'
        return pages.page(pi_id, MAIN_STREAM, script="stream", at="/", head=style + head)

    async def history_page(self, _request: Request) -> Response:
        """A day of all streams."""
        return pages.page("History", MAIN_HISTORY, script="history", at="/history")

    async def farm_page(self, _request: Request) -> Response:
        """Where streams run."""
        return pages.page("Farm", MAIN_FARM, script="farm", at="/farm")

    async def farm(self, _request: Request) -> Response:
        """Where streams run, as JSON."""
        return JSONResponse(self._farm.as_json())

    async def events_page(self, _request: Request) -> Response:
        """What has happened."""
        return pages.page("Events", MAIN_EVENTS, script="events", at="/events")

    async def feed(self, request: Request) -> Response:
        """Answer with events for ever."""
        if self._feed.is_full:
            raise HTTPException(503, "too many pages are open; close some")
        who: Who = request.state.who
        about = {
            "user": who.name,
            "operator": who.operator,
            "logs_in": self._gate.users is not None,
            "token": token_of(request),
        }
        events = self._feed.events(about, lambda: self._gate.who(request) == who)
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

    async def command(self, request: Request) -> Response:
        """Send a command to a stream's analyzer; its answer comes by the feed."""
        stream = self._known(request)
        command_id = secrets.token_hex(8)
        try:
            asked = json.loads(await request.body())
            if not isinstance(asked, dict):
                raise RefusedCommandError('accepted: a JSON object, such as {"snooze_s": 1800}')
            command = Command.parse(json.dumps({**asked, "id": command_id}).encode())
        except (ValueError, RecursionError):
            raise HTTPException(400, "that is no JSON") from None
        except RefusedCommandError as error:
            raise HTTPException(400, str(error)) from None
        if stream.analyzer is None or not stream.analyzer.online:
            raise HTTPException(409, f"no analyzer has stream {stream.pi_id} now")
        try:
            await asyncio.to_thread(self._broker.send, stream.pi_id, command)
        except NotSentError as error:
            raise HTTPException(503, str(error)) from None
        return JSONResponse({"id": command_id}, 202)

    def _is_live(self, pi_id: str) -> bool:
        with self._live.hold():
            return pi_id in self._live.streams

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


def _refusal(connection: HTTPConnection, status: int, why: str) -> Response:
    if connection.url.path.startswith("/api/"):
        return JSONResponse({"error": why}, status)
    return pages.error(status, why)


async def _refused(request: Request, error: Exception) -> Response:
    status, why = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return _refusal(request, status, "there is no such page" if (status, why) == (404, "Not Found") else why)


async def _failed(request: Request, _error: Exception) -> Response:
    return _refusal(request, 500, "an error of ours; the dashboard's log has it")
