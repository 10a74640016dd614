#!/usr/bin/env python3
"""What dashboard.py costs with many streams, and how soon its page is there.

    python3 bench/dashboard.py [--streams 200] [--fps 2] [--seconds 60]

A real Mosquitto and a real browser; each stream says what an analyzer says at that rate: its account once a second,
its state every five, and a picture a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "browser")]

from browser import Browser
from dashboard_process import DashboardProcess
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from processes import cpu_seconds, peak_kib
from servers import Mosquitto
from speaking import moment

from posture.settings.flags import positive, whole
from posture.wire.topics import Topics

STATE_EACH_S = 5
PAINTS = 5
PICTURE = (ROOT / "docs" / "dashboard-streams-phone.jpg").read_bytes()[:35_000]
"""As large as a preview is; nobody but a browser opens it."""


class Analyzers:
    """Who publishes for all streams, second by second."""

    def __init__(self, port: int, streams: int, fps: float) -> None:
        self._streams = [Topics(f"desk-{number}") for number in range(1, streams + 1)]
        self._fps = fps
        self._end = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(0)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        for one in self._streams:
            status = {"state": "online", "instance": "a", "started": moment(), "host": "edge", "delegate": "cpu"}
            self._say(one.status, status, retain=True)
            self._say(one.camera, {"state": "live", "since": moment()}, retain=True)
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def _say(self, topic: str, message: Any, *, retain: bool = False) -> None:
        self._client.publish(topic, json.dumps(message), qos=1, retain=retain)

    def _speak(self) -> None:
        began, second = time.monotonic(), 0
        while not self._end.wait(max(0.0, began + second - time.monotonic())):
            for place, one in enumerate(self._streams):
                rows = round(second * self._fps)
                account = {
                    "received": rows, "malformed": 0, "duplicate": 0, "rows": rows, "analyzed": rows,
                    "rejected": {}, "expired": 0, "missing": 0, "good": rows, "bad": 0, "unknown": 0,
                    "status": "Good", "neck": 10 + second % 9, "body": 4.0, "fps": self._fps,
                }  # fmt: skip
                self._say(one.account, account, retain=True)
                if (second + place) % STATE_EACH_S == 0:
                    state = {
                        "state": "Bad" if place % 7 == 0 else "Good", "since": moment(), "neck": 12.0, "body": 4.0,
                        "away": False, "reason": "", "advice": "", "rule_set": "upright", "updated": moment(),
                    }  # fmt: skip
                    self._say(one.state, state, retain=True)
                self._client.publish(one.picture, PICTURE, qos=0)
            second += 1

    def close(self) -> None:
        """Say nothing any more."""
        self._end.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


def first_paint_s(browser: Browser, url: str, streams: int) -> tuple[float, float]:
    """Return how long the first content, and all streams' cards, take to be there, in seconds."""
    browser.forget()
    began = time.monotonic()
    browser.driver.get(url)
    cards = "return document.querySelectorAll('#grid > li').length"
    while browser.driver.execute_script(cards) < streams:
        time.sleep(0.02)
    all_there = time.monotonic() - began
    paint = "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)[0] || 0"
    return browser.driver.execute_script(paint) / 1000, all_there


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=whole, default=200)
    parser.add_argument("--fps", type=positive, default=2.0)
    parser.add_argument("--seconds", type=positive, default=60.0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder) / "broker")
        broker.start()
        settings = {"mqtt": {"url": f"mqtt://127.0.0.1:{broker.port}"}}
        dashboard = DashboardProcess(Path(folder) / "dashboard", settings)
        dashboard.start()
        analyzers = Analyzers(broker.port, flags.streams, flags.fps)
        browser = Browser()
        try:
            dashboard.until_known(f"desk-{flags.streams}")
            assert dashboard.process is not None
            pid = dashboard.process.pid
            shares = []
            for look, page in (("no page open", None), ("one page open", dashboard.url)):
                if page:
                    paints = [first_paint_s(browser, page, flags.streams) for _ in range(PAINTS)]
                began, used = time.monotonic(), cpu_seconds(pid)
                time.sleep(flags.seconds)
                share = (cpu_seconds(pid) - used) / (time.monotonic() - began) * 100
                shares.append(f"{share:.1f} % of a core with {look}")
            first = statistics.median(one for one, _ in paints)
            full = statistics.median(one for _, one in paints)
            peak_mb = peak_kib(pid) / 1024
            print(f"{flags.streams} streams at {flags.fps:g} frames/s: {', '.join(shares)}; {peak_mb:.0f} MB;")
            print(f"first content {first:.2f} s, all cards {full:.2f} s (median of {PAINTS})")
        finally:
            browser.close()
            analyzers.close()
            dashboard.stop()
            broker.stop()


if __name__ == "__main__":
    main()
