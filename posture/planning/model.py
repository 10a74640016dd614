"""What a loop of the balancer sees, remembers and plans, as plain data.

Units: usage and thresholds are points, 0 to 100, of one node. *Work* is what a job costs, in points on a node
of speed 1: on a node of speed 4 it costs a quarter. Times are seconds on one clock of the caller's choice.
A node may be read by several signals, such as its GPU and its processors: then usage is the largest of them, while
work, cost and speed are of each signal by itself.
Rules R1 to R15 are explained in docs/balancing.md.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Points = Mapping[str, float]
"""Signal -> points."""
ONE_SIGNAL = ""
"""The name of the only signal, in a farm whose nodes are read by one each."""

ROUNDING = 1e-6
"""Points by which an average may exceed a threshold and still count as at it: sums of floats are not exact."""


class Policy(str, enum.Enum):
    """How a loop chooses what to offload, and where to."""

    README = "readme"
    """The four steps of the specification to the letter; neither R13 nor R14."""
    GUARDED = "guarded"
    """With rules R1 to R15."""


class MoveKind(str, enum.Enum):
    """Why a stream is moved."""

    OFFLOAD = "offload"
    """Its node is overloaded."""
    RESTART = "restart"
    """It can't start where it is (R13)."""
    FAILOVER = "failover"
    """Its node is lost, or cordoned without its pod (R14)."""


class Phase(str, enum.Enum):
    """How far a stream's pod has come."""

    RUNNING = "running"
    """Ready."""
    STARTING = "starting"
    """Bound to a node, not Ready yet."""
    PENDING = "pending"
    """Not bound to a node."""
    ABSENT = "absent"
    """No pod: evicted, finished, or not made yet."""


class VetoReason(str, enum.Enum):
    """Why something was not moved. The value is what logs, metrics and ``--dry-run`` show."""

    ALL_OVERLOADED = "all_overloaded"
    """R9: no node with a valid metric is at or under the threshold."""
    NO_METRICS = "no_metrics"
    """R9: no node has a valid metric."""
    METRIC_UNKNOWN = "metric_unknown"
    """R6: this node has no valid window."""
    NOT_READY = "not_ready"
    """R7: an overloaded node that is NotReady is no source (R14 looks after it)."""
    SETTLING = "settling"
    """R5: the source's window began before our last change to it settled."""
    DESTINATION_SETTLING = "destination_settling"
    """R5: a node where the job would fit is still settling; waiting is better than R3."""
    DWELL = "dwell"
    """R12: not yet over the threshold for enough windows in a row."""
    HYSTERESIS = "hysteresis"
    """R12: over the threshold, but by no more than the hysteresis."""
    NO_JOB = "no_job"
    """An overloaded node on which none of our jobs runs."""
    NOT_OUR_LOAD = "not_our_load"
    """Moves from this node did not lower its usage: the load is not the farm's."""
    UNPLACEABLE = "unplaceable"
    """R3: moving any of its jobs to any node would not lower the higher of both."""
    PINNED = "pinned"
    """The stream is pinned to its node."""
    COOLDOWN = "cooldown"
    """R4: the stream was moved not long ago."""
    IN_MOVE = "in_move"
    """The stream's last move isn't finished."""
    LOAD_UNKNOWN = "load_unknown"
    """It was moved with an unknown load, and that move did not teach it."""
    REFUSED = "refused"
    """The API server refused a change of the stream a short time ago."""
    UNMANAGED = "unmanaged"
    """The stream's affinity names no node or several, and it has no Job on a node with the label."""
    KEDA_AWAY = "keda_away"
    """R15: the ScaledJob does not show that KEDA would make a new Job."""
    PODS_REFUSED = "pods_refused"
    """R15: Kubernetes takes no pods of several streams; one that were moved would not start either."""
    NO_ELIGIBLE_NODE = "no_eligible_node"
    """R13, R14: no node could run the stream."""
    MANY_LOST = "many_lost"
    """R14: more than half of the nodes fell silent; rather the balancer itself is cut off."""
    LABEL_GONE = "label_gone"
    """A Ready node has lost its label ``gpu-node``: its streams run on, and would find no way back to it."""
    NODE_GRACE = "node_grace"
    """R14: not lost for long enough."""
    NO_CONTACT = "no_contact"
    """R14: the balancer's contact with the API server has not lasted long enough to judge."""
    START_FAILURES = "start_failures"
    """R13: several streams failed to start on this node; it is no destination for a while."""
    START_GRACE = "start_grace"
    """R13: it may still start."""
    POLICY = "policy"
    """R13, R14: reported only, since the policy is ``readme``."""


