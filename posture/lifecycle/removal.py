"""A stream that was taken out of the list is taken down, with all that it has left anywhere.

First its analyzer ends, so that the others have room. When these run, its retained topics, its users at the broker
and its Secret go; its ScaledJob goes last, because by it a run that was interrupted knows what is left to do.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from posture.errors import FailedError
from posture.kube import errors, kinds, labels, ownership
from posture.kube.annotations import CLEARED, PAUSED, same_object, set_operations
from posture.kube.client import KubeClient, Object
from posture.kube.objects import name_of
from posture.lifecycle import broker_access, clearing_pods
from posture.lifecycle.tear_down import TearDown
from posture.manifests.scaled_job import IDENTITY_SECRET
from posture.natural_order import some_of
from posture.runtime import ROOT, Stop
from posture.settings.streams import COMMON_SCRIPT, VARIABLE
from posture.settings.table import Settings
from posture.wire import identities
from posture.wire.topics import Topics

IDENTITIES = ROOT / "broker"
"""Where broker_identities.py keeps the users, unless told otherwise."""


@dataclass(frozen=True)
class Removal:
    """The end of some streams.

    Attributes:
        settings: of the farm.
        cluster: where.
        scaled_jobs: stream -> its ScaledJob.
        stop: ends the work.
    """

    settings: Settings
    cluster: KubeClient
    scaled_jobs: Mapping[str, Object]
    stop: Stop

    def halt_commands(self) -> list[list[str]]:
        """Return what does the same as :meth:`halt` by hand."""
        kubectl = ["kubectl", "-n", self.cluster.namespace]
        names = [name_of(item) for item in self.scaled_jobs.values()]
        selector = (
            f"{labels.FARM}={self.settings.kubernetes.farm},{labels.STREAM} in ({','.join(self.scaled_jobs)})"
        )
        pause = [*kubectl, "annotate", "scaledjob", *names, f"{PAUSED}=true"]
        return [pause, [*kubectl, "delete", "job,pod", "-l", selector]]

    def finish_commands(self) -> list[list[str]]:
        """Return what does the same as :meth:`finish` by hand, but for the users' files."""
        kubectl = ["kubectl", "-n", self.cluster.namespace, "delete"]
        clear = [
            ["env", f"{VARIABLE}={stream}", "python3", COMMON_SCRIPT, clearing_pods.FLAG]
            for stream in self.scaled_jobs
        ]
        secrets = [*kubectl, "secret", *map(self._secret_of, self.scaled_jobs)]
        return [*clear, secrets, [*kubectl, "scaledjob", *(name_of(item) for item in self.scaled_jobs.values())]]

    def halt(self) -> None:
        """End the analyzers, and let KEDA start none again.

        Raises:
            KubeError: the API server did not do it.
            FailedError: an analyzer does not end in time.
        """
        self._tear_down().some_streams(self.cluster, self.scaled_jobs.keys())

    def finish(self) -> None:
        """Take away what the streams have left.

        Raises:
            KubeError: the API server did not do it.
            FailedError: topics can't be cleared; such a stream is left halted, and the next run tries again.
            UserError: the users' files can't be changed.
        """
        failures = self._clear()
        cleared = [stream for stream in self.scaled_jobs if stream not in failures]
        if cleared:
            self._remove_users(cleared)
            for stream in cleared:
                self._remove_secret(stream)
            self._tear_down().remove_scaled_jobs(self.cluster, cleared)
            for stream in cleared:
                (ROOT / f"patched-job-{stream}.yaml").unlink(missing_ok=True)
        if failures:
            told = [
                f"  {stream}: {why}\n    kubectl -n {self.cluster.namespace} delete scaledjob "
                f"{name_of(self.scaled_jobs[stream])}   leaves them at the broker"
                for stream, why in failures.items()
            ]
            raise FailedError("retained topics are not cleared:\n" + "\n".join(told))

    def _clear(self) -> dict[str, str]:
        """Clear the retained topics, and remember of which streams: without its user none could a second time.

        Returns:
            Stream -> why its topics could not be cleared.
        """
        left = {
            stream: item
            for stream, item in self.scaled_jobs.items()
            if CLEARED not in (item["metadata"].get("annotations") or {})
        }
        timeout_s = self.settings.kubernetes.start_timeout_s
        failures = clearing_pods.clear(self.cluster, left, timeout_s, self.stop) if left else {}
        cleared = {stream: item for stream, item in left.items() if stream not in failures}
        for item in cleared.values():
            live = self.cluster.get(kinds.SCALED_JOB, name_of(item))
            edits = set_operations(live["metadata"].get("annotations"), {CLEARED: "true"})
            same = same_object(item["metadata"]["uid"])
            self.cluster.patch(kinds.SCALED_JOB, name_of(item), [same, *edits])
        if cleared:
            self._say(f"cleared the topics of {some_of(cleared)}")
        return failures

    def _remove_users(self, streams: list[str]) -> None:
        prefix, farm = self.settings.mqtt.prefix, self.settings.kubernetes.farm
        users = [one.user for stream in streams for one in identities.identities_of(Topics(stream, prefix))]
        changed = identities.withdraw(IDENTITIES, streams, prefix)
        for path in changed:
            self._say(f"{'changed' if path.is_file() else 'removed'} {path.relative_to(ROOT)}")
        try:
            in_cluster = broker_access.withdraw(self.cluster, farm, users)
        except errors.RefusedError as error:
            self._say(f"the broker in the cluster still has the users {', '.join(users)}: {error}")
            return
        if changed and not in_cluster:
            self._say(
                "give the broker its new passwords and acl, then restart it or send it SIGHUP (docs/broker.md)"
            )
        elif not in_cluster:
            self._say(
                f"no users of {some_of(streams)} in {IDENTITIES.name}/ here; if the broker has some: docs/broker.md"
            )

    def _remove_secret(self, stream: str) -> None:
        """Delete the Secret with the analyzer's user, if it is that: another may have its name."""
        name = self._secret_of(stream)
        try:
            secret = self.cluster.get(kinds.SECRET, name)
            held = base64.b64decode((secret.get("data") or {}).get(identities.USERNAME, "")).decode(
                errors="replace"
            )
            if held == Topics(stream, self.settings.mqtt.prefix).analyzer_user:
                self.cluster.delete(kinds.SECRET, name, uid=secret["metadata"]["uid"])
                self._say(f"deleted secret {name}")
        except errors.NotFoundError:
            return
        except errors.RefusedError as error:
            self._say(f"secret {name} is left: {error}; kubectl -n {self.cluster.namespace} delete secret {name}")

    def _secret_of(self, stream: str) -> str:
        return ownership.named_for(f"{IDENTITY_SECRET}{stream}", self.settings.kubernetes.farm)

    def _tear_down(self) -> TearDown:
        return TearDown(self.settings, self.stop, say=self._say)

    @staticmethod
    def _say(line: str) -> None:
        print(f"    {line.strip()}", flush=True)
