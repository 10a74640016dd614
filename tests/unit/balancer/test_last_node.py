"""last_node.txt is remembered with its time."""

from __future__ import annotations

from pathlib import Path

from farm_objects import NOW_S

from posture.balancer import last_node


def test_the_last_destination_is_remembered_with_its_time(tmp_path: Path) -> None:
    file = tmp_path / "last_node.txt"
    assert last_node.read(file) is None
    last_node.write(file, "nano", NOW_S)
    assert file.read_text() == "nano 2023-11-14T22:13:20Z\n"
    assert last_node.read(file) == ("nano", NOW_S)
    assert [path.name for path in tmp_path.iterdir()] == ["last_node.txt"]
    file.write_text("what is this?\n")
    assert last_node.read(file) is None
    last_node.write(tmp_path / "no" / "folder", "nano", NOW_S)  # only warns
