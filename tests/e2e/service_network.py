"""Services and their names, as K3s brings them: one kube-proxy and one CoreDNS for all nodes of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from control_plane import Cluster, Component
from real_nodes import SERVERS_ADDRESS, iptables
from servers import free_port

HERE = Path(__file__).resolve().parent
CORE_FILE = """.:53 {{
    bind {address}
    health 127.0.0.1:{port}
    errors
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
    }}
}}
"""
RESOLVER = f"""nameserver {SERVERS_ADDRESS}
search svc.cluster.local cluster.local
options ndots:5
"""


class CoreDns(Component):
    """Answers for cluster.local at the address of the farm's servers."""

    def __init__(self, programs: Path, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder, "coredns")
        config = folder / "Corefile"
        config.write_text(CORE_FILE.format(address=SERVERS_ADDRESS, port=self.port, kubeconfig=cluster.kubeconfig))
        self.command = [str(programs / "coredns"), "-conf", str(config)]


class KubeProxy(Component):
    """Leads what goes to a Service's address, or to a node port, to one of its pods."""

    def __init__(self, programs: Path, folder: Path, cluster: Cluster, node: str) -> None:
        super().__init__(folder, "kube-proxy")
        self.command = [
            str(programs / "kube-proxy"), f"--kubeconfig={cluster.kubeconfig}", f"--hostname-override={node}",
            "--proxy-mode=iptables", "--masquerade-all", "--iptables-localhost-nodeports=false",
            "--iptables-min-sync-period=200ms",
            f"--healthz-bind-address=127.0.0.1:{self.port}", f"--metrics-bind-address=127.0.0.1:{free_port()}",
            # the machine's, not ours to change
            "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0", "--v=1",
        ]  # fmt: skip


def remove_rules(programs: Path) -> None:
    """Take away what kube-proxy has told the kernel; it leaves that when it ends."""
    subprocess.run([str(programs / "kube-proxy"), "--cleanup"], capture_output=True, timeout=300, check=False)
    for parent in ("INPUT", "OUTPUT"):
        iptables("--delete", parent, "--jump", "KUBE-FIREWALL", may_fail=True)
    for order in ("--flush", "--delete-chain"):
        iptables(order, "KUBE-FIREWALL", may_fail=True)


def knowing_names(command: Sequence[str], folder: Path) -> list[str]:
    """Return a command whose program asks our CoreDNS, as a pod does."""
    resolver = folder / "resolv.conf"
    resolver.write_text(RESOLVER)
    return ["unshare", "--mount", sys.executable, str(HERE / "with_resolver.py"), str(resolver), *command]
