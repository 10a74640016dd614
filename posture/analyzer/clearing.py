"""``--clear-topics``: a stream that is gone leaves nothing at the broker: its retained topics are cleared."""

from __future__ import annotations

from dataclasses import replace

from posture.analyzer.takeover import Owner
from posture.errors import UserError
from posture.runtime import EXIT_OK, Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt, retained, statuses
from posture.wire.topics import Topics

LOOK_S, QUIET_S = 3.0, 0.5


def clear_topics(settings: Mqtt, pi_id: str, stop: Stop) -> int:
    """Clear what the broker retains of a stream, and say so.

    Raises:
        UserError: its analyzer is online, or the broker can't be reached or doesn't let us.
    """
    topics, broker = Topics(pi_id, settings.prefix), mqtt.parse_broker(settings.url)
    try:
        if _is_online(settings, topics, stop):
            raise UserError(
                f"stream {pi_id}: its analyzer is online; accepted: a stream whose analyzer was stopped"
            )
        cleared = dict.fromkeys(topics.retained, b"")
        refused = retained.write(cleared, settings, settings.protocol, f"posture-{pi_id}")
    except OSError as error:
        raise UserError(f"broker {broker}: {mqtt.explain(error)}") from None
    if refused:
        raise UserError(f"broker {broker}: refuses messages for {', '.join(refused)} (may this user write them?)")
    print(f"{pi_id}: cleared {', '.join(topics.retained)}")
    return EXIT_OK


def _is_online(settings: Mqtt, topics: Topics, stop: Stop) -> bool:
    online: list[Owner] = []

    def take(_topic: str, payload: bytes) -> bool:
        owner = Owner.parse(payload)
        if owner is not None and owner.online:
            online.append(owner)
        return bool(online)

    if settings.username == topics.analyzer_user:
        settings = replace(settings, username=topics.takeover_user)
    statuses.watch(
        take, topics.status, settings, settings.protocol, f"posture-{topics.pi_id}", stop,
        most_s=LOOK_S, quiet_s=QUIET_S,
    )  # fmt: skip
    return bool(online)
