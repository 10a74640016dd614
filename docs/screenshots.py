#!/usr/bin/env python3
"""Make docs/dashboard-*.jpg: each page of the dashboard, over a farm that is made up, in Debian's chromium.

python3 docs/screenshots.py             # all of them, about half a minute
python3 docs/screenshots.py stream      # those of one page
"""

import contextlib
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "browser")]

import api_farm
from browser import DESKTOP, PHONE, Browser
from dashboard_process import DashboardProcess
from driven_exporter import GpuExporter, gpu_queries
from scripted_api import write_kubeconfig
from servers import Mosquitto, PrometheusServer
from skeletons import seated
from speaking import Farm

from posture.analyzer.drawing import annotate
from posture.store.base import Row
from posture.store.opening import open_store
from posture.verdict.rule_sets import Judge
from posture.wire.preview import Preview
from posture.wire.topics import Topics

STREAMS = {
    # name: neck, body, camera, away
    "desk-1": (14.0, 4.0, "live", False),
    "desk-2": (44.0, 9.0, "live", False),
    "desk-3": (18.0, 2.0, "live", False),
    "desk-4": (22.0, 7.0, "live", True),
    "desk-5": (27.0, 26.0, "live", False),
    "desk-6": (11.0, 5.0, "silent", False),
    "desk-7": (20.0, 8.0, "live", False),
    "desk-8": (16.0, 6.0, "live", False),
}
OFFLINE = "desk-8"
NODES: dict[str, tuple[float, tuple[str, ...]]] = {
    # name: usage, streams
    "jetson-1": (41.0, ("desk-1", "desk-3", "desk-7")),
    "jetson-2": (63.0, ("desk-2", "desk-6")),
    "jetson-3": (27.0, ("desk-4", "desk-5")),
    "jetson-4": (0.0, ("desk-8",)),
}
EVERY = timedelta(seconds=6)
DAYS = 7
JPEG_QUALITY = 88
PAGES = {
    # picture: path, size, dark
    "streams": ("/", DESKTOP, False),
    "streams-dark": ("/", DESKTOP, True),
    "streams-phone": ("/", PHONE, False),
    "stream": ("/streams/desk-2", (1440, 1900), False),
    "stream-dark": ("/streams/desk-2", (1440, 1900), True),
    "stream-phone": ("/streams/desk-2", (390, 2600), True),
    "history": ("/history", DESKTOP, False),
    "history-phone": ("/history", PHONE, False),
    "events": ("/events", DESKTOP, False),
    "farm": ("/farm", DESKTOP, False),
    "farm-dark": ("/farm", DESKTOP, True),
}
KEPT = ("streams", "stream-dark", "history", "farm", "events", "streams-phone")
"""Those that the documentation shows; the others are for looking at, in --all's folder."""


def rows_of(pi_id: str, chance: random.Random, now: datetime) -> Iterator[Row]:
    """Yield a week of a working person's rows."""
    neck, body, *_ = STREAMS[pi_id]
    first = (now - timedelta(days=DAYS - 1)).replace(hour=8, minute=chance.randrange(40), second=0)
    for number in range(DAYS):
        at = first + timedelta(days=number)
        ends = min(now, at + timedelta(hours=9, minutes=chance.randrange(30)))
        habit, present, until = chance.uniform(0.55, 0.8), True, at
        while at < ends:
            if at >= until:
                present = not present or chance.random() < 0.3
                until = at + timedelta(minutes=chance.uniform(25, 80) if present else chance.uniform(5, 25))
            tired = 1 + 0.35 * math.sin(at.timestamp() / 1500) + 0.25 * math.sin(at.timestamp() / 400)
            angles = (neck * habit * tired + chance.gauss(0, 0.4), body * habit * tired + chance.gauss(0, 0.3))
            passed = [
                name for name, angle, limit in (("neck", angles[0], 35), ("body", angles[1], 20)) if angle > limit
            ]
            status = ("Bad" if passed else "Good") if present else "Unknown"
            yield Row(
                pi_id=pi_id, frame_id=f"{pi_id}-{at.timestamp():.0f}", filename="", received_time=at,
                analyzed_time=at, captured_time=at, neck_angle=abs(angles[0]) if present else None,
                body_angle=abs(angles[1]) if present else None, posture_status=status, landmarks_detected=present,
                processed_by="jetson-2", side="left" if present else "",
                reason="+".join(passed) if present else "no_person", rule_set="upright", landmarks=None,
                schema_version=2, seq=None, boot_id=None,
            )  # fmt: skip
            at += EVERY


