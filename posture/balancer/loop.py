"""The loop of gpu_balancer.py: snapshot -> classify -> choose -> act.

One thread does everything. It wakes at each sample: keeps the Lease, looks at the nodes, goes on with open moves,
and samples the usage. At the end of a window it reads the cluster, plans, and begins the plan's moves. It stops
between two actions; the next balancer finishes the moves that are still open (posture/balancer/moves.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from random import Random

from posture.balancer import last_node, plan_text
from posture.balancer.delegates import Delegates
from posture.balancer.drift import Drift, DriftWatch, affinity_told, drift_of
from posture.balancer.health import Health
from posture.balancer.metrics import BalancerMetrics
from posture.balancer.moves import Mover, MoveStep, Redirect, Wait, next_steps
from posture.balancer.observer import Observer
from posture.balancer.open_move import OpenMove, open_move_text
from posture.balancer.refusals import Refusals
from posture.balancer.view import ClusterView
from posture.errors import UserError
from posture.kube import access, errors, events, kinds
from posture.kube.annotations import HISTORY, STATE
from posture.kube.client import KubeClient
from posture.kube.errors import KubeError
from posture.kube.lease import Lease
from posture.kube.objects import ScaledJob
from posture.natural_order import natural
from posture.planning.ledger import history_to_json
from posture.planning.model import Move, Phase, Plan, Policy, Rules, Snapshot, StreamHistory
from posture.planning.offloads import plan_offloads
from posture.runtime import EXIT_FAILED, EXIT_OK, Stop
from posture.settings.paths import path_of
from posture.settings.table import Balancer as BalancerSettings
from posture.settings.table import Settings
from posture.system.said_once import SaidOnce
from posture.usage import ratios
from posture.usage.agreement import Disagreement, disagreements, gpu_missing
from posture.usage.prometheus import Prometheus
from posture.usage.window import Window

log = logging.getLogger(__name__)

READING = (
    (kinds.NODE, "list"),
    (kinds.SCALED_JOB, "list"),
    (kinds.POD, "list"),
    (kinds.JOB, "list"),
    (kinds.EVENT, "list"),
)
"""Rights that ``--dry-run`` needs."""
ACTING = (
    (kinds.SCALED_JOB, "patch"),
    (kinds.JOB, "delete"),
    (kinds.POD, "delete"),
    (kinds.EVENT, "create"),
    (kinds.LEASE, "get"),
    (kinds.LEASE, "create"),
    (kinds.LEASE, "update"),
)
"""Further rights that moves need."""

READ_S = 10.0
"""How long ``--explain`` and ``--dry-run`` wait for what the broker says."""
ONCE_S = 600.0
"""With ``--once``: how long the moves of the one loop may take."""


def rules_of(settings: BalancerSettings) -> Rules:
    """Return the planner's rules."""
    return Rules(
        policy=Policy(settings.policy),
        threshold=settings.threshold,
        hysteresis=settings.hysteresis,
        dwell=settings.dwell,
        cooldown_base_s=settings.cooldown_base_s,
        cooldown_cap_s=settings.cooldown_cap_s,
        start_timeout_s=settings.start_timeout_s,
        pull_timeout_s=settings.pull_timeout_s,
        node_grace_s=settings.node_grace_s,
    )


