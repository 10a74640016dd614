"""An Event as it is sent. How kubectl shows it: tests/cluster."""

from __future__ import annotations

from scripted_api import Answer, PatientClient, ScriptedServer

from posture.kube import events
from posture.kube.objects import ScaledJob


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
