"""gpu_balancer.py while the API server is away.

The first test needs pods, and the others don't: for a while after such a kill the control plane itself is slow.
"""

from __future__ import annotations

import signal
import time

from balancing import Farm

GRACE_S = 3.0


def test_an_api_server_that_was_away_for_longer_than_the_grace_moves_nothing(farm: Farm) -> None:
    one, two, three = farm.add_nodes(10, 10, 10)
    for stream, node in (("pi1", one), ("pi2", two), ("pi3", three)):
        farm.add_stream(stream, node)
    before = farm.job_uids("pi1", "pi2", "pi3")
    balancer = farm.balancer(node_grace_s=GRACE_S)
    balancer.wait_for("0 overloaded")
    farm.cluster.api_server.kill()
    balancer.wait_for("no connection")
    # longer than the grace: the claim itself is about time
    time.sleep(2 * GRACE_S)
    farm.cluster.api_server.start()
    balancer.wait_for("the API server answers again")
    loops = balancer.said().count("0 overloaded")
    balancer.wait_for("0 overloaded", count=loops + 5)
    assert balancer.stop() == 0
    assert farm.job_uids("pi1", "pi2", "pi3") == before
    assert "failover" not in balancer.said()
    assert "Traceback" not in balancer.said()


def test_a_balancer_ends_on_sigterm_also_while_the_api_server_is_away(farm: Farm) -> None:
    farm.add_nodes(10, 10, schedulable=False)
    balancer = farm.balancer()
    balancer.wait_for("0 overloaded")
    farm.cluster.api_server.kill()
    balancer.wait_for("no connection")
    balancer.process.send_signal(signal.SIGTERM)
    assert balancer.wait(30) == 0
    assert "Traceback" not in balancer.said()


def test_once_reports_an_unreachable_api_server(farm: Farm) -> None:
    farm.add_nodes(10, 10, schedulable=False)
    farm.cluster.api_server.kill()
    balancer = farm.balancer("--once")
    assert balancer.wait() == 1
    assert "no connection to 127.0.0.1" in balancer.said()
    assert "Traceback" not in balancer.said()
