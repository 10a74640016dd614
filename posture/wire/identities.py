"""Who may do what at the broker: a user for each camera and each analyzer, with its own topics and nothing else.

The folder of identities is the state: ``<role>-<pi_id>/`` holds one user's name and password, and what Mosquitto
reads is made from these folders each time. Passwords are hashed here and not by mosquitto_passwd, which neither our
image nor a machine without Mosquitto has; it takes a password from its command line, where every process sees it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from posture.errors import UserError
from posture.natural_order import natural
from posture.settings.parsers import PI_ID
from posture.system import files
from posture.wire.topics import Topics

USERNAME, PASSWORD = "POSTURE_MQTT_USERNAME", "POSTURE_MQTT_PASSWORD"
"""The files of one identity. They are named as the variables, so that a Secret is made from the folder as it is."""
PASSWORD_BYTES = 32
ITERATIONS = 1_000
"""Of PBKDF2. A generated password can't be guessed, and a broker of one thread computes this at each connection."""
SALT_BYTES = 12
"""Mosquitto takes no other length."""
OWNER_ONLY, OWNER_ONLY_FOLDER = 0o600, 0o700
STREAM_ROLES = ("analyzer", "camera")


@dataclass(frozen=True)
class Identity:
    """One user of the broker.

    Attributes:
        folder: where its name and password lie, below the folder of identities.
        user: its name at the broker.
        read: topics that it may subscribe to.
        write: topics that it may publish to.
    """

    folder: str
    user: str
    read: tuple[str, ...]
    write: tuple[str, ...] = ()


def identities_of(stream: Topics) -> list[Identity]:
    """Return the users of one stream."""
    state = (stream.status, stream.camera, stream.account, stream.state)
    return [
        Identity(
            f"analyzer-{stream.pi_id}",
            stream.analyzer_user,
            # its own state and calibration: what an analyzer before it has left there
            (stream.images, stream.command, stream.calibration, stream.state),
            (
                *(stream.committed, *state, stream.alert),
                *(stream.picture, stream.answer, stream.calibration),
                stream.suspects,  # to clear it, with the others, when the stream is gone
            ),
        ),
        # the same password: it is the analyzer, asking whether another one has taken over its session
        Identity(f"analyzer-{stream.pi_id}", stream.takeover_user, (stream.status,)),
        # and noting which frame it opens, while its session is busy with frames
        Identity(f"analyzer-{stream.pi_id}", stream.suspects_user, (stream.suspects,), (stream.suspects,)),
        Identity(f"camera-{stream.pi_id}", stream.camera_user, (stream.committed, stream.status), (stream.images,)),
    ]


def viewer(prefix: str) -> Identity:
    """Return the user who reads what a farm says of itself, and none of its pictures."""
    every = Topics("+", prefix)
    topics = (every.committed, every.status, every.camera, every.account, every.state, every.alert)
    return Identity("viewer", every.viewer_user, topics)


def balancer(prefix: str) -> Identity:
    """Return the user who reads which analyzers of a farm run, and on what."""
    every = Topics("+", prefix)
    return Identity("balancer", every.balancer_user, (every.status,))


HOME_ASSISTANT = ("homeassistant/status", "homeassistant/device/+/config")
"""Where Home Assistant says that it has started, and where devices are announced to it."""


def dashboard(prefix: str, *, home_assistant: bool = False) -> Identity:
    """Return the user who shows what a farm says, with the small pictures, and gives commands to its analyzers.

    Args:
        prefix: the farm's topic prefix.
        home_assistant: the user announces streams there, too.
    """
    every = Topics("+", prefix)
    topics = (
        *(every.status, every.camera, every.account, every.state, every.alert),
        *(every.picture, every.answer, every.calibration),
    )
    read, write = (HOME_ASSISTANT, HOME_ASSISTANT[1:]) if home_assistant else ((), ())
    return Identity("dashboard", every.dashboard_user, (*topics, *read), (every.command, *write))


def provision(
    folder: Path, streams: Iterable[str], prefix: str = "", *, home_assistant: bool = False
) -> list[Identity]:
    """Make what is missing, and write what Mosquitto reads; a second time nothing changes.

    Args:
        folder: of the identities. Streams that it has already are kept.
        streams: the streams that it must have.
        prefix: the farm's topic prefix.
        home_assistant: the dashboard's user announces streams there.

    Returns:
        All users.

    Raises:
        UserError: a file can't be read or written, a password can't be used, or there is no stream.
    """
    users, content = compose(folder, streams, prefix, home_assistant=home_assistant)
    write(folder, content)
    return users


def compose(
    folder: Path,
    streams: Iterable[str],
    prefix: str = "",
    *,
    home_assistant: bool = False,
    known: Mapping[str, str] | None = None,
) -> tuple[list[Identity], dict[Path, str]]:
    """Return all users, and each file with what is to be in it, as :func:`provision` writes them.

    Args:
        folder: as there.
        streams: as there.
        prefix: as there.
        home_assistant: as there.
        known: folder of a user -> its password, where there is no file with it.

    Raises:
        UserError: a file can't be read, a password can't be used, or there is no stream.
    """
    try:
        names = sorted({*streams, *streams_in(folder)}, key=natural)
        if not names:
            raise UserError(f"{folder}: holds no stream yet; accepted: the name of at least one, such as pi1")
        users = [one for name in names for one in identities_of(Topics(name, prefix))]
        users += [viewer(prefix), balancer(prefix), dashboard(prefix, home_assistant=home_assistant)]
        passwords = {
            one.folder: _password(folder / one.folder / PASSWORD, (known or {}).get(one.folder, ""))
            for one in users
        }
        content: dict[Path, str] = {}
        for one in users:
            content.setdefault(folder / one.folder / USERNAME, one.user)
            content[folder / one.folder / PASSWORD] = passwords[one.folder]
        broker = folder / "mosquitto"
        content[broker / "passwords"] = _password_file(users, passwords, _lines(broker / "passwords"))
        content[broker / "acl"] = acl(users)
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(folder, error) from None
    return users, content


