"""This machine before a farm goes up: Docker, the registry, the port and certificates of the scaler."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from posture.errors import UserError
from posture.lifecycle import container_images, registry
from posture.lifecycle.preflight.findings import Finding, Intent, pod_spec
from posture.natural_order import some_of
from posture.scaler.server import check_exposure
from posture.scaler.tls import credentials
from posture.settings import streams
from posture.settings.table import Settings
from posture.system import commands


def check_files(settings: Settings) -> Iterator[Finding]:
    """Every file that is of one stream is of one of the farm's."""
    left_out = streams.left_out(settings)
    if left_out:
        paths = [path.name for paths in left_out.values() for path in paths]
        yield Finding(
            f"{some_of(paths)}: of {some_of(left_out)}, which the farm does not have: not started",
            f"in cluster.yaml, under streams: - {next(iter(left_out))}   (or delete what is of no use)",
            warning=True,
        )


def check_docker(intent: Intent) -> Iterator[Finding]:
    """Docker, buildx, and the platforms that can be built here."""
    settings = intent.settings.images
    if not intent.build:
        return
    try:
        commands.run(["docker", "version", "--format", "{{.Server.Version}}"], settings.timeout_s)
    except commands.CommandError as error:
        mend = (
            "sudo apt-get install docker.io" if "can't be started" in str(error) else "sudo systemctl start docker"
        )
        yield Finding(f"docker's engine does not answer: {error}", mend)
        return
    try:
        commands.run(["docker", "buildx", "version"], settings.timeout_s)
        builder = container_images.inspect_builder(settings)
    except commands.CommandError as error:
        yield Finding(f"buildx does not work: {error}", "sudo apt-get install docker-buildx")
        return
    wanted = settings.platform_list()
    missing = [platform for platform in wanted if platform not in builder.platforms]
    if missing:
        yield Finding(
            f"builder {builder.name} can't build for {', '.join(missing)} (it can for "
            f"{', '.join(sorted(builder.platforms)) or 'nothing'})",
            "sudo apt-get install qemu-user-static binfmt-support   (or --platforms with what your nodes are)",
        )
    if len(wanted) > 1 and builder.driver == "docker":
        yield Finding(
            f"builder {builder.name} (driver docker) builds one platform at a time, not {settings.platforms}",
            "docker buildx create --name posture-farm --driver docker-container --use",
        )


def check_registry(intent: Intent) -> Iterator[Finding]:
    """The registry is there, and takes our pushes."""
    settings = intent.settings.images
    if not settings.registry:
        yield Finding("no registry is named", "python3 build_and_push.py --registry HOST[:PORT][/PATH]")
        return
    if not intent.build:
        return
    host = registry.registry_host(settings.registry)
    answer = registry.ask_registry(host, settings.timeout_s)
    if not answer.reachable:
        yield Finding(
            f"registry {host} can't be reached: {answer.trouble}",
            "python3 build_and_push.py --registry HOST[:PORT]",
        )
    elif answer.login and not registry.has_login(host, settings.timeout_s):
        yield Finding(
            f"registry {host or 'Docker Hub'} wants a login, and docker has none that it takes",
            f"docker login {host}".rstrip(),
        )
    if answer.told is not None:
        what, where = answer.told
        yield Finding(
            f"registry {host}: its {what}, which docker, its builder and every node must have been told",
            f"{where.format(host=host)}   (and on each node, K3s: /etc/rancher/k3s/registries.yaml; "
            f'for a builder of its own, in its buildkitd.toml: [registry."{host}"] http = true)',
            warning=True,
        )
    if (
        host
        and answer.login
        and not all(pod_spec(one).get("imagePullSecrets") for one in intent.manifests.values())
    ):
        yield Finding(
            f"registry {host} asks who one is, and the pods name no imagePullSecrets",
            "its credentials on each node, K3s: /etc/rancher/k3s/registries.yaml   "
            "(or imagePullSecrets in posture-job-*.yaml)",
            warning=True,
        )


def check_scaler(intent: Intent) -> Iterator[Finding]:
    """KEDA can reach the scaler's address, and its port here is free."""
    host, _, port = intent.scaler_address.rpartition(":")
    if not intent.scaler_here:
        return
    if not host or not port.isdecimal():
        yield Finding(
            f"the scaler's address {intent.scaler_address!r} is not host:port",
            "python3 build_and_push.py --scaler-address HOST:PORT",
        )
    elif not _is_ours(host):
        yield Finding(
            f"the scaler will run here, and its address {intent.scaler_address} is not this machine's",
            "python3 build_and_push.py --scaler-address with an address of this machine (or --in-cluster)",
            warning=True,  # there may be a router or a load balancer between
        )
    yield from _check_exposure(intent)
    if intent.scaler_port is not None and not _is_free(intent.scaler_port):
        yield Finding(
            f"port {intent.scaler_port} is taken, and the scaler listens there",
            f"sudo ss -ltnp 'sport = :{intent.scaler_port}'   (end that program, or set scaler.listen)",
        )


def _check_exposure(intent: Intent) -> Iterator[Finding]:
    """The scaler would start as it is set, and KEDA speaks to it as it listens."""
    settings = intent.settings.scaler
    try:
        check_exposure(settings, os.environ)
        credentials(settings)
    except UserError as error:
        yield Finding(str(error), "cluster.yaml: scaler.insecure: true   (or tls_cert, tls_key and client_ca)")
    for stream, manifest in intent.manifests.items():
        with_tls = manifest["spec"]["triggers"][0].get("metadata", {}).get("enableTLS") == "true"
        if with_tls != bool(settings.tls_cert):
            has, wants = ("TLS", "plaintext") if settings.tls_cert else ("plaintext", "TLS")
            yield Finding(
                f"stream {stream}'s trigger wants {wants}, and the scaler has {has}",
                "in posture-job-*.yaml: enableTLS and authenticationRef   (or scaler.tls_cert in cluster.yaml)",
            )


def _is_ours(host: str) -> bool:
    """Return whether a name or address is one of this machine's: only those can be bound."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
