"""A farm whose streams run on real nodes: what tests and faults ask of it, whichever way it was brought up."""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from cameras import Access, Account, Camera, Row, account
from control_plane import Cluster
from lightkube.resources.core_v1 import Pod
from onlooker import Look, Onlooker, OpenPage
from real_nodes import RealNode
from seen import Seen
from timeline import Timeline
from watching import wait_for

NAMESPACE = "posture-farm"
WAIT_S = 240.0
"""For a farm on a busy machine."""
CONNECT_S = 30
AHEAD_S = 20.0
"""A clock is that far ahead at most of what it was set to."""


@dataclass(frozen=True)
class Pace:
    """How long the farm's timers are. Times in seconds.

    Attributes:
        window_s, sample_interval_s, interval_s, warm_up_s, node_grace_s, cooldown_base_s, cooldown_cap_s: of the
            balancer.
        polling_s: how often KEDA looks at a ScaledJob.
        node_monitor_s: until a node that doesn't report is NotReady.
        scrape_s: of Prometheus.
        fps: frames a second of each camera.
    """

    window_s: float
    sample_interval_s: float
    interval_s: float
    warm_up_s: float
    node_grace_s: float
    cooldown_base_s: float
    cooldown_cap_s: float
    polling_s: int
    node_monitor_s: int
    scrape_s: float
    fps: float = 2.0

    @property
    def loop_s(self) -> float:
        """One loop of the balancer."""
        return self.window_s + self.interval_s

    @property
    def balancer(self) -> dict[str, float]:
        """The balancer's settings, as cluster.yaml has them."""
        return {
            "window_s": self.window_s, "sample_interval_s": self.sample_interval_s, "interval_s": self.interval_s,
            "warm_up_s": self.warm_up_s, "node_grace_s": self.node_grace_s,
            "cooldown_base_s": self.cooldown_base_s, "cooldown_cap_s": self.cooldown_cap_s,
        }  # fmt: skip


class Usage(abc.ABC):
    """What runs where."""

    running: dict[str, list[str]]
    """Stream -> nodes where an analyzer of it runs."""

    @abc.abstractmethod
    def look(self) -> None:
        """Look what runs."""


