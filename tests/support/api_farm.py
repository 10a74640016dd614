"""A farm as an API server tells of it: nodes, ScaledJobs, pods and Events of a scripted server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from scripted_api import Answer, Request, ScriptedServer

from posture.kube import affinity

CREATED = "2026-03-02T08:00:00Z"


def node(name: str, *, ready: bool = True) -> dict[str, Any]:
    status = "True" if ready else "False"
    return {
        "metadata": {"name": name, "labels": {"gpu-node": name}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": status}]},
    }


def scaled_job(stream: str, on: str | None, moves: list[dict[str, str]] | None = None) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"posture-{stream}", "uid": f"uid-{stream}", "generation": 1,
            "labels": {"posture-farm/stream": stream, "posture-farm/farm": "default"},
            "annotations": {"posture-farm/moves": json.dumps(moves or [])},
        },
        "spec": {"jobTargetRef": {"template": {"spec": {"affinity": affinity.with_node(None, on)} if on else {}}}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


def pod(stream: str, on: str, *, ready: bool = True, waiting: str = "") -> dict[str, Any]:
    state = {"state": {"waiting": {"reason": waiting, "message": f"{waiting} of {stream}"}}}
    return {
        "metadata": {
            "name": f"pod-{stream}", "uid": f"pod-uid-{stream}", "creationTimestamp": CREATED,
            "labels": {"scaledjob.keda.sh/name": f"posture-{stream}", "posture-farm/stream": stream},
        },
        "spec": {"nodeName": on},
        "status": {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": CREATED}],
            "containerStatuses": [state] if waiting else [],
        },
    }  # fmt: skip


def event(stream: str, reason: str, message: str, *, warning: bool = False) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{stream}.1", "labels": {"posture-farm/stream": stream}},
        "involvedObject": {"name": f"posture-{stream}"},
        "reason": reason, "message": message, "type": "Warning" if warning else "Normal", "lastTimestamp": CREATED,
    }  # fmt: skip


def answering(lists: Mapping[str, list[dict[str, Any]]]) -> ScriptedServer:
    """Return a server that lists these objects by the plural of their kind, and takes nothing else."""
    server = ScriptedServer()

    def answer(request: Request) -> Answer:
        if request.method != "GET":
            return Answer(403, {"message": 'User "dashboard" cannot do that: is forbidden'})
        return Answer(200, {"items": lists.get(request.path.rpartition("/")[2], []), "metadata": {}})

    server.answer = answer
    return server
