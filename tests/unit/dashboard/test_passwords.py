"""The file of users: what it takes, what it refuses, and that a change counts at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from posture.dashboard import passwords
from posture.errors import UserError

PASSWORD = "correct horse"  # noqa: S105
LINE = passwords.hashed(PASSWORD, b"salt" * 4)


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "users"
    passwords.add(path, "ada", "operator", PASSWORD)
    return path


def test_a_user_is_known_by_the_password_and_by_nothing_else(users_file: Path) -> None:
    user = passwords.Users(users_file).find("ada")
    assert user is not None
    assert user.role == "operator"
    assert passwords.matches(user, PASSWORD)
    assert not passwords.matches(user, PASSWORD + "!")
    assert not passwords.matches(passwords.NOBODY, "")


def test_the_file_is_its_owners_alone_and_holds_no_password(users_file: Path) -> None:
    assert users_file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in users_file.read_text()


def test_adding_a_user_keeps_the_others_and_the_sessions_key(users_file: Path) -> None:
    before = passwords.read(users_file)
    passwords.add(users_file, "grace", "viewer", "another password")
    after = passwords.read(users_file)
    assert after.key == before.key
    assert set(after.users) == {"ada", "grace"}
    assert after.users["ada"] == before.users["ada"]


def test_a_user_who_is_removed_is_not_found_any_more_and_a_broken_file_lets_nobody_in(users_file: Path) -> None:
    users = passwords.Users(users_file)
    key = passwords.read(users_file).key
    users_file.write_text(f"key:{key}\ngrace:viewer:{LINE}\n")
    assert users.find("ada") is None
    assert users.find("grace") is not None
    users_file.write_text("nonsense\n")
    assert users.find("grace") is None
    users_file.unlink()
    assert users.find("grace") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "accepted: one line key:", id="empty"),
        pytest.param("key:short\n", "accepted: one line key:", id="short key"),
        pytest.param(f"ada:operator:{LINE}\n", "accepted: one line key:", id="no key"),
        pytest.param(
            f"{'key:' + 'x' * 40}\nada:root:{LINE}\n", "line 2: accepted: name:viewer or operator", id="role"
        ),
        pytest.param(f"{'key:' + 'x' * 40}\n<b>:viewer:{LINE}\n", "line 2: accepted: name:", id="name"),
        pytest.param(f"{'key:' + 'x' * 40}\nada:viewer:secret\n", "is no hash", id="a password as it is"),
        pytest.param(
            f"{'key:' + 'x' * 40}\nada:viewer:{LINE.replace('32768', '1073741824')}\n", "is no hash", id="too dear"
        ),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UserError) as refused:
        passwords.Users(path)
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_everybody_reads_is_refused(users_file: Path) -> None:
    users_file.chmod(0o644)
    with pytest.raises(UserError, match="chmod o="):
        passwords.Users(users_file)


@pytest.mark.parametrize(
    ("name", "role", "password", "says"),
    [
        ("a:b", "viewer", PASSWORD, "--add-user"),
        ("ada", "admin", PASSWORD, "accepted: viewer or operator"),
        ("ada", "viewer", "short", "5 characters; accepted: 10 to 256"),
        ("ada", "viewer", "x" * 300, "300 characters"),
    ],
)
def test_what_is_refused_changes_nothing(users_file: Path, name: str, role: str, password: str, says: str) -> None:
    before = users_file.read_bytes()
    with pytest.raises(UserError, match=says):
        passwords.add(users_file, name, role, password)
    assert users_file.read_bytes() == before
