"""An Event as it is sent. How kubectl shows it: tests/cluster."""

from __future__ import annotations

from scripted_api import Answer, PatientClient, ScriptedServer

from posture.kube import events
from posture.kube.objects import ScaledJob, seconds
from posture.kube.troubles import Complaint


def test_the_newest_warning_about_each_job_is_read_and_only_those_are_asked_for(
    server: ScriptedServer, farm: PatientClient
) -> None:
    def warning(job: str, reason: str, message: str, **when: object) -> dict[str, object]:
        metadata = {"name": f"{job}.1", "creationTimestamp": "2026-01-01T00:00:00Z"}
        return {"metadata": metadata, "involvedObject": {"uid": job}, "reason": reason, "message": message, **when}

    newest = 'Error creating: pods "j-1" is forbidden:\n exceeded quota: small'
    items = [
        warning("a", "FailedCreate", newest, lastTimestamp="2026-01-01T00:09:00Z"),
        warning("a", "FailedCreate", "older", lastTimestamp="2026-01-01T00:01:00Z"),
        warning("b", "FailedCreate", "by the newer API", eventTime="2026-01-01T00:01:00.000000Z"),
    ]
    server.answers = [Answer(200, {"items": items, "metadata": {}})]
    at_s = seconds("2026-01-01T00:00:00Z") or 0.0
    assert events.complaints_about_jobs(farm.client) == {
        "a": Complaint(
            "FailedCreate", 'Error creating: pods "j-1" is forbidden: exceeded quota: small', at_s + 540
        ),
        "b": Complaint("FailedCreate", "by the newer API", at_s + 60),
    }
    (request,) = server.requests
    assert request.query["fieldSelector"] == "involvedObject.kind=Job,type=Warning"


def test_an_event_names_the_scaledjob_by_uid_and_has_one_time(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [Answer(201, {})]
    body = {
        "metadata": {"name": "sj", "uid": "u", "generation": 1, "labels": {"posture-farm/stream": "pi1"}},
        "spec": {},
    }
    events.create(farm.client, ScaledJob.read(body), "Moved", "from agx to nano")
    (request,) = server.requests
    sent = request.body
    assert sent["involvedObject"]["uid"] == "u"
    assert (sent["reason"], sent["message"]) == ("Moved", "from agx to nano")
    assert sent["metadata"]["name"].startswith("sj.")
    assert sent["metadata"]["labels"]["posture-farm/stream"] == "pi1"
    assert sent["firstTimestamp"] == sent["lastTimestamp"]
