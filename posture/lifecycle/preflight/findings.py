"""What preflight looks for, and what it has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posture.kube import kinds, labels
from posture.kube.client import Object
from posture.kube.objects import Node
from posture.lifecycle import placement
from posture.lifecycle.page_and_exporter import Deployed
from posture.lifecycle.scaler_in_cluster import InCluster
from posture.settings import streams
from posture.settings.table import Settings
from posture.usage.readings import Reading, UsageUnknownError

SETUP = "python3 setup_farm.py"
"""What mends whatever that script makes, where the stack is the farm's."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        what: what is wrong, in a sentence.
        mend: the command, or the line of cluster.yaml, that mends it.
        warning: it can be lived with.
    """

    what: str
    mend: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{'warning' if self.warning else 'error'}: {self.what}\n    mend: {self.mend}"


@dataclass(frozen=True)
class Intent:
    """What is about to be done.

    Attributes:
        settings: with the flags applied.
        manifests: stream -> its ScaledJob.
        build: images are built and pushed, not just used.
        scaler_here: the scaler runs on this machine.
        in_cluster: or else the one that runs in the cluster.
        scaler_address: host:port that the ScaledJobs name.
        scaler_port: where the scaler listens here; None where it won't, or does already.
    """

    settings: Settings
    manifests: Mapping[str, Object]
    build: bool = True
    scaler_here: bool = True
    in_cluster: InCluster | None = None
    scaler_address: str = ""
    scaler_port: int | None = None


@dataclass
class Survey:
    """What was found in the cluster and in Prometheus.

    Attributes:
        reached: whether the cluster could be looked at.
        nodes: those with the label ``gpu-node``, and the master.
        scaled_jobs: stream -> the farm's ScaledJob that exists, in natural order.
        readings: node -> its usage, or why it is unknown.
        pods: each stream's.
        programs: the page and the exporters that are deployed; looked for with ``--in-cluster`` only.
    """

    reached: bool = False
    nodes: list[Node] = field(default_factory=list)
    scaled_jobs: dict[str, Object] = field(default_factory=dict)
    readings: dict[str, Reading | UsageUnknownError] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    programs: list[Deployed] = field(default_factory=list)

    @property
    def waiting_exporters(self) -> list[Deployed]:
        """Return the exporters if none of them has an image yet: then nobody can know a node's usage."""
        exporters = [one for one in self.programs if one.kind is kinds.DAEMON_SET]
        return exporters if all(one.has_no_image_yet for one in exporters) else []

    def removed(self, settings: Settings) -> dict[str, Object]:
        """Return stream -> ScaledJob of those that ``streams`` of cluster.yaml no longer has.

        Without a list none is: another operator may have files that are not here.
        """
        if not settings.streams:
            return {}
        listed = streams.names(settings)
        return {
            name: item
            for name, item in self.scaled_jobs.items()
            if name not in listed and labels.STREAM in item["metadata"]["labels"]
        }

    def images(self) -> dict[str, str]:
        """Return stream -> its analyzer's image, of the ScaledJobs that exist."""
        pods = {stream: pod_spec(item) for stream, item in self.scaled_jobs.items()}
        return {stream: str(pod["containers"][0]["image"]) for stream, pod in pods.items()}

    def fit(self, settings: Settings, *, with_master: bool = False) -> dict[str, Reading]:
        """Return the nodes where any stream may be placed: Ready, schedulable, tolerated, with a fresh metric.

        Args:
            settings: which nodes, and which of them is the master.
            with_master: count the master, as if it were not tainted.
        """
        found = self.qualifying(settings, with_master=with_master)
        return {name: reading for name, reading in found.items() if isinstance(reading, Reading)}

    def qualifying(
        self, settings: Settings, *, with_master: bool = False
    ) -> dict[str, Reading | UsageUnknownError]:
        """Return node -> its usage, or why no stream can be placed there; see :func:`placement.qualifying`."""
        return placement.qualifying(settings, self.readings, self.nodes, self.pods, with_master=with_master)


def pod_spec(manifest: Object) -> dict[str, Any]:
    """Return the pod's part of a ScaledJob."""
    return dict(manifest["spec"]["jobTargetRef"]["template"]["spec"])
