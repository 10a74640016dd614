"""The balancer's Prometheus metrics: what it plans, what it doesn't and why, open moves, and which streams run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from posture.balancer.health import Down
from posture.planning.model import Move, NodeState, Plan
from posture.usage.agreement import Disagreement
from posture.usage.ratios import Suspicion


class BalancerMetrics:
    """The figures of one balancer. Those of nodes and streams are there only while it acts.

    Args:
        registry: where they are registered.
        farm: whose balancer it is.
    """

    def __init__(self, registry: CollectorRegistry, farm: str) -> None:
        def gauge(name: str, about: str) -> Gauge:
            return Gauge(f"posture_{name}", about, registry=registry)

        def family(name: str, about: str, *labels: str) -> _Family:
            return _Family(Gauge(f"posture_{name}", about, labels, registry=registry))

        self._loops = Counter("posture_balancer_loops", "Loops planned.", registry=registry)
        self._moves = Counter("posture_balancer_moves", "Moves planned.", ["kind"], registry=registry)
        self._vetoes = Counter("posture_balancer_vetoes", "Vetoes.", ["reason"], registry=registry)
        self._refused = Counter(
            "posture_balancer_refused", "Changes that the API server refused.", ["stream"], registry=registry
        )
        self._acting = Gauge(
            "posture_balancer_acting", "1 while it acts: it has the Lease, and the API server answers.",
            ["farm"], registry=registry,
        ).labels(farm)  # fmt: skip
        self._overloaded = gauge("balancer_overloaded_nodes", "Nodes over the threshold in the last window.")
        self._over = family("balancer_node_overloaded", "1 for each node over the threshold.", "node")
        self._percent = family(
            "balancer_node_percent", "Average of the last window; no signal is named where each node has one.",
            "node", "signal",
        )  # fmt: skip
        self._veto = family(
            "balancer_veto", "1 for each veto of the last loop, of a stream, a node or the farm.",
            "reason", "node", "stream",
        )  # fmt: skip
        self._open = family(
            "balancer_move_open_seconds", "Since a move began that is not finished.",
            "stream", "source", "destination",
        )  # fmt: skip
        self._running = family("stream_running", "1 while a stream runs as it should, else 0.", "stream", "node")
        self._disagrees = family(
            "balancer_signal_disagrees", "1: moving a stream off this node changes nothing that is measured.",
            "node", "measured", "used",
        )  # fmt: skip
        self._ratios = family(
            "balancer_signal_looks_like_ratio", "1: it may be a share of 1 that is read as percent.",
            "node", "signal",
        )  # fmt: skip
        self._gpu_missing = family(
            "stream_gpu_missing", "1: a stream that was told to use the GPU uses the CPU.", "stream", "node"
        )
        self._trouble = family("stream_trouble", "1: why a stream does not run.", "stream", "node", "reason")

    def planned(self, plan: Plan) -> None:
        """Count one loop's plan."""
        self._loops.inc()
        for move in plan.moves:
            self._moves.labels(move.kind.value).inc()
        for veto in plan.vetoes:
            self._vetoes.labels(veto.reason.value).inc()
        self._veto.show({(veto.reason.value, veto.node, veto.stream): 1.0 for veto in plan.vetoes})
        self._overloaded.set(len(plan.overloaded))
        self._over.show({(node,): 1.0 for node in plan.overloaded})

    def averages(self, nodes: Iterable[NodeState]) -> None:
        """Show each signal's average over the last window; of a node that is not known, nothing."""
        self._percent.show({(one.name, signal): value for one in nodes for signal, value in one.averages.items()})

    def refused(self, stream: str) -> None:
        """Count a change of a stream that the API server refused."""
        self._refused.labels(stream).inc()

    def streams(self, nodes: Mapping[str, str], down: Mapping[str, Down]) -> None:
        """Show which streams run.

        Args:
            nodes: stream -> where it should run; empty where that is not said.
            down: those that don't run.
        """
        self._running.show({(stream, node): float(stream not in down) for stream, node in nodes.items()})
        self._trouble.show({(stream, nodes[stream], one.trouble.reason): 1.0 for stream, one in down.items()})

    def disagreements(self, found: Iterable[Disagreement]) -> None:
        """Show the nodes whose usage does not follow what their streams run on."""
        self._disagrees.show({(one.node, one.measured, one.used): 1.0 for one in found})

    def ratios(self, found: Iterable[Suspicion]) -> None:
        """Show the signals that look like ratios."""
        self._ratios.show({(node, one.signal): 1.0 for one in found for node in one.nodes})

    def gpu_missing(self, places: Mapping[str, str]) -> None:
        """Show the streams that were told to use the GPU and use the CPU, each with its node."""
        self._gpu_missing.show(dict.fromkeys(places.items(), 1.0))

    def open_moves(self, moves: Mapping[Move, float]) -> None:
        """Show the moves that are not finished, each with its age in seconds."""
        self._open.show({(move.stream, move.source, move.destination): age_s for move, age_s in moves.items()})

    def acts(self, acting: bool) -> None:
        """Show whether this balancer acts."""
        self._acting.set(acting)

    def forget_farm(self) -> None:
        """Say nothing of nodes and streams any more: another balancer does."""
        self._overloaded.set(0)
        of_nodes = (self._over, self._percent, self._disagrees, self._ratios)
        of_streams = (self._open, self._running, self._trouble, self._gpu_missing)
        for one in (*of_nodes, self._veto, *of_streams):
            one.show({})


class _Family:
    """A gauge whose series come and go; one that stays is never absent in between, even for one scrape."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: set[tuple[str, ...]] = set()

    def show(self, values: Mapping[tuple[str, ...], float]) -> None:
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        for labels in self._shown - values.keys():
            self._gauge.remove(*labels)
        self._shown = set(values)
