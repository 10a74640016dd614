"""Who may log in: a file with a line for each user, their role, and their password's hash.

The first line is the key by which sessions are signed, so that they outlive the process. The file is made by
``dashboard.py --add-user``; who changes it by hand is heard at once, too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from posture.errors import UserError
from posture.system import files

ROLES = ("viewer", "operator")
USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
ACCEPTED_USER = "letters, digits, and . _ @ - after the first, up to 64"
LEAST_PASSWORD = 10
MOST_PASSWORD = 256
"""Characters; a longer one would keep the processor busy."""
SCRYPT = {"n": 2**15, "r": 8, "p": 3}
"""OWASP's choice for 32 MB; about 0.2 s."""
MOST_MEMORY = 96 * 2**20
SALT_BYTES, HASH_BYTES, KEY_BYTES = 16, 32, 32
KEY = "key"
OTHERS = stat.S_IRWXO


@dataclass(frozen=True)
class User:
    """One who may log in."""

    name: str
    role: str
    password: str
    """``scrypt$n$r$p$salt$hash``, the last two in base64."""

    @property
    def stamp(self) -> str:
        """What a session remembers of the password: another one ends it."""
        return hashlib.sha256(self.password.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class UsersFile:
    """What is in the file."""

    key: str
    users: Mapping[str, User]


def hashed(password: str, salt: bytes | None = None) -> str:
    """Return a password's hash."""
    salt = salt or secrets.token_bytes(SALT_BYTES)
    key = hashlib.scrypt(password.encode(), salt=salt, dklen=HASH_BYTES, maxmem=MOST_MEMORY, **SCRYPT)
    return _written(salt, key)


def _written(salt: bytes, key: bytes) -> str:
    costs = "$".join(str(SCRYPT[name]) for name in ("n", "r", "p"))
    return f"scrypt${costs}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


NOBODY = User("", "viewer", _written(secrets.token_bytes(SALT_BYTES), secrets.token_bytes(HASH_BYTES)))
"""Compared with where there is no such user, so that names can't be told by the time that it takes. No password is
behind it, so that a program's start does not take the time of one."""


def matches(user: User, password: str) -> bool:
    """Return whether a password is a user's. Takes a fifth of a second."""
    _, n, r, p, salt, key = user.password.split("$")
    costs = {"n": int(n), "r": int(r), "p": int(p)}
    found = hashlib.scrypt(
        password.encode(), salt=base64.b64decode(salt), dklen=HASH_BYTES, maxmem=MOST_MEMORY, **costs
    )
    return hmac.compare_digest(found, base64.b64decode(key))


def read(path: Path) -> UsersFile:
    """Return what is in the file.

    Raises:
        UserError: it can't be read, others may read it, or a line is not as it must be.
    """
    try:
        if path.stat().st_mode & OTHERS:
            raise UserError(f"dashboard.users_file: {path} can be read by everybody; type: chmod o= {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"dashboard.users_file: {path}: {why}; made by dashboard.py --add-user") from None
    keys = [line.partition(":")[2] for line in lines if line.startswith(f"{KEY}:")]
    if len(keys) != 1 or len(keys[0]) < KEY_BYTES:
        raise UserError(f"{path}: accepted: one line {KEY}:..., as dashboard.py --add-user makes it")
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith((f"{KEY}:", "#")):
            user = _user(line, f"{path}, line {number}")
            users[user.name] = user
    return UsersFile(keys[0], users)


def _user(line: str, where: str) -> User:
    name, _, rest = line.partition(":")
    role, _, password = rest.partition(":")
    if not USER.fullmatch(name) or role not in ROLES:
        raise UserError(f"{where}: accepted: name:{' or '.join(ROLES)}:scrypt$..., the name of {ACCEPTED_USER}")
    try:
        kind, n, r, p, salt, key = password.split("$")
        memory = 128 * int(n) * int(r)
        parts = (base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True))
    except (ValueError, binascii.Error):
        kind, memory, p, parts = "", 0, "", (b"", b"")
    if kind != "scrypt" or not 0 < memory < MOST_MEMORY or not p.isdecimal() or len(parts[1]) != HASH_BYTES:
        raise UserError(f"{where}: the password of {name} is no hash as dashboard.py --add-user makes it")
    return User(name, role, password)


def check(path: Path, name: str, role: str) -> UsersFile:
    """Return what is in the file that a user is to be added to; a new one where there is none.

    Raises:
        UserError: the name or the role is not accepted, or the file can't be read.
    """
    if not USER.fullmatch(name):
        raise UserError(f"--add-user {name[:60]!r}: accepted: {ACCEPTED_USER}")
    if role not in ROLES:
        raise UserError(f"--role {role[:60]!r}: accepted: {' or '.join(ROLES)}")
    return read(path) if path.exists() else UsersFile(secrets.token_urlsafe(KEY_BYTES), {})


def add(path: Path, name: str, role: str, password: str) -> None:
    """Add a user, or give one another role and password; all else in the file stays.

    Raises:
        UserError: the name, the role or the password is not accepted, or the file can't be read or written.
    """
    text = with_user(check(path, name, role), name, role, password)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, text.encode(), mode=0o600)
    except OSError as error:
        raise UserError(f"dashboard.users_file: {path} can't be written: {error.strerror}") from None


def with_user(there: UsersFile, name: str, role: str, password: str) -> str:
    """Return the file's text with one more user, or with another role and password of one.

    Raises:
        UserError: the password is not accepted.
    """
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise UserError(
            f"the password has {len(password)} characters; accepted: {LEAST_PASSWORD} to {MOST_PASSWORD}"
        )
    users = {**there.users, name: User(name, role, hashed(password))}
    lines = [f"{KEY}:{there.key}", *(f"{one.name}:{one.role}:{one.password}" for one in users.values())]
    return "".join(f"{line}\n" for line in lines)


class Users:
    """The file as it is now; a change of it counts at once.

    Args:
        path: the file.

    Raises:
        UserError: as ``read``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _identity(path)
        self._read = read(path)
        self.key = self._read.key
        """Of the sessions. One that is changed counts from the next start."""

    def find(self, name: str) -> User | None:
        """Return a user; None if there is none of that name (any more).

        A file that has gone, or is not as it must be, lets nobody in.
        """
        seen = _identity(self._path)
        if seen != self._seen:
            try:
                self._read = read(self._path)
            except UserError:
                self._read = UsersFile(self.key, {})
            self._seen = seen
        return self._read.users.get(name)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
