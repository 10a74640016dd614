"""The process: the sources' threads, the web server, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Collection

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector

from posture.dashboard.access import ThisMachine, gate_of
from posture.dashboard.app import Dashboard
from posture.dashboard.broker import BrokerReader
from posture.dashboard.farm_reader import FarmReader
from posture.dashboard.feed import Feed
from posture.dashboard.figures import StreamsCollector
from posture.dashboard.home_assistant import Discovery
from posture.dashboard.live import Live
from posture.dashboard.past import Past
from posture.errors import UserError
from posture.pictures.base import Pictures
from posture.pictures.opening import open_pictures
from posture.settings.table import Settings
from posture.system.addresses import is_loopback, split_listen
from posture.system.probes import Exposition

log = logging.getLogger(__name__)

LAST_WORDS_S = 2
"""How long answers may take that are under way when the process is to end."""
BACKLOG = 256
LIST_READ_EACH_S = 2.0
OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def serve(settings: Settings, listed: Callable[[], Collection[str]]) -> None:
    """Serve the page until SIGTERM or SIGINT. Prints its address first.

    Args:
        settings: with the flags applied.
        listed: returns the streams that the settings list now.

    Raises:
        UserError: the address can't be had, or other machines reach it and nobody would have to log in.
    """
    options = settings.dashboard
    host, _ = split_listen(options.listen)
    gate = gate_of(options)
    live = Live(settings.mqtt.prefix)
    feed = Feed(live)
    discovery = Discovery(settings.mqtt.prefix, enabled=options.home_assistant, rng=random.Random())  # noqa: S311
    broker = BrokerReader(settings.mqtt, live, discovery)
    if options.metrics_port:
        registry = CollectorRegistry()
        registry.register(StreamsCollector(live))
        ProcessCollector(registry=registry)
        Exposition(options.metrics_host, options.metrics_port, registry, lambda: "", lambda: "")
    past = Past(settings.database, live)
    farm = FarmReader(settings, live)
    with bound(options.listen) as listener:
        name = host or socket.gethostname()
        print(f"dashboard: http://{name}:{listener.getsockname()[1]}/", flush=True)
        if not is_loopback(host) and not options.https:
            log.warning(
                "passwords and pictures travel in the clear; put a proxy with TLS before it: dashboard.https"
            )

        @contextlib.asynccontextmanager
        async def running() -> AsyncIterator[None]:
            live.serve(asyncio.get_running_loop())
            broker.start()
            farm.start()
            looking = [asyncio.create_task(past.look_after()), asyncio.create_task(_follow(live, listed))]
            try:
                yield
            finally:
                for one in looking:
                    one.cancel()
                await asyncio.to_thread(broker.close)
                await asyncio.to_thread(farm.close)
                past.close()

        def pictures_of(pi_id: str) -> Pictures:
            return open_pictures(settings.for_stream(pi_id), pi_id)

        hosts = OWN_NAMES if isinstance(gate, ThisMachine) else frozenset[str]()
        config = uvicorn.Config(
            Dashboard(live, feed, broker, gate, past, farm, pictures_of).application(options, hosts, running),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=LAST_WORDS_S,
            lifespan="on",
        )
        _Server(config, feed).run(sockets=[listener])


async def _follow(live: Live, listed: Callable[[], Collection[str]]) -> None:
    """Expect the streams that are listed, also when the list is edited."""
    while True:
        live.expect(await asyncio.to_thread(listed))
        await asyncio.sleep(LIST_READ_EACH_S)


class _Server(uvicorn.Server):
    """Ends the feeds when it is to end: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feed.close()
        await super().shutdown(sockets)


def bound(listen: str) -> socket.socket:
    """Return a socket that listens.

    Args:
        listen: ``:port`` or ``host:port``.

    Raises:
        UserError: the address is in use or not ours.
    """
    host, port = split_listen(listen)
    everywhere = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host.strip("[]"), port), family=family, backlog=BACKLOG, dualstack_ipv6=everywhere
        )
    except OSError as error:
        raise UserError(f"dashboard.listen: {listen}: can't be had: {error.strerror or error}") from None