@dataclass(frozen=True)
class Rules:
    """What an operator may choose about a plan."""

    policy: Policy = Policy.GUARDED
    threshold: float = 50.0
    """Points; a node is overloaded above it."""
    hysteresis: float = 0.0
    """R12, points: a source must be over threshold + hysteresis; R3 must gain more than it."""
    dwell: int = 1
    """R12, windows in a row that a source must have been over, this one included."""
    cooldown_base_s: float = 300.0
    """R4: after a stream's first move; doubled with each further one."""
    cooldown_cap_s: float = 4800.0
    """R4: never longer."""
    start_timeout_s: float = 120.0
    """R13: how long a pod may fail to start."""
    pull_timeout_s: float = 900.0
    """R13: the same while its image is being pulled."""
    node_grace_s: float = 60.0
    """R14: how long a node may be NotReady or gone."""
    spoiled_limit: int = 3
    """R5: a source is served again after so many spoiled windows in a row."""
    closed_base_s: float = 600.0
    """R13: how long a node where a start failed is closed to that stream; doubled with each failure there."""
    closed_cap_s: float = 21600.0
    """R13: never longer."""
    suspect_limit: int = 2
    """R13: a node that is closed to so many streams is no destination of an offload for any."""
    refused_limit: int = 2
    """R15: while Jobs of so many streams are refused their pods, no stream leaves a node for its load."""
    useless_limit: int = 2
    """After so many moves without an effect a node's load counts as not the farm's."""


@dataclass(frozen=True)
class NodeHistory:
    """What earlier loops say about a node; kept by :class:`posture.planning.ledger.Ledger`."""

    clean: bool = True
    """R5: the window began after our last change to the node had settled."""
    spoiled_windows: int = 0
    """R5: windows in a row that were not clean, this one included."""
    over_before: int = 0
    """R12: windows in a row before this one that were over threshold + hysteresis."""
    useless_moves: int = 0
    """Moves away from it since it was last under the threshold, if together they hardly lowered it; else 0."""


@dataclass(frozen=True)
class StreamHistory:
    """What earlier loops say about a stream; kept by the ledger, and by annotations across restarts."""

    work: Points = field(default_factory=dict)
    """Learned cost on a node of speed 1, in the signals in which it is known; from ``loads``, by the ledger."""
    loads: Mapping[str, Points] = field(default_factory=dict)
    """What was seen: class of nodes -> what the job costs there."""
    moves: int = 0
    """R4: offloads so far; each doubles the cooldown."""
    last_move_s: float = -math.inf
    """R4: when the last offload began."""
    origin: str = ""
    """R13: the node it came from; empty if it was never moved."""
    tried: bool = False
    """It was moved with a load that was unknown, in one signal of its node at least."""
    closed: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """R13: node -> (until when it is closed to this stream, how often the start failed there)."""

    def closed_at(self, now_s: float) -> list[str]:
        """R13: return the nodes that are closed to this stream at a time."""
        return [node for node, (until_s, _) in self.closed.items() if until_s > now_s]


@dataclass(frozen=True)
class Keda:
    """R15: what a stream's ScaledJob says about KEDA."""

    ready: bool = True
    active: bool = True
    paused: bool = False
    last_active_age_s: float = 0.0
    """Seconds since status.lastActiveTime; infinite if there is none."""
    polling_interval_s: float = 30.0

    @property
    def brings_successor(self) -> bool:
        """Say whether a Job that is deleted now will get its successor (R15)."""
        fresh = self.last_active_age_s <= 2 * self.polling_interval_s + 10
        return self.ready and self.active and not self.paused and fresh

    @property
    def state(self) -> str:
        """Return its condition in a word or two, for messages."""
        if self.paused:
            return "paused"
        if not self.ready:
            return "not Ready"
        return "Active" if self.active else "not Active"


