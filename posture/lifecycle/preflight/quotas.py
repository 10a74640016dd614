"""Whether the namespace's quotas have room for the whole farm: each pod by itself they may well admit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from posture.kube import errors
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.kube.objects import ScaledJob
from posture.kube.resources import amount_of, limits_of, requests_of
from posture.lifecycle.preflight.findings import Finding, Intent, Survey, pod_spec

QUOTA = Kind("ResourceQuota", "v1", "resourcequotas")


def check_quotas(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    """Each quota has room for the pods of the streams that are to start.

    Args:
        intent: what is about to be done.
        cluster: where.
        survey: which streams run already.
    """
    running = {stream for stream, item in survey.scaled_jobs.items() if not ScaledJob.read(item).paused}
    new = {stream: one for stream, one in intent.manifests.items() if stream not in running}
    try:
        quotas = cluster.list(QUOTA) if new else []
    except (errors.NotFoundError, errors.RefusedError):
        return  # nothing is known of them then; each pod is tried all the same
    needed = needed_by(new)
    # of a ScaledJob that is paused the object is there
    needed["count/scaledjobs.keda.sh"] = float(len(new.keys() - survey.scaled_jobs.keys()))
    for quota in quotas:
        yield from too_small(quota, needed, len(new))


def needed_by(manifests: Mapping[str, Object]) -> dict[str, float]:
    """Return what streams take of a quota, by its names of resources. Pure."""
    pods = [pod_spec(one) for one in manifests.values()]
    needed = {name: float(len(pods)) for name in ("pods", "count/pods", "count/jobs.batch")}
    for pod in pods:
        _add(needed, requests_of(pod), "", "requests.")
        _add(needed, limits_of(pod), "limits.")
    return needed


def _add(needed: dict[str, float], amounts: Mapping[str, float], *prefixes: str) -> None:
    for prefix in prefixes:
        for name, amount in amounts.items():
            needed[f"{prefix}{name}"] = needed.get(f"{prefix}{name}", 0.0) + amount


def too_small(quota: Mapping[str, Any], needed: Mapping[str, float], streams: int) -> Iterator[Finding]:
    """Yield a finding for each resource of which a quota has too little. Pure.

    Args:
        quota: the object; one that counts only some pods is passed over.
        needed: what is to come.
        streams: how many that is for.
    """
    spec, status = quota.get("spec") or {}, quota.get("status") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        return
    name, namespace = quota["metadata"]["name"], quota["metadata"].get("namespace", "")
    for resource, hard in (spec.get("hard") or {}).items():
        used = str((status.get("used") or {}).get(resource, "0"))
        more = needed.get(resource, 0.0)
        if more and amount_of(used) + more > amount_of(str(hard)):
            yield Finding(
                f"quota {name} has too little {resource} for {streams} more streams: they take {more:g}, and "
                f"{used} of {hard} are used",
                f"kubectl -n {namespace} edit quota {name}",
            )
