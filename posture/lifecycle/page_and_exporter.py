"""The page and the exporter, which an administrator has deployed: their images are set wherever they are.

The scaler is another matter (:mod:`posture.lifecycle.scaler_in_cluster`): a farm can't do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from posture.kube import kinds, labels
from posture.kube.access import Right
from posture.kube.annotations import same_object
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.kube.objects import name_of
from posture.lifecycle import container_images
from posture.lifecycle.container_images import Image
from posture.settings.table import Images

PROGRAM = "app.kubernetes.io/name"
DASHBOARD, EXPORTER = "posture-dashboard", "posture-exporter"
RIGHTS: Sequence[Right] = ((kinds.DEPLOYMENT, "list"), (kinds.DAEMON_SET, "list"), (kinds.DAEMON_SET, "patch"))
"""Patching a Deployment is among the scaler's."""


@dataclass(frozen=True)
class Deployed:
    """A Deployment or DaemonSet of the farm, as it is in the cluster.

    Attributes:
        kind: which of the two.
        item: the object.
        image: what it is to run.
    """

    kind: Kind
    item: Object
    image: Image

    def __str__(self) -> str:
        return f"{self.kind.name.lower()} {name_of(self.item)}"

    @property
    def containers(self) -> list[Object]:
        """Its containers."""
        return list(self.item["spec"]["template"]["spec"]["containers"])

    @property
    def has_no_image_yet(self) -> bool:
        """Whether it is as it was applied: its image's name says no registry, and no pod of it runs."""
        unnamed = all("/" not in one["image"] for one in self.containers)
        return unnamed and not int((self.item.get("status") or {}).get("numberReady") or 0)

    def needs(self, reference: str) -> bool:
        """Return whether it does not run this image, or does not run at all."""
        same = all(container_images.same_image(one["image"], reference) for one in self.containers)
        return not same or self._stopped

    def command(self, namespace: str, reference: str) -> list[str]:
        """Return what sets its image by hand."""
        images = [f"{one['name']}={reference}" for one in self.containers]
        return [
            "kubectl",
            "-n",
            namespace,
            "set",
            "image",
            f"{self.kind.name.lower()}/{name_of(self.item)}",
            *images,
        ]

    def set_image(self, cluster: KubeClient, reference: str) -> None:
        """Let it run this image; one that stop.py has scaled to 0 starts again.

        Raises:
            ConflictError: it is another object by now, or has other containers.
            KubeError: the API server did not do it.
        """
        edits: list[Object] = [same_object(self.item["metadata"]["uid"])]
        for index, container in enumerate(self.containers):
            where = f"/spec/template/spec/containers/{index}"
            edits += [
                {"op": "test", "path": f"{where}/name", "value": container["name"]},
                {"op": "replace", "path": f"{where}/image", "value": reference},
            ]
        if self._stopped:
            edits.append({"op": "replace", "path": "/spec/replicas", "value": 1})
        cluster.patch(self.kind, name_of(self.item), edits)

    @property
    def _stopped(self) -> bool:
        return bool(self.item["spec"].get("replicas", 1) == 0)


def find(cluster: KubeClient, farm: str, images: Images) -> list[Deployed]:
    """Return the farm's page and the exporters, as far as they are deployed.

    Exporters are of no farm: they measure nodes, for each farm of the namespace.

    Raises:
        KubeError: the API server does not answer, or we may not look.
    """
    pages = cluster.list(kinds.DEPLOYMENT, {**labels.of_farm(farm), PROGRAM: DASHBOARD})
    exporters = cluster.list(kinds.DAEMON_SET, {labels.PART_OF: labels.OURS, PROGRAM: EXPORTER})
    return list(
        chain(
            (Deployed(kinds.DEPLOYMENT, item, container_images.dashboard_image(images)) for item in pages),
            (Deployed(kinds.DAEMON_SET, item, container_images.scheduler_image(images)) for item in exporters),
        )
    )
