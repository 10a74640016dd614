"""Topic names are deployed: brokers' access lists and subscribers outside this repository name them."""

from __future__ import annotations

import pytest

from posture.wire.topics import Topics


@pytest.mark.parametrize("prefix", ["", "farm/a"], ids=["no-prefix", "prefix"])
def test_topics_keep_their_deployed_names_after_the_farms_prefix(prefix: str) -> None:
    topics = Topics("pi1", prefix)
    names = [
        topics.images, topics.committed, topics.status, topics.camera, topics.account, topics.state, topics.alert,
        topics.picture, topics.answer, topics.command, topics.calibration,
        topics.suspects,
    ]  # fmt: skip
    in_front = f"{prefix}/" if prefix else ""
    assert names == [
        f"{in_front}{name}"
        for name in (
            "images/pi1", "committed/pi1", "status/pi1", "camera/pi1", "account/pi1",
            "posture/pi1/state", "posture/pi1/alert", "posture/pi1/picture", "posture/pi1/answer", "command/pi1",
            "calibration/pi1", "suspects/pi1",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(("prefix", "begins"), [("", ""), ("farm/a", "farm-a-")], ids=["no-prefix", "prefix"])
def test_the_farms_prefix_keeps_client_ids_apart(prefix: str, begins: str) -> None:
    assert Topics("pi1", prefix).client_id_prefix == begins
