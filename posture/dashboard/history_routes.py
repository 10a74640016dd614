"""What has been, as JSON: days, weeks, frames; CSV and deletion for operators."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from posture.dashboard import summaries
from posture.dashboard.access import Who
from posture.dashboard.past import Past
from posture.errors import UserError
from posture.history.days import bounds, parse_day, zone_of
from posture.history.questions import UnknownStreamError
from posture.history.reader import StoredRow
from posture.pictures.base import Pictures, PicturesUnavailableError
from posture.settings.parsers import PI_ID
from posture.store.base import StoreRefusedError, StoreUnavailableError

log = logging.getLogger(__name__)

WEEK_DAYS = 7
LATEST_S = 253_000_000_000

Answer = Callable[[Request], Awaitable[Response]]


class HistoryRoutes:
    """The addresses of what has been.

    Args:
        past: the database.
        pictures_of: stream -> the store of its pictures; a folder has those that this machine made.
        is_live: whether the broker speaks of a stream. One that has no rows is not unknown then.
    """

    def __init__(self, past: Past, pictures_of: Callable[[str], Pictures], is_live: Callable[[str], bool]) -> None:
        self._past, self._pictures_of, self._is_live = past, pictures_of, is_live

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/api/day", _answering(self.day_of_all)),
            Route("/api/streams/{pi_id}/day", _answering(self._or_nothing(self.day))),
            Route("/api/streams/{pi_id}/week", _answering(self._or_nothing(self.week))),
            Route("/api/streams/{pi_id}/frame", _answering(self.frame)),
            Route("/api/streams/{pi_id}/frames/{frame_id:path}", _answering(self.stored_picture)),
            Route("/api/streams/{pi_id}/rows.csv", _answering(self.rows)),
            Route("/api/streams/{pi_id}/rows", _answering(self.delete), methods=["DELETE"]),
        ]

    async def day_of_all(self, request: Request) -> Response:
        """One day of every stream, in short."""
        day, zone = _day_and_zone(request.query_params)
        days = await self._past.day_of_all(day, zone)
        start, end = bounds(day, zone)
        return JSONResponse(
            {
                "day": day.isoformat(),
                "start": start.timestamp(),
                "end": end.timestamp(),
                "streams": [summaries.in_short(one) for one in days],
            }
        )

    async def day(self, request: Request) -> Response:
        """One day of a stream."""
        pi_id = _stream(request)
        day, zone = _day_and_zone(request.query_params)
        found = await self._past.ask(lambda history: history.day(pi_id, day, zone))
        return JSONResponse({**summaries.span(found), **summaries.in_full(found)})

    async def week(self, request: Request) -> Response:
        """The seven days of a stream that end with a day."""
        pi_id = _stream(request)
        day, zone = _day_and_zone(request.query_params)
        first = day - timedelta(days=WEEK_DAYS - 1)
        days = await self._past.ask(lambda history: history.days(pi_id, first, day, zone))
        return JSONResponse({"days": summaries.of_week(days)})

    async def frame(self, request: Request) -> Response:
        """The row of the frame that is nearest to a moment."""
        pi_id = _stream(request)
        moment = _moment(request.query_params.get("at", ""))
        row = await self._past.ask(lambda history: history.nearest(pi_id, moment))
        if row is None:
            raise HTTPException(404, "no frame was captured within a minute of that")
        picture = f"/api/streams/{pi_id}/frames/{row['frame_id']}" if await self._has_picture(pi_id, row) else None
        return JSONResponse(summaries.of_row(row, picture))

    async def stored_picture(self, request: Request) -> Response:
        """The annotated picture of a frame, where it can be had."""
        pi_id, frame_id = _stream(request), request.path_params["frame_id"]
        row = await self._past.ask(lambda history: history.frame(pi_id, frame_id))
        name = "" if row is None else str(row.get("filename") or "")
        picture = await asyncio.to_thread(lambda: self._pictures_of(pi_id).read(name)) if name else None
        if picture is None:
            raise HTTPException(404, "there is no picture of that frame here")
        return Response(picture, media_type="image/jpeg")

    async def rows(self, request: Request) -> Response:
        """The rows of some days as CSV."""
        _must_be_operator(request)
        pi_id = _stream(request)
        first, zone = _day_and_zone(request.query_params)
        last = parse_day(request.query_params.get("last", first.isoformat()))
        start, end = bounds(first, zone)[0], bounds(last, zone)[1]
        rows = await self._past.ask(lambda history: summaries.as_csv(history.rows(pi_id, start, end)))
        # what is wrong with the database is said before the first byte
        head = await self._past.ask(lambda _: next(rows))

        async def text() -> AsyncIterator[str]:
            yield head
            while (part := await self._past.ask(lambda _: next(rows, None))) is not None:
                yield part

        name = f"{pi_id}-{first}{'' if last == first else f'-to-{last}'}.csv"
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(text(), media_type="text/csv; charset=utf-8", headers=disposition)

    async def delete(self, request: Request) -> Response:
        """Delete what is known of a stream: its pictures, as far as they can be had here, and its rows."""
        pi_id = _stream(request)
        who: Who = request.state.who
        # first, since the rows say what there was if this fails
        pictures = await asyncio.to_thread(lambda: self._pictures_of(pi_id).delete_all())
        rows = 0
        # it goes in small steps, so that analyzers can write meanwhile
        while deleted := await self._past.ask(lambda history: history.delete(pi_id)):
            rows += deleted
        self._past.forget()
        log.warning(
            "%s has deleted stream %s: %d rows, %d pictures", who.name or "somebody here", pi_id, rows, pictures
        )
        if not rows and not pictures and pi_id not in self._past.names:
            raise HTTPException(404, f"stream {pi_id} has neither rows nor pictures here")
        return JSONResponse({"rows": rows, "pictures": pictures})

    def _or_nothing(self, answer: Answer) -> Answer:
        """Let a stream that runs and has no rows have no content, rather than be unknown."""

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except UnknownStreamError:
                if not self._is_live(request.path_params["pi_id"]):
                    raise
                return Response(status_code=204)

        return answered

    async def _has_picture(self, pi_id: str, row: StoredRow) -> bool:
        """Return whether a row's picture can be had; one in a store that is away is asked for, and says so then."""
        name = str(row.get("filename") or "")
        try:
            return bool(name) and await asyncio.to_thread(lambda: self._pictures_of(pi_id).has(name))
        except PicturesUnavailableError:
            return True


