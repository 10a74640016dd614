"""What people and other programs do to a farm by the cluster's own means: its objects, its rules, its nodes."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cameras import libfaketime, wrong_clock
from control_plane import ScaledJob
from deployed import send
from farm_at_work import NAMESPACE, WAIT_S
from kubectl import Kubectl
from lightkube import ApiError
from lightkube.codecs import from_dict
from lightkube.resources.batch_v1 import Job
from lightkube.types import CascadeType, PatchType
from real_farm import FACTORS, NEWCOMER, STREAMS, RealFarm
from scaled_jobs import is_finished, labels_of_jobs, name_of
from victims import MOVED_S, a_node_with_streams, an_analyzer, analyzer_killed, overload, until_streams_have_left
from watching import wait_for

from posture.kube.affinity import node_of, with_node
from posture.kube.annotations import PAUSED, STATE
from posture.manifests import files as manifest_files
from posture.system import files

GITOPS = "gitops"
HEALED_S = 240.0
"""An affinity that others have written is written anew at most once a cooldown, which doubles each time."""
REAPPLY_S = 10.0
"""Shorter than any controller's, as the farm's own timers are here."""
TEMPLATE = "/spec/jobTargetRef/template/spec"
LAG_S = 300.0
"""An analyzer that asks libfaketime for the time may be slower than its camera on a busy machine."""
CLOCK = "clock"
"""A folder below a node's /var/lib, and a volume."""


def edit(farm: RealFarm, stream: str, *operations: tuple[str, str, Any]) -> None:
    """Change a stream's ScaledJob by hand: operation, path and value of a JSON Patch."""
    edits = [{"op": op, "path": path, "value": value} for op, path, value in operations]
    farm.cluster.client.patch(ScaledJob, name_of(stream), edits, namespace=NAMESPACE, patch_type=PatchType.JSON)


def live(farm: RealFarm, stream: str) -> Any:
    return farm.cluster.client.get(ScaledJob, name_of(stream), namespace=NAMESPACE)


def pod_spec(farm: RealFarm, stream: str) -> Any:
    return live(farm, stream).spec["jobTargetRef"]["template"]["spec"]


def affinities(farm: RealFarm) -> dict[str, str | None]:
    """Stream -> the node that its ScaledJob names."""
    return {stream: node_of(pod_spec(farm, stream).get("affinity")) for stream in STREAMS}


def unfinished_jobs(farm: RealFarm, stream: str) -> dict[str, str]:
    """Uid -> name of a stream's Jobs."""
    jobs = farm.cluster.client.list(Job, namespace=NAMESPACE, labels=labels_of_jobs(stream))
    return {job.metadata.uid: job.metadata.name for job in jobs if not is_finished(job)}


def end_jobs(farm: RealFarm, stream: str) -> None:
    """Delete a stream's Jobs, so that what its ScaledJob says counts."""
    for name in unfinished_jobs(farm, stream).values():
        farm.cluster.client.delete(Job, name, namespace=NAMESPACE, cascade=CascadeType.FOREGROUND)


def until_told(farm: RealFarm, stream: str, words: str, *reasons: str) -> None:
    """Wait until a stream's annotation says that it does not run, for one of these reasons, with these words."""

    def told() -> bool:
        text = (live(farm, stream).metadata.annotations or {}).get(STATE, "")
        return text.startswith(reasons) and words in text

    try:
        wait_for(told, WAIT_S, look_s=0.5)
    except AssertionError:
        said = (live(farm, stream).metadata.annotations or {}).get(STATE, "")
        raise AssertionError(f"not told: {reasons} {words!r}, but {said!r}") from None


@contextlib.contextmanager
def reapplied(farm: RealFarm, manifests: Sequence[Mapping[str, Any]]) -> Iterator[Callable[[], int]]:
    """Apply objects again and again as Argo CD and Flux do: on the server, by force, under a name of its own.

    Yields a function that says how often that was done.
    """
    end = threading.Event()
    times: list[float] = []

    def apply() -> None:
        while True:
            for manifest in manifests:
                assert send(farm.cluster, manifest, manager=GITOPS) == ""
            times.append(time.time())
            if end.wait(REAPPLY_S):
                return

    thread = threading.Thread(target=apply)
    thread.start()
    try:
        yield lambda: len(times)
    finally:
        end.set()
        thread.join()


