#!/usr/bin/env python3
"""How many streams of 5 frames a second at 640x480 one machine carries: ours beside the tutorial's way.

    .venv/bin/python bench/capacity.py                              # the sample clip, twice each, in turns
    .venv/bin/python bench/capacity.py --clip still                 # somebody who sits still, with a sensor's noise
    .venv/bin/python bench/capacity.py --clip still --reuse-still --keep changes
    .venv/bin/python bench/capacity.py --ways ours --write-class jetson-orin    # a class for simulate.py

Ours: one analyzer a stream, as a farm runs it. The tutorial's way: one process a stream, IMAGE mode, and decode,
infer, draw, write, commit one after the other in the MQTT callback. Both store every picture (but see --keep), and
write to one PostgreSQL, with fsync, from one Mosquitto; these and the cameras run on the same machine and count
against both.

A number of streams is carried if 99 % of the frames of --seconds are rows within --limit seconds of when they were
due, and the delay would not grow beyond that in another minute. The time of a row is that of its commit. A
number that is not carried by a little is tried once more: other work on the machine may be the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import cv2
import numpy as np
import psycopg
import yaml
from farm import clip_jpegs
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from processes import cpu_seconds, family_cpu_seconds, pss_kib, resident_kib
from ramp import Found, percentile, search, why_not_carried
from servers import Mosquitto, Postgres, make_cluster, postgres_binaries, server_user

from posture.errors import FailedError, UserError
from posture.runtime import EXIT_OK, run_script
from posture.simulator import measured
from posture.system.children import bound_to_us
from posture.wire import frame

FPS = 5
WIDTH, HEIGHT = 640, 480
CLIP_FRAMES = 100
NOISE = 2.0
"""Of the still clip's sensor: standard deviation of a pixel's brightness, of 255."""
OURS, TUTORIAL = "ours", "tutorial"
WAYS = (OURS, TUTORIAL)
TABLES = {OURS: "posture_log", TUTORIAL: "tutorial_log"}
START_S = 180.0
MEMORY_LEFT = 0.1
"""So much of the machine's memory stays free: a board that swaps carries nothing."""
CLEARLY = 3
"""A number whose p99 is beyond this many limits isn't tried again."""
MODEL = ROOT / "models" / "pose_landmarker_full.task"
CLASS_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Trial:
    """What was seen with one number of streams."""

    streams: int
    why_not: str
    p50_s: float
    p99_s: float
    cores: float
    """Of one stream's process."""
    around: float
    """Of broker, database and cameras, for one stream."""
    rss_mb: float
    pss_mb: float


@dataclass(frozen=True)
class Result:
    """Where one way's search has ended."""

    way: str
    found: Found
    best: Trial | None
    stopped: str
    """Why no more was tried or carried."""


def pictures(clip: str) -> list[bytes]:
    """Return the clip's frames as JPEGs of 640x480.

    Args:
        clip: ``sample``, the part that shows somebody; ``still``: one frame of it, each time with other noise.
    """
    shown = [
        cv2.resize(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), (WIDTH, HEIGHT))
        for jpeg in clip_jpegs(125, WIDTH)[35:]
    ]
    if clip == "still":
        rng = np.random.default_rng(0)
        sitting = shown[len(shown) // 2]
        shown = [
            np.clip(sitting + rng.normal(0, NOISE, sitting.shape), 0, 255).astype(np.uint8)
            for _ in range(CLIP_FRAMES)
        ]
    shown += shown[::-1]  # a clip that begins anew is a cut, and each cut a search
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in shown]