def _answering(answer: Answer) -> Answer:
    """Let what goes wrong become a status and a line."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except UnknownStreamError as error:
            raise HTTPException(404, str(error)) from None
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        except (StoreUnavailableError, StoreRefusedError, PicturesUnavailableError) as error:
            raise HTTPException(503, str(error)) from None

    return answered


def _stream(request: Request) -> str:
    pi_id = str(request.path_params["pi_id"])
    if not PI_ID.fullmatch(pi_id):
        raise HTTPException(404, "that is no stream's name; accepted: a-z, 0-9 and -, up to 32")
    return pi_id


def _day_and_zone(query: Mapping[str, str]) -> tuple[date, ZoneInfo]:
    """Return the day and the time zone that a request names; today, and UTC, where it does not.

    Raises:
        UserError: one of them is none.
    """
    zone = zone_of(query.get("zone", "UTC"))
    day = query.get("day", "")
    return parse_day(day) if day else datetime.now(zone).date(), zone


def _moment(text: str) -> datetime:
    """Return a moment from seconds since 1970.

    Raises:
        UserError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text) or float(text) > LATEST_S:
        raise UserError(f"at: {text[:40]!r} is not accepted; accepted: seconds since 1970")
    return datetime.fromtimestamp(float(text), timezone.utc)


def _must_be_operator(request: Request) -> None:
    who: Who = request.state.who
    if not who.operator:
        raise HTTPException(403, "this needs the operator's role")
