"""Everything is looked at before anything is changed, then all findings are listed."""

from __future__ import annotations

from posture.kube.client import KubeClient
from posture.lifecycle.preflight import in_cluster, signals
from posture.lifecycle.preflight.cluster import check_cluster, check_metrics, check_places, check_requests
from posture.lifecycle.preflight.findings import Finding, Intent, Survey, pod_spec
from posture.lifecycle.preflight.machine import check_docker, check_files, check_registry, check_scaler
from posture.lifecycle.preflight.pods import check_admission, check_manifests
from posture.lifecycle.preflight.quotas import check_quotas


def check(intent: Intent, cluster: KubeClient, trial: KubeClient) -> tuple[list[Finding], Survey]:
    """Look at everything.

    Args:
        intent: what is about to be done.
        cluster: the cluster, of which things are only read.
        trial: the same, with changes that are checked and not made.

    Returns:
        The findings, and what the plan is made from.
    """
    survey = Survey(pods=[pod_spec(one) for one in intent.manifests.values()])
    findings = [*check_here(intent), *check_cluster(intent, cluster, survey)]
    if survey.reached:
        findings += check_manifests(intent, trial)
        findings += check_admission(intent, trial, survey)
        findings += check_quotas(intent, cluster, survey)
        findings += in_cluster.check(intent, cluster, trial, survey)
    findings += check_metrics(intent, survey)
    findings += signals.all_at_zero(survey.readings)
    findings += signals.as_they_run(intent, survey)
    findings += signals.like_ratios(intent.settings, survey)
    findings += check_places(intent, survey)
    findings += check_requests(intent, survey)
    return findings, survey


def check_here(intent: Intent) -> list[Finding]:
    """Look at everything that can be looked at without a cluster."""
    return [
        *check_files(intent.settings),
        *check_docker(intent),
        *check_registry(intent),
        *signals.in_advance(intent.settings, intent.manifests),
        *signals.called_ratios(intent.settings),
        *check_scaler(intent),
    ]
