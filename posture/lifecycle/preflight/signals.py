"""Whether the nodes' usage follows what the streams use: what is balanced by a GPU should run on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from posture.errors import UserError
from posture.kube.client import Object
from posture.kube.objects import ScaledJob
from posture.lifecycle.preflight.findings import Finding, Intent, Survey, pod_spec
from posture.natural_order import some_of
from posture.runtime import Stop
from posture.settings.table import Settings
from posture.usage import agreement, ratios
from posture.usage.readings import Reading, SignalReading, UsageUnknownError
from posture.wire import statuses

BOTH = "in cluster.yaml, signal: [gpu, cpu] for each of these nodes; or give analyzers the GPU (docs/boards.md)"


def all_at_zero(readings: Mapping[str, Reading | UsageUnknownError]) -> Iterator[Finding]:
    """Tell of usage that says nothing: every node is at exactly 0.

    Args:
        readings: node -> its usage, or why it is unknown.
    """
    known = [reading.value for reading in readings.values() if isinstance(reading, Reading)]
    if len(known) > 1 and not any(known):
        yield Finding(
            f"all {len(known)} nodes show a usage of exactly 0, so that lot decides which of them get one stream "
            "more; where something runs on them, what is measured is not what it uses",
            "in cluster.yaml, signal: [gpu, cpu] for each node, which counts the scarcer one",
            warning=True,
        )


def in_advance(settings: Settings, manifests: Mapping[str, Object]) -> Iterator[Finding]:
    """Tell of streams that will run on the CPU, though they ask for the GPU or their node is balanced by it alone.

    Args:
        settings: which nodes are measured how.
        manifests: stream -> its ScaledJob.
    """
    nodes = agreement.gpu_only(settings.gpu_queries)
    delegates = {stream: settings.for_stream(stream).delegate for stream in manifests}
    without = [stream for stream, manifest in manifests.items() if not _gets_gpu(pod_spec(manifest))]
    in_vain = [stream for stream in without if delegates[stream] == "gpu"]
    if in_vain:
        one = len(in_vain) == 1
        yield Finding(
            f"{some_of(in_vain)} {'asks' if one else 'ask'} for the GPU (analyzer.delegate), and "
            f"{'its pod gets' if one else 'their pods get'} none",
            "in cluster.yaml, kubernetes.gpu: nvidia, which writes what a pod needs (docs/boards.md)",
            warning=True,
        )
    streams = [stream for stream, delegate in delegates.items() if delegate == "cpu" or stream in without]
    if nodes and streams:
        yield Finding(
            f"{some_of(streams)} will run on the CPU, and {some_of(nodes)} {'is' if len(nodes) == 1 else 'are'} "
            "balanced by the GPU: moving a stream changes nothing that is measured",
            BOTH,
            warning=True,
        )


def as_they_run(intent: Intent, survey: Survey) -> Iterator[Finding]:
    """Tell of nodes whose usage does not follow the streams that run there, by what their analyzers say.

    A broker that can't be asked from here leaves that unknown; the balancer asks, too.
    """
    live = [ScaledJob.read(item) for item in survey.scaled_jobs.values()]
    places = {one.stream: one.node for one in live if one.node}
    if not places:
        return
    mqtt = intent.settings.mqtt
    try:
        said = statuses.read_all(mqtt, mqtt.protocol, Stop())
    except (OSError, UserError):
        return
    delegates = {stream: one.delegate for stream, one in said.items() if one.online}
    for one in agreement.disagreements(intent.settings.gpu_queries, places, delegates):
        yield Finding(str(one), agreement.remedy(one.node, one.measured), warning=True)
    for stream, node in places.items():
        status = said.get(stream)
        if status is not None and status.online and status.gpu_missing:
            yield Finding(agreement.gpu_missing(stream, node), "docs/boards.md", warning=True)


def like_ratios(settings: Settings, survey: Survey) -> Iterator[Finding]:
    """Tell of signals that look like ratios by what they show where streams run.

    Args:
        settings: which nodes are measured how.
        survey: the streams that run, and the usage of the last :data:`ratios.WHILE_S` seconds.
    """
    live = [ScaledJob.read(item) for item in survey.scaled_jobs.values()]
    busy = {one.node for one in live if one.node and one.active}
    values = {
        node: {
            name: [value for _, value in one.scrapes] for name, one in reading.of_signal.items() if _goes_back(one)
        }
        for node, reading in survey.readings.items()
        if isinstance(reading, Reading)
    }
    found = ratios.RatioWatch().see(settings.gpu_queries, values, busy, 0.0, ratios.WHILE_S)
    yield from map(_suspicion, found)


def called_ratios(settings: Settings) -> Iterator[Finding]:
    """Tell of metrics whose name says that they are ratios, and nothing else does."""
    yield from map(_suspicion, ratios.by_name(settings.gpu_queries))


def _suspicion(one: ratios.Suspicion) -> Finding:
    return Finding(f"{some_of(one.nodes)}: {one.what}", f"in cluster.yaml, {one.remedy}", warning=True)


def _goes_back(reading: SignalReading) -> bool:
    """Say whether the samples tell of more than a moment."""
    return reading.at - reading.scrapes[0][0] >= ratios.WHILE_S / 2


def _gets_gpu(pod: Object) -> bool:
    limits = [(container.get("resources") or {}).get("limits") or {} for container in pod.get("containers", [])]
    return bool(pod.get("runtimeClassName")) or any("gpu" in name for limit in limits for name in limit)