@dataclass(frozen=True)
class NodeState:
    """One node of the farm as a loop sees it."""

    name: str
    usage: float | None
    """Average of the window in points, the largest of its signals; None: no valid window (R6)."""
    why_unknown: str = ""
    """The reason where usage is None; shown by the veto."""
    signals: Points = field(default_factory=dict)
    """The average of each signal; empty: there is only ``usage``."""
    speed: float = 1.0
    """R8: how fast its class is; only ratios matter."""
    speeds: Mapping[str, float] = field(default_factory=dict)
    """R8: the same for a signal, where it differs."""
    ready: bool = True
    """The Node's Ready condition is True; False too for a node that is gone."""
    gone: bool = False
    """Its Node object was removed; it has not only fallen silent."""
    down_s: float = 0.0
    """R14: how long it has been NotReady or gone, counted only while the API server was in contact."""
    cordoned: bool = False
    labelled: bool = True
    """It carries the label ``gpu-node``."""
    host: str = ""
    """The name of its Node object, where the label that gave it its own name has been taken off."""
    taints: frozenset[str] = frozenset()
    """Its NoSchedule and NoExecute taints, as ``key=value:effect``."""
    free: Mapping[str, float] | None = None
    """What is left of its allocatable resources (cpu, memory, ...); None: not known, no limit."""
    history: NodeHistory = NodeHistory()

    @property
    def averages(self) -> Points:
        """The average of each signal; empty where usage is not known."""
        if self.usage is None:
            return {}
        return self.signals or {ONE_SIGNAL: self.usage}

    def speed_in(self, signal: str) -> float:
        """Return how fast its class is in a signal (R8)."""
        return self.speeds.get(signal, self.speed)


@dataclass(frozen=True)
class StreamState:
    """One stream's job as a loop sees it."""

    stream: str
    node: str
    """The node that its ScaledJob's affinity names."""
    phase: Phase = Phase.RUNNING
    failing_s: float | None = None
    """R13: how long its pod has been Unschedulable, unable to pull its image, or crashing; None: it isn't."""
    pulling: bool = False
    """R13: its image is being pulled."""
    pinned: bool = False
    moving: bool = False
    """It has an open move, or its load is not in the window yet."""
    tolerates: frozenset[str] = frozenset()
    """Those taints of all nodes that its pod tolerates."""
    requests: Mapping[str, float] = field(default_factory=dict)
    """Its pod's requests, in the units of :attr:`NodeState.free`."""
    barred: frozenset[str] = frozenset()
    """Nodes ruled out by its nodeSelector or by other terms of its affinity."""
    refused_s: float = 0.0
    """For how long it is passed over, because the API server refused a change of it."""
    keda: Keda = Keda()
    history: StreamHistory = StreamHistory()


@dataclass(frozen=True)
class Arrival:
    """A stream of another farm that is on its way to a node."""

    node: str
    cost: float | None
    """Points that the node is expected to gain, in each of its signals; None: not known."""


@dataclass(frozen=True)
class Snapshot:
    """All that one loop knows."""

    nodes: Sequence[NodeState]
    """Every node of the farm, including those that are gone but still named by an affinity."""
    jobs: Sequence[StreamState]
    now_s: float = 0.0
    contact_s: float = math.inf
    """R14: for how long the contact with the API server has been unbroken."""
    unmanaged: Sequence[str] = ()
    """Streams that are on no node: their affinity names none or several, and they have no pod."""
    without_pods: Sequence[str] = ()
    """R15: streams whose Job is refused its pod."""
    arriving: Sequence[Arrival] = ()
    """R1: moves of other farms that are under way."""


@dataclass(frozen=True)
class Move:
    """One stream from one node to another."""

    kind: MoveKind
    stream: str
    source: str
    destination: str
    relief: Points = field(hash=False)
    """What the source is expected to lose, in each of its signals."""
    cost: Points = field(hash=False)
    """What the destination is expected to gain, in each of its signals (R8)."""
    source_usage: float | None
    """The source's average before."""
    destination_usage: float | None
    """The destination's projected average before this move (R1)."""
    why: str
    """The reason in one clause, for logs and events."""
    guess: bool = False
    """The stream's load is not known, in one signal at least: there it counts as its node's average divided by
    its streams."""


@dataclass(frozen=True)
class Veto:
    """Something that was not moved, and why."""

    reason: VetoReason
    node: str = ""
    stream: str = ""
    numbers: Mapping[str, float | str] = field(default_factory=dict)
    """The figures behind it, by name."""

    def __str__(self) -> str:
        """Return one line for logs and ``--explain``."""
        what = " ".join(part for part in (self.node, self.stream) if part) or "farm"
        numbers = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.numbers.items()
        )
        return f"{what}: {self.reason.value}" + (f" ({numbers})" if numbers else "")


@dataclass(frozen=True)
class Plan:
    """What one loop does, and what it does not."""

    moves: tuple[Move, ...] = ()
    vetoes: tuple[Veto, ...] = ()
    overloaded: tuple[str, ...] = ()
    """Nodes over the threshold, hottest first."""

    @property
    def stable(self) -> bool:
        """Say whether no node is over the threshold and nothing has to move."""
        return not self.overloaded and not self.moves
