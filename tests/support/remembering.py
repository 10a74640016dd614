"""What an analyzer of stream pi1 remembers of deadly frames, without the rest of it."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from posture.analyzer.attempts import Attempts
from posture.analyzer.subscriber import Stream
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt, retained
from posture.wire.topics import Topics

TOPICS = Topics("pi1")


def attempts(port: int, folder: Path, username: str = "", password: str = "") -> Attempts:
    """As in a process that begins now."""
    broker = Mqtt(url=f"mqtt://127.0.0.1:{port}", username=username, password=password, protocol="5")
    now = datetime.now(timezone.utc)
    stream = Stream(broker, TOPICS, Stop(), max_frames=1, max_bytes=1, silent_after_s=1.0, started=now, about={})
    return Attempts(folder, stream, TOPICS.suspects)


if __name__ == "__main__":  # opens a frame that the broker has delivered again, and is killed
    mqtt.ANSWER_S = retained.READ_S = retained.ANSWER_S = 60.0  # a broker may stand still on a busy machine
    assert attempts(int(sys.argv[1]), Path(sys.argv[2])).begin(sys.argv[3], redelivered=True)
    os.kill(os.getpid(), 9)
