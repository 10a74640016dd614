"""What the balancer knows of its farm: each reading of the cluster is compared with the one before it.

Keeps the planner's ledger, the open moves, and which nodes are down. Writes nothing to the cluster.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from posture.balancer.disturbances import Settling
from posture.balancer.open_move import OpenMove, open_move_text
from posture.balancer.others import arrivals
from posture.balancer.refusals import Refusals
from posture.balancer.snapshot import SnapshotMaker, comparable
from posture.balancer.view import ClusterView, read_nodes, read_view
from posture.balancer.watch import Watch
from posture.kube import labels
from posture.kube.annotations import HISTORY
from posture.kube.client import KubeClient
from posture.kube.objects import ScaledJob
from posture.planning.ledger import Ledger, history_from_json, history_to_json
from posture.planning.model import Policy, Rules, Snapshot, StreamHistory
from posture.settings.table import NodeQuery
from posture.usage.window import Average, Window

log = logging.getLogger(__name__)


class Observer:
    """Reads the cluster, and remembers what the next loop has to know.

    Args:
        cluster: the API server.
        farm: whose streams.
        rules: the planner's.
        class_label: the node label that names its class of hardware.
        after_ready_s: how long a pod that has become Ready disturbs its node's usage, in seconds.
        refusals: the streams whose change the API server refuses.
    """

    def __init__(
        self,
        cluster: KubeClient,
        farm: str,
        rules: Rules,
        *,
        class_label: str,
        after_ready_s: float,
        refusals: Refusals,
    ) -> None:
        self._cluster = cluster
        self._farm = farm
        self._rules = rules
        self._class_label = class_label
        self._after_ready_s = after_ready_s
        self.open: set[str] = set()
        """Streams with an open move."""
        self._view: ClusterView | None = None
        """The last reading of the whole farm."""
        self._known: set[str] = set()
        """Streams whose history has been read."""
        self._move_ids: set[str] = set()
        """Open moves that the ledger knows of."""
        self._classes: dict[str, str] = {}
        """Node -> class of hardware; the ledger looks into it."""
        self._ledger = Ledger(rules, self._classes)
        self._watch = Watch()
        self._settling = Settling(self._ledger, after_ready_s)
        self._refusals = refusals
        self._snapshots = SnapshotMaker(self._ledger, self._watch, refusals)

    @property
    def has_read(self) -> bool:
        """Whether the whole farm has been read at least once."""
        return self._view is not None

    def read_all(self) -> ClusterView:
        """Read the whole farm and note what is new.

        Raises:
            KubeError: the API server does not answer.
        """
        view = read_view(self._cluster, self._farm)
        self._ledger.forget(self._known - set(view.scaled_jobs))
        self._known &= set(view.scaled_jobs)
        self._refusals.keep(view.scaled_jobs)
        self.open = set()
        opened = [OpenMove.from_text(open_move_text(one) or "") for one in view.scaled_jobs.values()]
        self._move_ids &= {one.id for one in opened if one is not None}
        for stream, scaled_job in view.scaled_jobs.items():
            self._see_stream(stream, scaled_job)
        self._classes.clear()
        for node in view.nodes.values():
            self._classes[node.name] = node.labels.get(self._class_label) or node.name
        self._view = view
        self._watch.see_nodes(view.nodes, self._expected_hosts())
        self._watch.see_streams(view, self._rules.start_timeout_s)
        self._settling.see(view)
        return view

    def read_open(self) -> ClusterView:
        """Read the nodes, and the streams with an open move.

        Raises:
            KubeError: the API server does not answer.
        """
        view = read_view(self._cluster, self._farm, self.open)
        self._watch.see_nodes(view.nodes, self._expected_hosts())
        return view

    def read_nodes(self) -> None:
        """Read the nodes only.

        Raises:
            KubeError: the API server does not answer.
        """
        self._watch.see_nodes(read_nodes(self._cluster), self._expected_hosts())

    def lose_contact(self) -> None:
        """Note that nothing could be read: how long nodes have been down is unknown from here on (R14)."""
        self._watch.lose_contact()

    def is_dead(self, host: str) -> bool:
        """Say whether a node has been NotReady or gone for longer than the grace (R14)."""
        return self._watch.down_s(host) > self._rules.node_grace_s

    def note_move(self, opened: OpenMove) -> None:
        """Note a move that has begun."""
        self.open.add(opened.move.stream)
        self._note_begun(opened)

    def note_destination(self, node: str, at_s: float) -> None:
        """Note that a balancer before this one sent a stream to a node, so that its usage counts only once settled.

        Args:
            node: the destination.
            at_s: when it was chosen, in seconds since 1970.
        """
        self._ledger.change_begins(labels.OURS, node)
        self._ledger.change_ends(labels.OURS, at_s + self._after_ready_s)

    def history_text(self, stream: str) -> str:
        """Return what is remembered of a stream, as its annotation's value."""
        return json.dumps(history_to_json(self._ledger.stream(stream)))

    def snapshot(
        self, view: ClusterView, window: Window, start_s: float, queries: Mapping[str, NodeQuery]
    ) -> Snapshot:
        """Return the planner's input.

        Args:
            view: the farm at the end of the window.
            window: the samples of each node's usage.
            start_s: when the window began, in seconds since 1970.
            queries: node -> where its usage is read.
        """
        averages = comparable(window.averages(self._ledger.settles_s), queries)
        known = {node: found for node, found in averages.items() if isinstance(found, Average)}
        self._ledger.window(
            start_s,
            {node: known[node].signals if node in known else None for node in averages},
            {node: found.since for node, found in known.items()},
        )
        to_the_letter = self._rules.policy is Policy.README
        unsettled = frozenset[str]() if to_the_letter else self._settling.unsettled(start_s)
        arriving = arrivals(view, start_s - self._after_ready_s, self._rules.pull_timeout_s)
        return self._snapshots.make(view, averages, unsettled, arriving)

    def _see_stream(self, stream: str, scaled_job: ScaledJob) -> None:
        """Take a stream's history the first time, and an open move that another balancer has begun."""
        if stream not in self._known:
            self._known.add(stream)
            self._ledger.restore(stream, _read_history(scaled_job))
        text = open_move_text(scaled_job)
        if text is not None:
            self.open.add(stream)
            opened = OpenMove.from_text(text)
            if opened is not None and opened.id not in self._move_ids:
                log.info("%s: a move that was begun earlier is open; going on", stream)
                self._note_begun(opened)

    def _note_begun(self, opened: OpenMove) -> None:
        self._move_ids.add(opened.id)
        self._ledger.moved(opened.move, opened.began_s)

    def _expected_hosts(self) -> set[str]:
        """Return the nodes that should be there: affinities and pods name them."""
        if self._view is None:
            return set()
        places = [self._view.place(scaled_job) for scaled_job in self._view.scaled_jobs.values()]
        named = {place for place in places if place is not None}
        return named | {pod.host for pods in self._view.pods.values() for pod in pods if pod.host}


def _read_history(scaled_job: ScaledJob) -> StreamHistory:
    try:
        return history_from_json(json.loads((scaled_job.annotations or {}).get(HISTORY, "{}")))
    except (ValueError, RecursionError):
        return StreamHistory()