def _refusal(folder: Path, error: OSError | UnicodeDecodeError) -> UserError:
    where = getattr(error, "filename", None) or folder
    return UserError(f"{where}: {getattr(error, 'strerror', None) or error}")


def withdraw(folder: Path, streams: Iterable[str], prefix: str = "") -> list[Path]:
    """Take the users of streams that are gone away, with their passwords; a second time nothing changes.

    Args:
        folder: of the identities; there may be none.
        streams: the streams that are gone.
        prefix: the farm's topic prefix.

    Returns:
        The files that were changed and the folders that were removed.

    Raises:
        UserError: a file can't be read, written or removed.
    """
    gone = [one for name in streams for one in identities_of(Topics(name, prefix))]
    broker = folder / "mosquitto"
    try:
        content = {
            path: path.read_text(encoding="utf-8")
            for path in (broker / "passwords", broker / "acl")
            if path.exists()
        }
        names = [one.user for one in gone]
        wanted = {path: without_users(text, names) for path, text in content.items()}
        changed = {path: text for path, text in wanted.items() if text != content[path]}
        files.replace_all({path: text.encode() for path, text in changed.items()}, mode=OWNER_ONLY)
        folders = sorted({folder / one.folder for one in gone if (folder / one.folder).is_dir()})
        for one in folders:
            shutil.rmtree(one)
    except (OSError, UnicodeDecodeError) as error:
        where = getattr(error, "filename", None) or folder
        raise UserError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    return [*changed, *folders]


def without_users(text: str, users: Collection[str]) -> str:
    """Return Mosquitto's password_file or acl_file without these users: their lines, or what their lines begin.

    Args:
        text: of the one file or the other.
        users: their names.
    """
    kept: list[str] = []
    ours = False
    for line in text.splitlines(keepends=True):
        if line.startswith("user "):
            ours = line.removeprefix("user ").strip() in users
        if not ours and line.partition(":")[0] not in users:
            kept.append(line)
    return "".join(kept)


def acl(users: Iterable[Identity]) -> str:
    """Return Mosquitto's acl_file. What it doesn't name is denied, and so is everything to who has no name."""
    blocks = []
    for one in users:
        rights = [f"topic read {topic}" for topic in one.read] + [f"topic write {topic}" for topic in one.write]
        blocks.append("\n".join([f"user {one.user}", *rights]) + "\n")
    return "\n".join(blocks)


def hashed(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Return a password as Mosquitto 2 keeps it: PBKDF2 with SHA-512."""
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def _matches(password: str, known: str) -> bool:
    try:
        _, kind, iterations, salt, _ = known.split("$")
        again = hashed(password, base64.b64decode(salt), int(iterations))
    except (ValueError, OverflowError):  # not written by us
        return False
    return kind == "7" and hmac.compare_digest(again, known)


def _password_file(users: Iterable[Identity], passwords: Mapping[str, str], former: Mapping[str, str]) -> str:
    """Return Mosquitto's password_file; a hash that is right stays as it is."""
    lines = []
    for one in users:
        password, known = passwords[one.folder], former.get(one.user, "")
        if not _matches(password, known):
            known = hashed(password, secrets.token_bytes(SALT_BYTES))
        lines.append(f"{one.user}:{known}\n")
    return "".join(lines)


def _lines(path: Path) -> dict[str, str]:
    """Return user -> hash of a password file; nothing where there is none."""
    if not path.exists():
        return {}
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {user: known for user, _, known in pairs}


def _password(path: Path, known: str) -> str:
    """Return the password of an identity: the one that it has, the one that is known, or a new one."""
    if not path.exists():
        return known or secrets.token_urlsafe(PASSWORD_BYTES)
    password = path.read_text(encoding="utf-8").rstrip("\r\n")
    if not password or not password.isprintable():
        raise UserError(
            f"{path}: is not accepted; accepted: one line of text, or no such file: then it is generated"
        )
    return password


def streams_in(folder: Path) -> set[str]:
    """Return the streams that have users in a folder of identities."""
    found = set()
    for path in folder.glob("*-*"):
        match = re.fullmatch(rf"(?:{'|'.join(STREAM_ROLES)})-(.+)", path.name)
        if match and path.is_dir() and PI_ID.fullmatch(match[1]) and (path / USERNAME).exists():
            found.add(match[1])
    return found


def write(folder: Path, content: Mapping[Path, str]) -> None:
    """Write what differs from what is there, for the owner's eyes only.

    Raises:
        UserError: a file can't be written.
    """
    try:
        for one in dict.fromkeys((folder, *(path.parent for path in content))):
            one.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            one.chmod(OWNER_ONLY_FOLDER)
        for path in content:
            if path.exists():
                path.chmod(OWNER_ONLY)
        changed = {path: text.encode() for path, text in content.items() if not _has(path, text)}
        files.replace_all(changed, mode=OWNER_ONLY)
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(folder, error) from None


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text