class Cameras:
    """All streams' cameras: one client that publishes each stream's frames when they are due."""

    def __init__(self, port: int, jpegs: Sequence[bytes]) -> None:
        self._jpegs = jpegs
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="cameras")
        self._client.max_inflight_messages_set(10_000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, stream: str, run: str, seq: int) -> str:
        """Publish one frame; returns its id."""
        name = f"{run}-{stream}-{seq}"
        identity = frame.Identity(name, datetime.now(timezone.utc), seq, f"{run}-{stream}", source="comment")
        # the cameras don't all see the same at the same moment
        jpeg = self._jpegs[(seq + zlib.crc32(stream.encode())) % len(self._jpegs)]
        self._client.publish(f"images/{stream}", frame.stamp(jpeg, identity), qos=1)
        return name

    def film(self, streams: Sequence[str], run: str, seconds: float) -> dict[str, float]:
        """Publish 5 frames a second of each stream, all at different moments; returns id -> when it was due."""
        due: dict[str, float] = {}
        start = time.time()
        pause = 1 / (FPS * len(streams))
        for number in range(round(seconds * FPS) * len(streams)):
            at = start + number * pause
            time.sleep(max(0.0, at - time.time()))
            due[self.publish(streams[number % len(streams)], run, number // len(streams))] = at
        return due

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    """Broker, database and cameras, and one way's processes, which are started as they are needed."""

    def __init__(self, folder: Path, way: str, jpegs: Sequence[bytes], flags: argparse.Namespace) -> None:
        self._folder, self._way, self._flags = folder, way, flags
        folder.chmod(0o755)
        binaries, user = postgres_binaries(), server_user()
        make_cluster(folder / "data", binaries, user)
        self._database = Postgres(folder / "data", binaries, user)
        self._database.command += [
            "-c", "fsync=on", "-c", "track_commit_timestamp=on", "-c", "max_connections=1000",
        ]  # fmt: skip
        self._broker = Mosquitto(folder / "broker")
        self._broker.command.remove("-v")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._runs = 0
        self._database.start()
        self._broker.start()
        with psycopg.connect(self._database.url, autocommit=True) as db:
            db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
            db.execute(f"CREATE TABLE {TABLES[TUTORIAL]} (frame_id text, posture text, neck_angle real)")
        self._cameras = Cameras(self._broker.port, jpegs)

    def close(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._cameras.close()
        self._broker.stop()
        self._database.stop()

    def try_streams(self, count: int) -> Trial:
        """Let so many streams run for a while, and say how it went; twice if the first time was close."""
        lacking = self._start(count)
        if lacking:
            return Trial(count, lacking, math.inf, math.inf, 0, 0, 0, 0)
        trial = self._trial(count)
        if trial.why_not and trial.p99_s <= CLEARLY * self._flags.limit:
            trial = self._trial(count)
        print(f"  {self._way}: {count} streams: {trial.why_not or 'carried'}", file=sys.stderr, flush=True)
        return trial

    def _trial(self, count: int) -> Trial:
        streams = _names(count)
        processes = self._processes[:count]
        before, before_around = _cpu(processes), self._cpu_around()
        self._runs += 1
        run = f"r{self._runs}"
        due = self._cameras.film(streams, run, self._flags.seconds)
        committed = self._wait_for_rows(run, due)
        delays = [(at, committed.get(name, math.inf) - at) for name, at in due.items()]
        used, used_around = _cpu(processes) - before, self._cpu_around() - before_around
        self._check_alive()
        return Trial(
            streams=count,
            why_not=why_not_carried(delays, self._flags.limit),
            p50_s=percentile([delay for _, delay in delays], 0.5),
            p99_s=percentile([delay for _, delay in delays], 0.99),
            cores=used / count / self._flags.seconds,
            around=used_around / count / self._flags.seconds,
            rss_mb=statistics.fmean(resident_kib(process.pid) for process in processes) / 1000,
            pss_mb=statistics.fmean(pss_kib(process.pid) for process in processes) / 1000,
        )

    def _wait_for_rows(self, run: str, due: dict[str, float]) -> dict[str, float]:
        """Return id -> when its row was committed; waits until what is late can't be called carried any more."""
        patience = time.monotonic() + max(CLEARLY * self._flags.limit, self._flags.seconds)
        query = f"SELECT frame_id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM {TABLES[self._way]}"  # noqa: S608
        with psycopg.connect(self._database.url, autocommit=True) as db:
            while True:
                rows = db.execute(f"{query} WHERE frame_id LIKE %s", (f"{run}-%",)).fetchall()
                if len(rows) >= len(due) or time.monotonic() > patience:
                    return {name: float(at) for name, at in rows}
                time.sleep(0.2)

    def _start(self, count: int) -> str:
        """Start what is missing, and wait until each has written a row; says what the machine lacks."""
        new = range(len(self._processes), count)
        if not new:
            return ""
        if self._processes:
            largest = max(resident_kib(process.pid) for process in self._processes) * 1024
            total, available = _memory()
            if available - len(new) * largest < MEMORY_LEFT * total:
                return "memory"
        names = _names(count)
        (self._folder / "cluster.yaml").write_text(yaml.safe_dump({"streams": names}))
        for number in new:
            self._processes.append(self._process(names[number]))
        waiting = {f"start-{name}-0": name for name in names[new.start :]}
        deadline = time.monotonic() + START_S
        seq = 0
        while waiting:
            self._check_alive()
            if time.monotonic() > deadline:
                raise FailedError(f"{', '.join(waiting.values())}: no row within {START_S:g} s; see {self._folder}")
            for name in waiting.values():
                self._cameras.publish(name, "start", seq)
            seq += 1
            time.sleep(0.5)
            waiting = {one: name for one, name in waiting.items() if not self._has_rows_of(name)}
        return ""

    def _has_rows_of(self, stream: str) -> bool:
        query = f"SELECT 1 FROM {TABLES[self._way]} WHERE frame_id LIKE %s LIMIT 1"  # noqa: S608
        with psycopg.connect(self._database.url, autocommit=True) as db:
            return bool(db.execute(query, (f"start-{stream}-%",)).fetchall())

    def _process(self, stream: str) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
        environ |= {
            "POSTURE_STREAM": stream,
            "POSTURE_MQTT_URL": f"mqtt://127.0.0.1:{self._broker.port}",
            "POSTURE_DATABASE_URL": self._database.url,
            "POSTURE_ANALYZER_PICTURES_DIR": str(self._folder / "pictures"),
            "POSTURE_ANALYZER_QUARANTINE_DIR": str(self._folder / "quarantine"),
            "POSTURE_ANALYZER_KEEP": self._flags.keep,
            "POSTURE_ANALYZER_REUSE_STILL": str(self._flags.reuse_still).lower(),
        }
        command = [
            sys.executable, str(ROOT / "Images_From_Pi.py"), "--config", str(self._folder / "cluster.yaml"),
        ]  # fmt: skip
        if self._way == TUTORIAL:
            command = [
                sys.executable, __file__, "--tutorial", stream, "--folder", str(self._folder),
                "--port", str(self._broker.port), "--database", self._database.url,
            ]  # fmt: skip
        with (self._folder / f"{stream}.log").open("ab") as log:
            return subprocess.Popen(bound_to_us(command), env=environ, stdout=log, stderr=log, cwd=self._folder)

    def _check_alive(self) -> None:
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                log = (self._folder / f"{_names(number + 1)[-1]}.log").read_text(errors="replace")
                raise FailedError(f"a stream's process has ended with status {process.returncode}:\n{log[-2000:]}")

    def _cpu_around(self) -> float:
        """Return the processor time so far of broker, database and cameras."""
        assert self._broker.process is not None
        assert self._database.process is not None
        own = time.process_time()
        return own + cpu_seconds(self._broker.process.pid) + family_cpu_seconds(self._database.process.pid)


def _names(count: int) -> list[str]:
    return [f"c{number}" for number in range(1, count + 1)]


def _cpu(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    return sum(cpu_seconds(process.pid) for process in processes)


def _memory() -> tuple[int, int]:
    """Return the machine's memory, and what programs can still have of it, in bytes."""
    text = Path("/proc/meminfo").read_text()
    total, available = (int(text.split(f"{name}:")[1].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available


def tutorial(flags: argparse.Namespace) -> None:
    """Be one stream's process in the tutorial's way."""
    import mediapipe as mp  # noqa: PLC0415 - loaded in the measured child only
    from mediapipe.tasks import python as tasks  # noqa: PLC0415
    from mediapipe.tasks.python import vision  # noqa: PLC0415

    options = vision.PoseLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(MODEL)), running_mode=vision.RunningMode.IMAGE
    )
    model = vision.PoseLandmarker.create_from_options(options)
    db = psycopg.connect(flags.database)
    out = flags.folder / "pictures" / flags.tutorial
    out.mkdir(parents=True, exist_ok=True)

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        name = frame.identify(message.payload, {}).frame_id
        picture = cv2.imdecode(np.frombuffer(message.payload, np.uint8), cv2.IMREAD_COLOR)
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        found = model.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb)).pose_landmarks
        height, width = picture.shape[:2]
        neck = 0.0
        for points in found:
            for point in points:
                cv2.circle(picture, (int(point.x * width), int(point.y * height)), 4, (0, 255, 0), -1)
            neck = math.degrees(math.atan2(points[7].x - points[11].x, points[11].y - points[7].y))
        cv2.imwrite(str(out / f"{name}.jpg"), picture)
        posture = "Good" if abs(neck) < 40 else "Bad"
        db.execute(f"INSERT INTO {TABLES[TUTORIAL]} VALUES (%s, %s, %s)", (name, posture, neck))  # noqa: S608
        db.commit()

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"tutorial-{flags.tutorial}")
    client.on_connect = lambda client, *_: client.subscribe(f"images/{flags.tutorial}", qos=1)
    client.on_message = on_message
    client.connect("127.0.0.1", flags.port)
    client.loop_forever()


def measure(way: str, jpegs: Sequence[bytes], flags: argparse.Namespace, guess: int | None) -> Result:
    """Search for the most streams that one way carries.

    Args:
        way: one of WAYS.
        jpegs: what the cameras show.
        flags: of the command.
        guess: where to begin; None: where one stream's processor time says.
    """
    trials: dict[int, Trial] = {}
    with tempfile.TemporaryDirectory(prefix="capacity-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.callback(shutil.rmtree, folder / "data", ignore_errors=True)
        site = Site(folder, way, jpegs, flags)
        stack.callback(site.close)
        deadline = time.monotonic() + flags.budget

        def carries(count: int) -> bool:
            trials[count] = site.try_streams(count)
            return not trials[count].why_not

        if guess is None:
            if not carries(1):
                return Result(way, Found(0, 1, finished=True), None, trials[1].why_not)
            needed = trials[1].cores + trials[1].around
            guess = int(0.8 * (os.cpu_count() or 1) / needed) if needed else 1
        found = search(carries, guess, flags.most, lambda: time.monotonic() > deadline)
    stopped = "--most" if found.refused is None else trials[found.refused].why_not
    if not found.finished:
        stopped += "; --budget was up"
    return Result(way, found, trials.get(found.carried), stopped)


def report(results: Sequence[Result]) -> list[str]:
    """Return the table, and what the ways' best results are to each other."""
    lines = [
        "| way | streams carried | not carried | why | p50, p99 ms | cores a stream "
        "| servers and camera, cores a stream | RSS, PSS MB a stream |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        best, found = result.best, result.found
        carried = f"{found.carried}{'' if found.is_exact else ' or more'}"
        refused = "-" if found.refused is None else str(found.refused)
        figures = "- | - | - | -"
        if best is not None:
            figures = (
                f"{1000 * best.p50_s:.0f}, {1000 * best.p99_s:.0f} | {best.cores:.3f} | {best.around:.3f} "
                f"| {best.rss_mb:.0f}, {best.pss_mb:.0f}"
            )
        lines.append(f"| {result.way} | {carried} | {refused} | {result.stopped} | {figures} |")
    carried = {way: [one.found.carried for one in results if one.way == way] for way in WAYS}
    if carried[OURS] and carried[TUTORIAL] and min(carried[TUTORIAL]):
        ratio = statistics.fmean(carried[OURS]) / statistics.fmean(carried[TUTORIAL])
        lines.append(f"\nours carries {ratio:.2f} times the streams of the tutorial's way")
    return lines


def least_of_ours(results: Sequence[Result]) -> Result:
    """Return of several searches the one that carried least."""
    return min((one for one in results if one.way == OURS), key=lambda one: one.found.carried)


def class_of(least: Result) -> measured.MeasuredClass:
    """Return what ours has carried as a class for simulate.py.

    Raises:
        FailedError: not even one stream was carried.
    """
    if least.best is None:
        raise FailedError(f"--write-class: this machine carries no stream ({least.stopped}); nothing was written")
    return measured.MeasuredClass(
        streams=least.found.carried,
        cores=os.cpu_count() or 1,
        processor=round(least.best.cores, 3),
        rss_mb=round(least.best.rss_mb),
        pss_mb=round(least.best.pss_mb),
        measured=f"{datetime.now(timezone.utc):%Y-%m-%d}",
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags.

    Raises:
        UserError: a value is not accepted.
    """
    parser = argparse.ArgumentParser(description="How many streams one machine carries.")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"joined by commas (default: {','.join(WAYS)})")
    parser.add_argument("--clip", choices=["sample", "still"], default="sample", help="(default: sample)")
    parser.add_argument("--reuse-still", action="store_true", help="ours with analyzer.reuse_still")
    parser.add_argument(
        "--keep", choices=["all", "changes"], default="all",
        help="which pictures ours stores: all, as the tutorial's way does, or as shipped (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, default=2, metavar="N", help="searches of each way, in turns (default: 2)"
    )
    parser.add_argument(
        "--seconds", type=float, default=15, metavar="S", help="each number of streams (default: 15)"
    )
    parser.add_argument("--limit", type=float, default=1, metavar="S", help="for p99 of the delay (default: 1)")
    parser.add_argument("--budget", type=float, default=240, metavar="S", help="for a search, about (default: 240)")
    parser.add_argument(
        "--most", type=int, default=400, metavar="N", help="no more streams are tried (default: 400)"
    )
    parser.add_argument(
        "--write-class", metavar="NAME", help=f"write ours into {measured.FILE.name} for simulate.py"
    )
    parser.add_argument("--classes", type=Path, default=measured.FILE, metavar="FILE", help="another file for that")
    for hidden in ("--tutorial", "--database"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    flags.ways = flags.ways.split(",")
    unknown = [way for way in flags.ways if way not in WAYS]
    if unknown or len(set(flags.ways)) < len(flags.ways):
        raise UserError(f"--ways {','.join(flags.ways)!r} is not accepted; accepted: {', '.join(WAYS)}, each once")
    for name in ("rounds", "seconds", "limit", "budget", "most"):
        if not getattr(flags, name) > 0:
            raise UserError(f"--{name} {getattr(flags, name)} is not accepted; accepted: a number above 0")
    if flags.write_class is not None:
        if not CLASS_NAME.fullmatch(flags.write_class):
            raise UserError(
                f"--write-class {flags.write_class!r} is not accepted; accepted: a-z, 0-9 and -, up to 40"
            )
        if OURS not in flags.ways:
            raise UserError(f"--write-class needs {OURS} among --ways")
        measured.read_classes(flags.classes)  # what can't be read must be known before minutes are spent
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write the class if that is wanted."""
    flags = parse(argv)
    if flags.tutorial:
        tutorial(flags)
        return EXIT_OK
    jpegs = pictures(flags.clip)
    results: list[Result] = []
    for number in range(flags.rounds):
        # there and back, so that a machine that gets slower does so for both
        for way in flags.ways[:: -1 if number % 2 else 1]:
            carried = [one.found.carried for one in results if one.way == way and one.found.carried]
            results.append(measure(way, jpegs, flags, carried[-1] if carried else None))
    still = ", reuse_still" if flags.reuse_still else ""
    day = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    print(f"{flags.clip} clip{still}, ours keeps {flags.keep}, {os.cpu_count()} cores, {day}\n")
    print("\n".join(report(results)))
    if flags.write_class is not None:
        least = least_of_ours(results)
        found = class_of(least)
        measured.write_class(flags.write_class, found, flags.classes)
        if not least.found.is_exact:
            print(
                f"\n{flags.write_class}: more than {found.streams} streams may be carried, the search has ended "
                f"before: {least.stopped}"
            )
        print(
            f"\n{flags.write_class}: speed {found.speed:g}, in {flags.classes}; 40 cameras on three such boards:\n"
            f"python3 simulate.py --jobs 40 --classes {flags.write_class}:3"
        )
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