def fill(database: Path, now: datetime) -> None:
    """Write the history."""
    store = open_store(f"sqlite:///{database}", timeout_s=60)
    for number, pi_id in enumerate(STREAMS):
        store.write(list(rows_of(pi_id, random.Random(number), now)))  # noqa: S311 - made up, and the same each time
    store.close()


def picture_of(pi_id: str) -> bytes:
    """Return a small picture, in mode ``skeleton``."""
    neck, body, *_ = STREAMS[pi_id]
    landmarks = seated(neck, body, yaw=90, pitch=4)
    verdict = Judge("upright").judge(landmarks, 0.0)
    ground = np.zeros((landmarks.height, landmarks.width, 3), np.uint8)
    now = datetime.now(timezone.utc)
    drawn = annotate(ground, landmarks, verdict, pi_id=pi_id, when=now, max_width=480, pictures="skeleton")
    jpeg = bytes(cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])
    frame = Preview(
        f"{pi_id}-0",
        now.isoformat(),
        verdict.status,
        verdict.reason,
        verdict.neck_angle,
        verdict.body_angle,
        "upright",
    )
    return frame.into(jpeg)


def speak(farm: Farm) -> None:
    """Let the streams say how they are."""
    now = datetime.now(timezone.utc)
    for number, (pi_id, (neck, body, camera, away)) in enumerate(STREAMS.items()):
        bad = "+".join(name for name, angle, limit in (("neck", neck, 35), ("body", body, 20)) if angle > limit)
        since = (now - timedelta(seconds=40 + 97 * number * number)).isoformat()
        farm.stream(
            pi_id, "Unknown" if away else "Bad" if bad else "Good", camera=camera, neck=None if away else neck,
            body=None if away else body, away=away, reason="no_person" if away else bad, since=since,
        )  # fmt: skip
        if camera == "live" and pi_id != OFFLINE:
            farm.account(pi_id, received=40_000 + 913 * number, missing=number % 3, fps=2.0)
            farm.publish(Topics(pi_id).picture, picture_of(pi_id))
    status = {"state": "offline", "instance": "a", "why": "connection lost", "started": now.isoformat()}
    farm.publish(Topics(OFFLINE).status, status, retain=True)
    farm.publish("status/old-stream", b"online", retain=True)


def alert(farm: Farm) -> None:
    """Let a stream raise an alert."""
    now = datetime.now(timezone.utc)
    said = {
        "state": "Bad", "since": now.isoformat(), "neck": 44.0, "body": 9.0, "away": False, "reason": "neck",
        "rule_set": "upright", "updated": now.isoformat(), "bad_for": 60.4, "event_type": "bad_posture",
    }  # fmt: skip
    farm.publish(Topics("desk-2").alert, said)


def measured(stack: contextlib.ExitStack, folder: Path) -> PrometheusServer:
    """Return a Prometheus that reads the nodes' usage, and what scaler and balancer say."""
    exporter = GpuExporter()
    stack.callback(exporter.close)
    for name, (usage, _) in NODES.items():
        exporter.set(name, usage)
    veto = 'posture_balancer_veto{reason="%s",node="%s",stream="%s"} 1'
    lines = [veto % ("cooldown", "jetson-2", "desk-2"), veto % ("no_room", "jetson-3", "desk-5")]
    started = f"process_start_time_seconds {time.time() - 9000:.0f}"
    programs = {
        "posture-balancer": [*lines, started, "posture_balancer_acting 1"],
        "posture-scaler": [started, "posture_scaler_keda_age_seconds 4", "posture_balancer_up 1"],
    }
    for job, shown in programs.items():
        exporter.show(job, *shown)
    jobs = [
        {"job_name": job, "scrape_interval": "500ms", "static_configs": exporter.targets(job)} for job in programs
    ]
    server = PrometheusServer(folder / "prometheus", exporter.targets(*NODES), scrape_configs=jobs)
    server.start()
    stack.callback(server.stop)
    return server


