from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.lifecycle.setup.environment_file import EnvironmentFile

TEXT = "# of ours\nPOSTURE_MQTT_URL='mqtts://broker:8883'\nexport A=\"b c\"\n\nPOSTURE_PASSWORD=\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / ".env").write_text(TEXT)
    return tmp_path / ".env"


def test_it_is_read_as_a_shell_reads_it(path: Path) -> None:
    assert EnvironmentFile(path).values == {"POSTURE_MQTT_URL": "mqtts://broker:8883", "A": "b c"}


def test_what_is_written_goes_into_its_line_and_everything_else_stays(path: Path) -> None:
    text = EnvironmentFile(path).with_values({"POSTURE_PASSWORD": "x_-9", "NEW": "y", "A": "b c"})
    assert text == TEXT.replace("POSTURE_PASSWORD=", "POSTURE_PASSWORD=x_-9") + "NEW=y\n"
    path.write_text(text)
    printed = subprocess.run(
        ["sh", "-c", '. "$1"; printf %s "$POSTURE_PASSWORD"', "sh", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert printed.stdout == "x_-9"
    assert EnvironmentFile(path).with_values({"POSTURE_PASSWORD": "x_-9", "NEW": "y"}) == text


def test_a_file_that_ends_without_a_newline_gets_a_line_of_its_own(path: Path) -> None:
    path.write_text("A=b")
    assert EnvironmentFile(path).with_values({"NEW": "y"}) == "A=b\nNEW=y\n"


def test_an_absent_file_has_nothing(tmp_path: Path) -> None:
    assert EnvironmentFile(tmp_path / ".env").values == {}


def test_who_else_may_read_it_is_known(path: Path) -> None:
    path.chmod(0o640)
    assert EnvironmentFile(path).others_may_read
    path.chmod(0o600)
    assert not EnvironmentFile(path).others_may_read


def test_a_line_that_is_none_is_named_by_its_number_and_not_repeated(path: Path) -> None:
    path.write_text("A=b\ns3cret\n")
    with pytest.raises(UserError, match=r"\.env:2: is no variable; accepted: NAME=value") as caught:
        EnvironmentFile(path)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not UTF-8", "a folder"])
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / ".env"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"\.env: can't be read: "):
        EnvironmentFile(path)
