"""An embedded broker for ``run_local.py`` on machines without Mosquitto: MQTT 3.1.1, in memory, for the demo only.

Its queues are lost when the process ends, so a farm needs Mosquitto or another broker that keeps sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from amqtt.broker import Broker
from amqtt.session import Session


class DemoBroker(Broker):  # type: ignore[misc]  # amqtt is needed for the demo only, so mypy doesn't follow it
    """amqtt with one defect mended.

    amqtt sends to each new client the retained messages of all clients' subscriptions, so that an analyzer would
    receive status messages as frames.
    """

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        if any(holder is session for holder, _ in self._subscriptions.get(subscription[0], [])):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def serve(port: int) -> None:
    """Listen on the loopback interface until SIGTERM."""
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = DemoBroker(config)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await broker.start()
    await ended.wait()
    await broker.shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A broker in memory, for the demo.")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    asyncio.run(serve(parser.parse_args(argv).port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