def old_manifests_reapplied(farm: RealFarm, _: random.Random) -> None:
    """The files of a build_and_push.py of just now go on being applied while the balancer moves a stream."""
    before = farm.until_each_runs_once()
    manifests = []
    for manifest in manifest_files.load([farm.checkout.folder / f"patched-job-{name}.yaml" for name in STREAMS]):
        manifest.place(before[manifest.stream])
        manifests.append(manifest.data())
    jobs = {stream: unfinished_jobs(farm, stream) for stream in STREAMS}
    begun, since = len(farm.timeline.moves()), farm.timeline.count()
    with reapplied(farm, manifests) as count, overload(farm):
        places = farm.until_moved(before, MOVED_S)
        farm.await_loops(3)
        made = farm.timeline.moves()[begun:]
        assert [move.kind for move in made] == ["offload"], made
        assert farm.until_each_runs_once() == places
        stayed = [stream for stream in STREAMS if stream != made[0].stream]
        assert all(unfinished_jobs(farm, stream) == jobs[stream] for stream in stayed), "started anew"
        times = count()
    wait_for(lambda: affinities(farm) == places, HEALED_S, look_s=0.5)
    doubled = [running for running in farm.timeline.places(since) if any(len(at) > 1 for at in running.values())]
    assert not doubled, doubled
    farm.timeline.spans[-1].outcome = f"applied {times} times; one move, of {made[0].stream}, and no other start"


def scaled_job_edited_by_hand(farm: RealFarm, rng: random.Random) -> None:
    """Another node, which the balancer mends; another image, replicas, a pause, which build_and_push.py mends."""
    stream = rng.choice(STREAMS)
    here = farm.until_each_runs_once()[stream]
    jobs = unfinished_jobs(farm, stream)
    other = rng.choice(sorted(set(FACTORS) - {here}))
    edit(farm, stream, ("replace", f"{TEMPLATE}/affinity", with_node(None, other)))
    wait_for(lambda: node_of(pod_spec(farm, stream)["affinity"]) == here, WAIT_S, look_s=0.5)
    edit(farm, stream, ("replace", f"{TEMPLATE}/containers/0/image", f"{farm.registry.host}/none:1"))
    assert unfinished_jobs(farm, stream) == jobs, "what runs is not touched by an edit"
    end_jobs(farm, stream)
    until_told(farm, stream, "none:1", "ErrImagePull", "ImagePullBackOff")
    farm.run_again()
    edit(farm, stream, ("replace", "/spec/maxReplicaCount", 2))
    until_told(farm, stream, "", "TooManyPods", "KeepsEnding")
    pause = {"metadata": {"annotations": {PAUSED: "true"}}}
    farm.cluster.client.patch(ScaledJob, name_of(stream), pause, namespace=NAMESPACE, patch_type=PatchType.MERGE)
    end_jobs(farm, stream)
    until_told(farm, stream, "", "Paused")
    farm.run_again()


def webhook() -> dict[str, Any]:
    """One that nobody answers for, and without which no pod of the farm is made."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ours = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    asked = {
        "name": "away.example.org",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "rules": [rule],
        "namespaceSelector": ours,
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    return {**kind, "metadata": {"name": "away"}, "webhooks": [asked]}


def quota() -> dict[str, Any]:
    """Of fewer pods than there are."""
    metadata = {"name": "small", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "1"}}}


def admission_webhook_away(farm: RealFarm, rng: random.Random) -> None:
    refused_a_pod(farm, rng, webhook(), "failed calling webhook")


def quota_reached(farm: RealFarm, rng: random.Random) -> None:
    refused_a_pod(farm, rng, quota(), "exceeded quota")


def refused_a_pod(farm: RealFarm, rng: random.Random, manifest: Mapping[str, Any], words: str) -> None:
    """An analyzer ends while no pod is taken; it is told why, and the rest goes on."""
    made = from_dict(dict(manifest))
    where = {"namespace": NAMESPACE} if "namespace" in manifest["metadata"] else {}
    farm.cluster.client.create(made)
    try:
        wait_for(lambda: words in refusal_of_a_pod(farm))
        stream = analyzer_killed(farm, rng)
        until_told(farm, stream, words, "FailedCreate")
        others = set(STREAMS) - {stream}
        farm.until_asked(
            "SELECT DISTINCT pi_id FROM posture_log WHERE analyzed_time > to_timestamp(%s)", time.time(),
            wanted=lambda rows: {row[0] for row in rows} >= others,
        )  # fmt: skip
    finally:
        farm.cluster.client.delete(type(made), manifest["metadata"]["name"], **where)


def refusal_of_a_pod(farm: RealFarm) -> str:
    """What the API server has against a pod in the farm's namespace, by a dry run; empty: nothing."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "probe", "image": "probe"}]},
    }
    try:
        farm.cluster.client.create(from_dict(pod), dry_run=True)
    except ApiError as error:
        return str(error.status.message)
    return ""