def cluster() -> dict[str, list[dict[str, Any]]]:
    """Return what the API server tells."""
    now = datetime.now(timezone.utc)
    placed = [(stream, name) for name, (_, streams) in NODES.items() for stream in streams]

    def move(stream: str, minutes: float, source: str, to: str, why: str) -> dict[str, str]:
        began = now - timedelta(minutes=minutes)
        ready = began + timedelta(seconds=9 + len(stream + why) % 7)
        stamps = {"at": began.strftime("%Y-%m-%dT%H:%M:%SZ"), "ready_at": ready.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return {**stamps, "kind": "offload", "from": source, "to": to, "why": why}

    moves = {
        "desk-7": [move("desk-7", 34, "jetson-2", "jetson-1", "jetson-2 was at 68 % for 30 s; jetson-1 at 22 %")],
        "desk-3": [move("desk-3", 171, "jetson-3", "jetson-1", "jetson-3 was NotReady for 60 s")],
    }
    events = [
        ("desk-7", "Moved", "from jetson-2 to jetson-1: ready after 11 s", 34),
        ("desk-8", "StreamDown", "jetson-4 does not answer", 3),
        ("desk-3", "Moved", "from jetson-3 to jetson-1: ready after 14 s", 171),
    ]
    told = [api_farm.event(stream, reason, text, warning="Down" in reason) for stream, reason, text, _ in events]
    for one, (*_, minutes) in zip(told, events, strict=True):
        one["lastTimestamp"] = (now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "nodes": [api_farm.node(name, ready=name != "jetson-4") for name in NODES],
        "scaledjobs": [api_farm.scaled_job(stream, name, moves.get(stream)) for stream, name in placed],
        "pods": [api_farm.pod(stream, name) for stream, name in placed if stream != OFFLINE],
        "events": told,
    }


def main() -> int:
    """Take the pictures."""
    wanted = [name for name in PAGES if not sys.argv[1:] or name.split("-")[0] in sys.argv[1:]]
    target = Path(os.environ.get("SCREENSHOTS", ROOT / "docs"))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posture-screenshots-")))
        broker = Mosquitto(folder / "broker")
        broker.start()
        stack.callback(broker.stop)
        fill(folder / "posture.db", datetime.now(timezone.utc))
        prometheus = measured(stack, folder)
        settings = {
            "mqtt": {"url": f"mqtt://127.0.0.1:{broker.port}"},
            "database": {"url": f"sqlite:///{folder / 'posture.db'}"},
            "prometheus": {"url": prometheus.url},
            "GPU_QUERIES": {
                name: {"instance": query.instance, "metric": query.metric}
                for name, query in gpu_queries(*NODES).items()
            },
        }
        api = api_farm.answering(cluster())
        stack.callback(api.close)
        kubeconfig = write_kubeconfig(folder / "kubeconfig", api.address)
        dashboard = DashboardProcess(folder, settings, KUBECONFIG=str(kubeconfig))
        dashboard.start()
        stack.callback(dashboard.stop)
        farm = stack.enter_context(Farm(broker.port))
        speak(farm)
        alert(farm)
        browser = Browser()
        stack.callback(browser.close)
        for name in wanted:
            path, size, dark = PAGES[name]
            browser.shape(size, dark=dark)
            speak(farm)
            browser.open(dashboard.url + path)
            time.sleep(4)  # pictures and drawings are there
            data = np.frombuffer(browser.driver.get_screenshot_as_png(), np.uint8)
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if target != ROOT / "docs":
                cv2.imwrite(str(target / f"{name}.png"), picture)
            elif name in KEPT:
                cv2.imwrite(
                    str(target / f"dashboard-{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
                )
            for line in browser.errors():
                print(f"{name}: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
