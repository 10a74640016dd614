"""cpu_monitor_and_offload.py as a process, and KEDA's side of the conversation."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import trustme
import yaml
from servers import Server, free_port

from posture.settings.table import GpuQuery

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import externalscaler_pb2 as wire  # noqa: E402
import externalscaler_pb2_grpc as wire_grpc  # noqa: E402

# the servers that tests start are forks that become other programs at once: gRPC need not prepare for them
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

ANSWER_S = 30.0
"""No answer takes so long, on however busy a machine."""

ENDS = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
"""How a stream ends with its server: the connection closes with its last stream. What a client still sends
then resets it, and the ends that this client has not read yet are lost."""


class ScalerProcess(Server):
    """The script on a free loopback port.

    Args:
        folder: for its settings and log.
        queries: GPU_QUERIES.
        prometheus: the URL to ask.
        flags: further flags.
        sections: further settings, by section.
    """

    def __init__(
        self,
        folder: Path,
        queries: Mapping[str, GpuQuery],
        prometheus: str,
        /,
        *flags: str,
        **sections: Mapping[str, Any],
    ) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "scaler.log"
        self.log.touch()
        self.port, self.metrics_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        settings = {
            "GPU_QUERIES": {
                node: {"instance": query.instance, "metric": query.metric} for node, query in queries.items()
            },
            **sections,
            "prometheus": {"url": prometheus, **sections.get("prometheus", {})},
            "scaler": {"refresh_s": 0.2, "metrics_port": self.metrics_port, **sections.get("scaler", {})},
        }
        self.config = folder / "cluster.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.command = [
            sys.executable, str(ROOT / "cpu_monitor_and_offload.py"),
            "--config", str(self.config), "--listen", self.address, *flags,
        ]  # fmt: skip

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page beside the metrics."""
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def figures(self) -> dict[str, float]:
        """Its metrics: name with labels -> value."""
        lines = [line for line in self.page("/metrics")[1].splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def ref(name: str = "posture-analyzer-scaledjob-pi1", **metadata: str) -> wire.ScaledObjectRef:
    """What KEDA sends of a ScaledJob."""
    metadata = {"scalerAddress": "posture-scaler.posture-farm.svc:50051"} | metadata
    return wire.ScaledObjectRef(name=name, namespace="posture-farm", scalerMetadata=metadata)


def poll(stub: wire_grpc.ExternalScalerStub, of: wire.ScaledObjectRef) -> tuple[bool, float]:
    """KEDA's calls of one poll, in its order: Active, and the metric's value."""
    (spec,) = stub.GetMetricSpec(of, timeout=ANSWER_S).metricSpecs
    request = wire.GetMetricsRequest(scaledObjectRef=of, metricName=spec.metricName)
    (metric,) = stub.GetMetrics(request, timeout=ANSWER_S).metricValues
    assert metric.metricName == spec.metricName
    active = stub.IsActive(of, timeout=ANSWER_S).result
    return active, metric.metricValueFloat or metric.metricValue


class Certificates:
    """An authority and what it signs, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))

    def issue(self, name: str, of: str = "127.0.0.1") -> tuple[Path, Path]:
        """Certificate and key for a host or an address."""
        signed = self.authority.issue_cert(of)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in signed.cert_chain_pems))
        key.write_bytes(signed.private_key_pem.bytes())
        return cert, key

    def channel(self, address: str, client: tuple[Path, Path] | None = None) -> grpc.Channel:
        """A TLS channel of its own connection, with that certificate of ours."""
        cert, key = (None, None) if client is None else (path.read_bytes() for path in client)
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), key, cert)
        return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])