def node_drained(farm: RealFarm, rng: random.Random) -> None:
    """As before work on a machine: its pods are evicted, its streams go elsewhere, and it comes back."""
    name = a_node_with_streams(farm, rng)
    kubectl = Kubectl(farm.cluster)
    try:
        kubectl.run("drain", name, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=100s")
        until_streams_have_left(farm, name)
        farm.until_each_runs_once()
        farm.look.until_shown()
    finally:
        kubectl.run("uncordon", name)


def node_clock_steps(farm: RealFarm, rng: random.Random) -> None:
    """A node boots with yesterday's clock, which is then set: right, two hours ahead, and right again.

    All nodes have this machine's clock, which stays. Kubelet and containerd ask the kernel, and can't be told
    another time: it is the analyzer that is.
    """
    stream, name, _ = an_analyzer(farm, rng)
    folder = farm.nodes[name].disk / CLOCK
    folder.mkdir(exist_ok=True)
    library = libfaketime()
    shutil.copy(library, folder)
    there = f"/{CLOCK}"
    variables = wrong_clock(f"{there}/offset", f"{there}/{library.name}")
    spec = pod_spec(farm, stream)
    (container,) = spec["containers"]
    added: dict[str, tuple[list[Any], list[Any]]] = {
        "containers/0/env": (container["env"], [{"name": key, "value": text} for key, text in variables.items()]),
        "containers/0/volumeMounts": (
            container["volumeMounts"], [{"name": CLOCK, "mountPath": there, "readOnly": True}],
        ),
        "volumes": (spec["volumes"], [{"name": CLOCK, "hostPath": {"path": f"/var/lib/{CLOCK}"}}]),
    }  # fmt: skip

    def step(offset_s: int) -> None:
        files.replace(folder / "offset", f"{offset_s:+d}s\n".encode())

    step(-86400)
    edit(farm, stream, *(("replace", f"{TEMPLATE}/{path}", had + more) for path, (had, more) in added.items()))
    try:
        end_jobs(farm, stream)
        for offset_s in (-86400, 0, 7200, 0):
            since = time.time()
            step(offset_s)
            farm.until_clocks_differ(stream, -offset_s, since, lag_s=LAG_S)
    finally:
        edit(farm, stream, *(("replace", f"{TEMPLATE}/{path}", had) for path, (had, _) in added.items()))
        end_jobs(farm, stream)


def node_added_and_removed_for_good(farm: RealFarm, _: random.Random) -> None:
    """A new machine gets a line in cluster.yaml, and a stream; then it is gone for good, disk and line, too."""
    farm.join(NEWCOMER)
    try:
        with overload(farm) as busy:
            # the new node has least to do
            farm.usage.foreign.update(dict.fromkeys(set(FACTORS) - {busy}, 5.0))
            wait_for(lambda: NEWCOMER in farm.until_each_runs_once().values(), MOVED_S, look_s=1.0)
            farm.until_rows(time.time())
        farm.lose_for_good(NEWCOMER)
        until_streams_have_left(farm, NEWCOMER)
    finally:
        farm.usage.foreign.update(dict.fromkeys(FACTORS, 0.0))
        farm.forget(NEWCOMER)
