"""What setup_farm.py has made is taken away again: marked objects, labels and lines, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from posture.errors import UserError
from posture.kube import kinds
from posture.kube.affinity import NODE_LABEL
from posture.kube.client import KubeClient
from posture.kube.objects import ScaledJob, name_of
from posture.lifecycle.preflight.findings import Finding
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP
from posture.lifecycle.setup import addresses, plan, settings_lines
from posture.lifecycle.setup.kept import COPY
from posture.lifecycle.setup.survey import TRIGGER_AUTHENTICATION, Survey, is_made_by_setup
from posture.lifecycle.steps import Step
from posture.natural_order import natural, some_of
from posture.settings.table import Settings

STAYS = (
    ".env and broker/ with the passwords and the authority: the database's volume can't be opened without them",
    "the stack and its volumes   (kubectl delete -k deploy/stack)",
    "the cameras: they send again as soon as the broker has its users back",
)
"""What no undo takes away, for people."""


def check(survey: Survey) -> Iterator[Finding]:
    """Nothing of the farm runs that would lose what it needs."""
    running = [one.stream for one in map(ScaledJob.read, survey.scaled_jobs) if not one.paused]
    if running:
        yield Finding(
            f"the farm runs ({some_of(sorted(running, key=natural))}), and would lose its Secrets",
            "python3 stop.py",
        )


def steps(cluster: KubeClient, settings: Settings, config: Path, survey: Survey) -> tuple[list[Step], list[str]]:
    """Return what there is to do, and what of cluster.yaml stays because somebody has changed it.

    Args:
        cluster: where.
        settings: the farm's.
        config: its cluster.yaml.
        survey: what is there.

    Raises:
        UserError: cluster.yaml can't be read.
    """
    lines, theirs = _settings(settings, config, survey)
    taken = [_labels, _authentication, _objects]
    return [*lines, *(step for take in taken for step in take(cluster, settings, survey))], theirs


def _settings(settings: Settings, config: Path, survey: Survey) -> tuple[list[Step], list[str]]:
    if not config.exists():
        return [], []
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    services = [*addresses.prometheus_services(survey), addresses.STACK_PROMETHEUS]
    ours = {
        "images.registry": addresses.REGISTRY_ADDRESS,
        "analyzer.pictures_url": plan.pictures_url(settings.kubernetes.namespace),
        "prometheus.url": f"kubernetes://{'/'.join(services[0])}:{addresses.PROMETHEUS_PORT}",
    }
    without, theirs = settings_lines.removed(text, {one.name: one.query for one in survey.machines}, ours)
    if without == text:
        return [], theirs
    what = f"take out of {config.name} the lines that setup_farm.py has written"
    return [Step(what, [], partial(plan.write_settings, config, without))], theirs


def _labels(cluster: KubeClient, settings: Settings, survey: Survey) -> Iterator[Step]:
    farm = settings.kubernetes.farm
    for one in survey.machines:
        if plan.is_labelled_by_us({"annotations": one.annotations}, farm):
            host = one.node.host
            yield Step(
                f"take the label off node {host}",
                [["kubectl", "label", "node", host, f"{NODE_LABEL}-"]],
                partial(plan.unlabel, cluster, host, farm),
                f"kubectl label node {host} {NODE_LABEL}={one.name}",
            )


def _authentication(cluster: KubeClient, settings: Settings, survey: Survey) -> Iterator[Step]:
    for name, item in (survey.authentications or {}).items():
        if is_made_by_setup(item, settings.kubernetes.farm):
            delete = partial(
                cluster.delete, TRIGGER_AUTHENTICATION, name, uid=item["metadata"]["uid"], propagation="Background"
            )
            where = ["kubectl", "-n", settings.kubernetes.namespace]
            yield Step(
                f"delete triggerauthentication {name}", [[*where, "delete", "triggerauthentication", name]], delete
            )


def _objects(cluster: KubeClient, settings: Settings, survey: Survey) -> Iterator[Step]:
    """Yield a step for each object; the copy of what is kept here goes last."""
    made = [
        (place, item) for place, item in survey.held.items() if is_made_by_setup(item, settings.kubernetes.farm)
    ]
    for (kind_name, namespace, name), item in sorted(made, key=lambda one: (one[0][2] == COPY, natural(one[0][2]))):
        kind = kinds.SECRET if kind_name == kinds.SECRET.name else CONFIG_MAP
        delete = partial(
            cluster.delete,
            kind,
            name_of(item),
            uid=item["metadata"]["uid"],
            propagation="Background",
            namespace=namespace,
        )
        yield Step(
            f"delete {kind_name.lower()} {name} in {namespace}",
            [["kubectl", "-n", namespace, "delete", kind_name.lower(), name]],
            delete,
            "python3 setup_farm.py",
        )