class Balancer:
    """Balances one farm until it is asked to stop.

    Args:
        settings: all of them.
        cluster: the API server; its ``wait`` should end with ``stop``.
        prometheus: where the usage comes from.
        stop: asks for the end.
        rng: breaks ties.
        metrics: count what is planned.
        dry_run: plan and print, change nothing.
        show_all: print every veto with its numbers in each loop.
    """

    def __init__(
        self,
        settings: Settings,
        cluster: KubeClient,
        prometheus: Prometheus,
        stop: Stop,
        rng: Random,
        metrics: BalancerMetrics,
        *,
        dry_run: bool = False,
        show_all: bool = False,
    ) -> None:
        self._all_settings = settings
        self._settings = settings.balancer
        self._cluster = cluster
        self._prometheus = prometheus
        self._stop = stop
        self._rng = rng
        self._metrics = metrics
        self._dry_run = dry_run
        self._show_all = show_all
        self._farm = settings.kubernetes.farm
        self._rules = rules_of(self._settings)
        after_ready_s = self._settings.warm_up_s + settings.prometheus.scrape_interval_s
        self._refusals = Refusals()
        self._drifts = DriftWatch(self._rules.cooldown_base_s, self._rules.cooldown_cap_s)
        self._observer = Observer(
            cluster,
            self._farm,
            self._rules,
            class_label=self._settings.class_label,
            after_ready_s=after_ready_s,
            refusals=self._refusals,
        )
        self._mover = Mover(cluster)
        self._health = Health(self._settings.start_timeout_s)
        self._delegates = Delegates(settings.mqtt, stop)
        self._disagreements: list[Disagreement] = []
        """Of the last loop: nodes whose usage does not follow their streams."""
        self._gpu_missing: dict[str, str] = {}
        """Of the last loop: streams that were told to use the GPU and use the CPU, each with its node."""
        self._ratio_watch = ratios.RatioWatch()
        self._suspicions: list[ratios.Suspicion] = []
        """Of the last loop: signals that look like ratios."""
        self._said = SaidOnce(log)
        self._hanging: set[str] = set()
        """Ids of open moves of which it has been said that they hang."""
        self._lease = Lease(cluster, self._farm, self._settings.lease_s)
        self._last_node_file = path_of(self._settings.last_node_file)
        if (chosen := last_node.read(self._last_node_file)) is not None:
            self._observer.note_destination(*chosen)
        self._rights_checked = False
        self._unreachable = ""
        """Why the API server can't be used at the moment."""
        self._logged_vetoes: object = None
        """The last loop's vetoes: logged once per change."""

    def run(self, *, once: bool = False) -> int:
        """Balance; return the exit status.

        Args:
            once: one loop, and end when its moves are done.

        Raises:
            UserError: the account lacks rights.
        """
        try:
            with self._lease.kept():
                return self._run_once() if once else self._run_on()
        finally:
            self._lease.release()

    def _run_on(self) -> int:
        while not self._stop.requested:
            if self._take_over():
                self._loop()
                self._pass(self._settings.interval_s)
            else:
                self._stop.wait(self._settings.sample_interval_s)
        return EXIT_OK

    def _run_once(self) -> int:
        # a killed balancer's Lease has to expire first
        patience = time.monotonic() + 2 * self._settings.lease_s
        while not self._take_over():
            if self._stop.requested:
                return EXIT_OK
            if time.monotonic() > patience or self._unreachable:
                print(f"not done: {self._unreachable or f'the balancer {self._lease.holder} acts'}", flush=True)
                return EXIT_FAILED
            self._stop.wait(self._settings.sample_interval_s)
        planned = self._loop()
        end = time.monotonic() + ONCE_S
        while self._observer.open and not self._dry_run and not self._stop.requested and time.monotonic() < end:
            self._stop.wait(self._settings.sample_interval_s)
            self._look()
        return EXIT_OK if planned and (self._dry_run or not self._observer.open) else EXIT_FAILED

    # when

    def _take_over(self) -> bool:
        """Return whether this balancer may act; read the whole farm when it takes over."""
        held_before = self._dry_run or self._lease.held
        with self._contact():
            if not self._rights_checked:
                needed = READING if self._dry_run else READING + ACTING
                if lacking := access.missing(self._cluster, needed):
                    raise UserError("\n".join(lacking))
                self._rights_checked = True
            if not self._dry_run and not self._lease.renew():
                self._observer.lose_contact()
                return False
            if not held_before or not self._observer.has_read:
                self._observer.read_all()
                self._advance()
            return True
        return False

    def _pass(self, seconds: float, window: Window | None = None) -> None:
        """Wait for some seconds; look at the cluster at each sample, and add it to the window if there is one."""
        began = time.monotonic()
        due_s = 0.0
        while not self._stop.requested:
            self._look()
            if window is not None:
                window.add(self._prometheus.sample())
            if due_s >= seconds:
                return
            late_s = time.monotonic() - began
            due_s = min(max(due_s + self._settings.sample_interval_s, late_s), seconds)
            self._stop.wait(max(0.0, due_s - late_s))

    def _look(self) -> None:
        """Keep the Lease, look at the nodes, go on with open moves."""
        with self._contact():
            if not self._dry_run and not self._lease.renew():
                return
            if self._observer.open and not self._dry_run:
                self._advance()
            else:
                self._observer.read_nodes()

    @contextlib.contextmanager
    def _contact(self) -> Iterator[None]:
        """Report once that the API server can't be used, and once that it can again."""
        try:
            yield
        except KubeError as error:
            self._observer.lose_contact()
            if str(error) != self._unreachable and not self._stop.requested:
                log.error("%s", error)
            self._unreachable = str(error)
        else:
            if self._unreachable:
                log.info("the API server answers again")
            self._unreachable = ""
        acting = self._dry_run or self._lease.held
        self._metrics.acts(acting and not self._unreachable)
        if not acting:
            self._metrics.forget_farm()

    @contextlib.contextmanager
    def _alone(self, scaled_job: ScaledJob) -> Iterator[None]:
        """Confine a refusal of the API server to one stream, which is passed over for a while.

        A webhook may be down, a policy or a quota may forbid it, the ScaledJob may be gone since it was read. Only
        if no other request would be answered either, the error is raised.
        """
        stream = scaled_job.stream
        try:
            yield
        except (errors.NoConnectionError, errors.CredentialsRefusedError):
            raise
        except KubeError as error:
            if self._stop.requested:
                return
            again = self._refusals.why(stream) == str(error)
            pause_s = self._refusals.note(stream, str(error))
            self._metrics.refused(stream)
            told = f"{error}; it is passed over, and tried again in {pause_s:.0f} s"
            log.log(logging.DEBUG if again else logging.ERROR, "%s: %s", stream, told)
            if not isinstance(error, errors.NotFoundError):
                self._tell(scaled_job, "ChangeRefused", told, warning=True)
        else:
            if self._refusals.forget(stream):
                log.info("%s: the API server takes changes of it again", stream)

    def _passed_over(self, stream: str) -> bool:
        """Say whether a stream waits, because a change of it was refused a short time ago."""
        return self._refusals.left_s(stream) > 0

    # one loop

    def _loop(self) -> bool:
        """Observe a window, plan and act; return whether it got as far as a plan."""
        window = Window(self._all_settings.prometheus, self._settings.window_s)
        start_s = self._cluster.now()
        self._delegates.begin()
        self._pass(self._settings.window_s, window)
        if self._stop.requested:
            return False
        with self._contact():
            if not self._dry_run and not self._lease.renew():
                return False
            view = self._observer.read_all()
            snapshot = self._observer.snapshot(view, window, start_s, self._prometheus.queries)
            plan = plan_offloads(snapshot, self._rules, self._rng)
            self._see_health(view)
            self._see_delegates(view)
            self._see_ratios(snapshot, window, start_s)
            self._report(snapshot, plan)
            if not self._dry_run:
                under_way = frozenset(self._observer.open)
                self._act(view, plan)
                self._heal(view, snapshot)
                self._write_notes(view, under_way - self._observer.open)
            return True
        return False

    def _see_health(self, view: ClusterView) -> None:
        """Note which streams run, and tell what is new of it."""
        changes = self._health.see(view)
        nodes = {stream: view.place(scaled_job) or "" for stream, scaled_job in view.scaled_jobs.items()}
        self._metrics.streams(nodes, self._health.down)
        for change in changes:
            if change.down is not None:
                log.warning("%s does not run: %s", change.stream, change.down.trouble)
            else:
                log.info("%s runs again", change.stream)
            if not self._dry_run and self._may_go_on():
                reason = "StreamRuns" if change.down is None else "StreamDown"
                told = "it runs again" if change.down is None else f"it does not run: {change.down.trouble}"
                self._tell(view.scaled_jobs[change.stream], reason, told, warning=change.down is not None)

    def _see_delegates(self, view: ClusterView) -> None:
        """Tell of nodes whose usage does not follow what their streams run on, and of streams without their GPU."""
        if self._dry_run or self._show_all:  # somebody wants to read it now
            self._delegates.wait(READ_S)
        places = {stream: view.place(scaled_job) or "" for stream, scaled_job in view.scaled_jobs.items()}
        found = disagreements(self._prometheus.queries, places, self._delegates.found)
        self._metrics.disagreements(found)
        for one in found:
            if one not in self._disagreements:
                log.warning("%s", one)
        self._disagreements = found
        missing = {stream: node for stream, node in places.items() if stream in self._delegates.gpu_missing}
        self._metrics.gpu_missing(missing)
        for stream, node in missing.items():
            if stream not in self._gpu_missing:
                log.warning("%s", gpu_missing(stream, node))
        self._gpu_missing = missing

    def _see_ratios(self, snapshot: Snapshot, window: Window, start_s: float) -> None:
        """Tell of signals that look like ratios, by their name or by what nodes show that run streams."""
        busy = {job.node for job in snapshot.jobs if job.phase is Phase.RUNNING and not job.moving}
        queries = self._prometheus.queries
        shown = self._ratio_watch.see(queries, window.values(), busy, start_s, snapshot.now_s)
        self._suspicions = [*ratios.by_name(queries), *shown]
        self._metrics.ratios(self._suspicions)
        for one in self._suspicions:
            self._said.warning(str(one), f"{one.signal} {one.nodes}")

    def _report(self, snapshot: Snapshot, plan: Plan) -> None:
        self._metrics.planned(plan)
        self._metrics.averages(snapshot.nodes)
        log.info("%s", "; ".join(filter(None, (plan_text.summary(snapshot, plan), self._health.summary()))))
        said = {(veto.reason, veto.node, veto.stream) for veto in plan.vetoes}
        if self._dry_run or self._show_all:
            told = plan_text.lines(snapshot, plan, self._rules, self._health.down)
            told += [f"signal {one}" for one in (*self._disagreements, *self._suspicions)]
            told += [f"gpu {gpu_missing(stream, node)}" for stream, node in self._gpu_missing.items()]
            if self._delegates.problem:
                told.append(f"what the streams run on is not known: {self._delegates.problem}")
            print("\n".join(told), flush=True)
        elif said != self._logged_vetoes:
            for veto in plan.vetoes:
                log.info("not moved: %s", veto)
        self._logged_vetoes = said

    def _act(self, view: ClusterView, plan: Plan) -> None:
        for move in plan.moves:
            if self._may_go_on():
                self._begin(view.scaled_jobs[move.stream], move)
        self._advance()

    def _heal(self, view: ClusterView, snapshot: Snapshot) -> None:
        """Tell of streams whose affinity names another node than they run on, and write it anew.

        A pinned stream's affinity is the operator's: it is only told.
        """
        good = {node.name for node in snapshot.nodes if node.ready and node.labelled}
        running = {job.stream for job in snapshot.jobs if job.phase is Phase.RUNNING and job.node in good}
        for stream in sorted(running - self._observer.open, key=natural):
            drift = drift_of(view, view.scaled_jobs[stream])
            if drift is None or self._passed_over(stream) or not self._may_go_on():
                continue
            if self._drifts.is_due(stream):
                self._heal_one(drift)

    def _heal_one(self, drift: Drift) -> None:
        scaled_job = drift.scaled_job
        if not scaled_job.pinned:
            healed = False
            with self._alone(scaled_job), contextlib.suppress(errors.StaleError):
                self._mover.heal(scaled_job, drift.node)
                healed = True
            if not healed:
                return
        told = f"{drift}; " + (
            "it is pinned, so that stays" if scaled_job.pinned else f"it names {drift.node} again"
        )
        log.warning("%s: %s", scaled_job.stream, told)
        self._tell(scaled_job, "PlacementDrift", told, warning=True)

    def _may_go_on(self) -> bool:
        """Say whether the next action may be begun."""
        return not self._stop.requested and self._lease.held

    def _begin(self, scaled_job: ScaledJob, move: Move) -> None:
        opened = None
        with self._alone(scaled_job):
            try:
                opened = self._mover.open(scaled_job, move, self._observer.history_text(move.stream))
            except errors.StaleError:
                log.warning("%s was edited meanwhile: it is not moved now", scaled_job.name)
        if opened is None:
            return
        log.info("%s: %s from %s to %s: %s", move.stream, move.kind.value, move.source, move.destination, move.why)
        self._observer.note_move(opened)
        last_node.write(self._last_node_file, move.destination, opened.began_s)
        self._tell(
            scaled_job, "MoveBegun", f"{move.kind.value} from {move.source} to {move.destination}: {move.why}"
        )

    def _advance(self) -> None:
        """Go on with every open move, as far as the cluster has come."""
        if not self._observer.open or self._dry_run:
            return
        view = self._observer.read_open()
        ages: dict[Move, float] = {}
        for stream in sorted(self._observer.open, key=natural):
            scaled_job = view.scaled_jobs.get(stream)
            if scaled_job is None or open_move_text(scaled_job) is None:
                self._observer.open.discard(stream)
            elif self._may_go_on():
                self._advance_one(view, scaled_job, ages)
        self._metrics.open_moves(ages)

    def _advance_one(self, view: ClusterView, scaled_job: ScaledJob, ages: dict[Move, float]) -> None:
        name = scaled_job.name
        steps = next_steps(
            scaled_job,
            view.jobs.get(name, ()),
            view.pods.get(name, ()),
            self._observer.is_dead,
            view.keda(scaled_job).brings_successor,
        )
        closed = False
        if not self._passed_over(scaled_job.stream) and not all(isinstance(step, Wait) for step in steps):
            with self._alone(scaled_job):
                try:
                    closed = self._mover.take(scaled_job, steps, self._observer.history_text(scaled_job.stream))
                    self._tell_redirections(scaled_job, steps)
                except errors.StaleError as error:
                    log.info("%s; the next pass sees what it is now", error)
        opened = OpenMove.from_text(open_move_text(scaled_job) or "")
        age_s = view.taken_s - opened.began_s if opened else 0.0
        if closed:
            self._observer.open.discard(scaled_job.stream)
            took = f" in {age_s:.0f} s" if opened else ""
            log.info("%s: runs on %s%s", scaled_job.stream, scaled_job.node, took)
            self._tell(scaled_job, "MoveFinished", f"it runs on {scaled_job.node}{took}")
        elif opened is not None:
            ages[opened.move] = age_s
            if age_s > self._settings.start_timeout_s and opened.id not in self._hanging:
                self._hanging.add(opened.id)
                self._tell_that_it_hangs(view, scaled_job, opened, steps)

    def _tell_redirections(self, scaled_job: ScaledJob, steps: Sequence[MoveStep]) -> None:
        """Tell that others have written a stream's affinity while it was moved, and that it was written anew."""
        for step in steps:
            if isinstance(step, Redirect):
                told = f"{affinity_told(scaled_job)} in the middle of a move; it names {step.node} again"
                log.warning("%s: %s", scaled_job.stream, told)
                self._tell(scaled_job, "PlacementDrift", told, warning=True)

    def _tell_that_it_hangs(
        self, view: ClusterView, scaled_job: ScaledJob, opened: OpenMove, steps: Sequence[MoveStep]
    ) -> None:
        waits = next((f"; it waits for {step.what}" for step in steps if isinstance(step, Wait)), "")
        trouble = view.trouble(scaled_job)
        why = f"; {trouble}" if trouble is not None else ""
        move, age_s = opened.move, view.taken_s - opened.began_s
        told = f"{move.kind.value} from {move.source} to {move.destination} is open for {age_s:.0f} s{waits}{why}"
        log.warning("%s: the move hangs: %s", scaled_job.stream, told)
        self._tell(scaled_job, "MoveHangs", told, warning=True)

    def _write_notes(self, view: ClusterView, ended: Collection[str]) -> None:
        """Write what was learned about streams, and whether they run, to their annotations.

        Of streams whose moves have ended since the view, their ends have written it.
        """
        nothing = json.dumps(history_to_json(StreamHistory()))
        for stream, scaled_job in view.scaled_jobs.items():
            if stream in ended:
                continue
            stored = scaled_job.annotations or {}
            notes = {STATE: self._health.state_text(scaled_job)}
            if stream not in self._observer.open:
                notes[HISTORY] = self._observer.history_text(stream)
            absent = {STATE: "", HISTORY: nothing}
            new = {name: text for name, text in notes.items() if text != stored.get(name, absent[name])}
            if new and self._may_go_on() and not self._passed_over(stream):
                with self._alone(scaled_job), contextlib.suppress(errors.StaleError):
                    self._mover.annotate(scaled_job, new)

    def _tell(self, scaled_job: ScaledJob, reason: str, message: str, *, warning: bool = False) -> None:
        """Create an Event for the ScaledJob; a move does not depend on it."""
        try:
            events.create(self._cluster, scaled_job, reason, message, warning=warning)
        except KubeError as error:
            log.warning("%s", error)