class FarmAtWork(abc.ABC):
    """Streams that run, and cameras that publish to them.

    Args:
        streams: the farm's.
        pace: its timers.
        timeline: of the report.
        folder: for logs and spools of the cameras.
    """

    cluster: Cluster
    """Control plane and KEDA."""
    look: Look
    """At the dashboard, by whoever looks at it now or did so last."""
    nodes: Mapping[str, RealNode]
    usage: Usage

    def __init__(self, streams: Sequence[str], pace: Pace, timeline: Timeline, folder: Path) -> None:
        self.streams = streams
        self.pace = pace
        self.timeline = timeline
        self.folder = folder
        self.cameras: dict[str, Camera] = {}
        """Those that film, by their streams."""
        self.servers_on: Collection[str] = ()
        """Nodes where broker or database run: without them nothing goes on anywhere."""
        self.lost_disks: set[str] = set()
        """Nodes that were lost with what was on their disks."""
        self.taken: set[tuple[str, int]] = set()
        """boot_id and seq of frames whose rows were there, and are not in a backup that was restored."""

    # which way it was brought up

    @property
    @abc.abstractmethod
    def database_url(self) -> str:
        """Where its rows are."""

    @abc.abstractmethod
    def access_of(self, stream: str) -> Access:
        """How a stream's camera gets at the broker."""

    @abc.abstractmethod
    def stored_pictures(self, stream: str) -> Mapping[str, Collection[str]]:
        """Node -> the names of this stream's pictures that there are for rows of that node."""

    @abc.abstractmethod
    def mend(self) -> None:
        """Start what a fault has left stopped; no load is anybody else's."""

    @abc.abstractmethod
    def last_words(self) -> str:
        """For an error: the last words of its programs."""

    @property
    @abc.abstractmethod
    def onlooker(self) -> Onlooker:
        """Who looks at the dashboard."""

    @abc.abstractmethod
    def open_page(self) -> contextlib.AbstractContextManager[OpenPage]:
        """Open the dashboard for whoever looks at it."""

    @abc.abstractmethod
    def take_in_new_nodes(self) -> None:
        """Do what an operator does when a node has come back as a new one."""

    # what is common

    @contextlib.contextmanager
    def looked_at(self, seen: Seen, what: str) -> Iterator[None]:
        """Have somebody look at the dashboard, who takes a picture for the report.

        Args:
            seen: what it should say meanwhile; ``look`` knows whether it has.
            what: happens.
        """
        with self.open_page() as page, self.onlooker.looking(page, seen, what) as self.look:
            yield

    @contextlib.contextmanager
    def traffic(self, name: str, *, fps: Mapping[str, float] | None = None, **offsets: int) -> Iterator[None]:
        """Let all cameras film; afterwards every frame must have its row, once, with a picture or a reason.

        Args:
            name: of what happens meanwhile.
            fps: stream -> its camera's frames a second, where they are not the pace's.
            offsets: stream -> by how many seconds its camera's clock is wrong at first.
        """
        began = time.time()
        cameras = [
            Camera(
                stream, self.folder / "cameras", self.access_of(stream), (fps or {}).get(stream, self.pace.fps),
                offsets.get(stream),
            )
            for stream in self.streams
        ]  # fmt: skip
        self.cameras = {camera.stream: camera for camera in cameras}
        try:
            self.until_rows(began)
            yield
            self.until_rows(time.time())
            for camera in cameras:
                camera.stop()
            accounts = [self.account(camera) for camera in cameras]
        finally:
            for camera in cameras:
                camera.kill()
        self.timeline.accounts.append((name, accounts))
        wrong = [one for one in accounts if not one.adds_up]
        assert not wrong, wrong

    def account(self, camera: Camera) -> Account:
        """Count what became of a camera's frames, once it has ended."""
        result = camera.result()
        found = self.ask(
            "SELECT seq, filename, processed_by, extract(epoch FROM analyzed_time), coalesce(no_picture, '') "
            "FROM posture_log WHERE pi_id = %s AND boot_id = %s ORDER BY analyzed_time",
            camera.stream, result["boot_id"],
        )  # fmt: skip
        rows = [Row(seq, name, node, float(at_s), reason) for seq, name, node, at_s, reason in found]
        stored = self.stored_pictures(camera.stream)
        taken = {seq for boot_id, seq in self.taken if boot_id == result["boot_id"]}
        return account(camera.stream, result, rows, stored, self.lost_disks, taken)

    def ask(self, question: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database.

        Raises:
            psycopg.OperationalError: it is away.
        """
        with psycopg.connect(self.database_url, connect_timeout=CONNECT_S) as db:
            return db.execute(question, values).fetchall()

    def until_asked(self, question: LiteralString, *values: Any, wanted: Any, timeout_s: float = WAIT_S) -> None:
        """Wait until the database answers so; one that is away is waited for."""

        def answers() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return bool(wanted(self.ask(question, *values)))
            return False

        wait_for(answers, timeout_s, look_s=0.5)

    def count_rows(self, *streams: str) -> int:
        """How many rows these streams have."""
        ((number,),) = self.ask("SELECT count(*) FROM posture_log WHERE pi_id = ANY(%s)", list(streams))
        return int(number)

    def until_rows(self, since: float, timeout_s: float = WAIT_S) -> None:
        """Wait until every stream has a row that was written after a time."""
        self.until_asked(
            "SELECT DISTINCT pi_id FROM posture_log WHERE analyzed_time > to_timestamp(%s)", since,
            wanted=lambda rows: {row[0] for row in rows} >= set(self.streams), timeout_s=timeout_s,
        )  # fmt: skip

    def until_stored(self, stream: str, frame_ids: Sequence[str]) -> None:
        """Wait until frames have their rows."""
        self.until_asked(
            "SELECT count(*) FROM posture_log WHERE pi_id = %s AND frame_id = ANY(%s)", stream, list(frame_ids),
            wanted=lambda rows: rows == [(len(frame_ids),)],
        )  # fmt: skip

    def until_clocks_differ(self, stream: str, offset_s: int, since: float, *, lag_s: float = 20.0) -> None:
        """Wait for a new row of a stream whose camera's clock is so many seconds ahead of its analyzer's.

        Args:
            stream: whose.
            offset_s: negative: it is behind.
            since: what is newer by one of the two is new.
            lag_s: so long may a frame have waited for its analyzer.
        """
        self.until_asked(
            "SELECT count(*) > 0 FROM posture_log WHERE pi_id = %s "
            "AND greatest(captured_time, analyzed_time) > to_timestamp(%s) "
            "AND extract(epoch FROM captured_time - analyzed_time) BETWEEN %s AND %s",
            stream, since, offset_s - lag_s, offset_s + AHEAD_S,
            wanted=lambda rows: rows == [(True,)],
        )  # fmt: skip

    def where(self) -> dict[str, list[str]]:
        """Stream -> the nodes where a process of it runs."""
        self.usage.look()
        return {stream: nodes for stream, nodes in self.usage.running.items() if stream in self.streams}

    def until_each_runs_once(
        self, timeout_s: float = WAIT_S, nodes: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Wait until every stream has exactly one process, on a node that is on, and that is what the API says.

        Args:
            timeout_s: the bound.
            nodes: stream -> where it is to be; None: anywhere.
        """
        found: dict[str, str] = {}

        def once() -> bool:
            running = self.where()
            if set(running) != set(self.streams) or any(len(places) != 1 for places in running.values()):
                return False
            found.update({stream: places[0] for stream, places in running.items()})
            return self.ready_pods() == {stream: [node] for stream, node in found.items()} and (
                nodes is None or found == dict(nodes)
            )

        try:
            wait_for(once, timeout_s, look_s=1.0)
        except AssertionError:
            raise AssertionError(
                f"not within {timeout_s:g} s: running {self.where()}, Ready {self.ready_pods()}\n{self.explain()}"
            ) from None
        return found

    def until_moved(self, before: Mapping[str, str], timeout_s: float = WAIT_S) -> dict[str, str]:
        """Wait until each stream runs once, and not all where they were."""
        wait_for(lambda: self.until_each_runs_once() != before, timeout_s, look_s=1.0)
        return self.until_each_runs_once()

    def ready_pods(self) -> dict[str, list[str]]:
        """Stream -> the nodes of its Ready pods, as the API server has it."""
        found: dict[str, list[str]] = {}
        for pod in self.cluster.client.list(Pod, namespace=NAMESPACE, labels={"posture-farm/stream": None}):
            if is_ready(pod) and pod.metadata.deletionTimestamp is None:
                found.setdefault(pod.metadata.labels["posture-farm/stream"], []).append(pod.spec.nodeName)
        return found

    def explain(self) -> str:
        """For an error: the last words of everything."""
        return "\n".join([self.last_words(), *(node.logs() for node in self.nodes.values())])


def is_ready(item: Any) -> bool:
    """Whether a pod or a node is Ready."""
    conditions = (item.status and item.status.conditions) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)
