"""The secrets of a farm, as they are kept here: in ``.env`` and in the folder ``broker``, both for the owner alone.

The Secret ``posture-setup`` has a copy of them, from which ``--recover`` brings back what was lost here. Nothing is
made anew that the cluster has already: a database that has its password would no longer be opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posture.dashboard import passwords
from posture.errors import UserError
from posture.lifecycle.preflight.findings import Finding
from posture.lifecycle.setup import certificates
from posture.lifecycle.setup.certificates import Pair
from posture.lifecycle.setup.environment_file import EnvironmentFile
from posture.lifecycle.setup.survey import DASHBOARD, DATABASE, PICTURES, Survey
from posture.natural_order import some_of
from posture.settings.table import Settings
from posture.wire import identities
from posture.wire.identities import STREAM_ROLES

COPY = "posture-setup"
"""The Secret with what is kept here."""
OPERATOR = "operator"
OPERATOR_PASSWORD = "POSTURE_OPERATOR_PASSWORD"  # noqa: S105 - a name
OF_DATABASE = ("POSTGRES_PASSWORD", "POSTURE_PASSWORD")
OF_PICTURES = ("POSTURE_PICTURES_KEY_ID", "POSTURE_PICTURES_SECRET_KEY")
CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
BYTES = 32
PREFIX = "POSTURE_MQTT_PREFIX"


@dataclass
class Kept:
    """What is kept, complete: what was there, and what is new.

    Attributes:
        environment: the file ``.env``.
        made: its variables that are ours, with their values.
        folder: of the broker's users, and of the authority.
        identities: each file there that concerns the broker's users, with its content.
        users: the page's users, as its file has them.
        authority: signs.
    """

    environment: EnvironmentFile
    made: dict[str, str]
    folder: Path
    identities: dict[Path, str]
    users: str
    authority: Pair

    def files(self) -> dict[Path, str]:
        """Return each file in the folder with its content."""
        ours = {self.folder / "ca" / CA_CERTIFICATE: self.authority.certificate}
        ours[self.folder / "ca" / CA_KEY] = self.authority.key
        if self.users:
            ours[users_file(self.folder)] = self.users
        for one in {path.parent for path in self.identities if path.parent.name.startswith("camera-")}:
            ours[one / CA_CERTIFICATE] = self.authority.certificate
        return {**self.identities, **ours}

    def copy(self) -> dict[str, str]:
        """Return what the Secret with the copy is to hold."""
        of_users = {
            f"{path.parent.name}.{path.name}": text
            for path, text in self.identities.items()
            if path.name == identities.PASSWORD
        }
        return {**self.made, **of_users, CA_CERTIFICATE: self.authority.certificate, CA_KEY: self.authority.key}

    def tells_operators_password(self) -> bool:
        """Return whether the page's first user still has the password of ``.env``. Takes a fifth of a second.

        Raises:
            UserError: the file of the page's users is not accepted.
        """
        user = passwords.read(users_file(self.folder)).users.get(OPERATOR) if self.users else None
        return user is not None and passwords.matches(user, self.made.get(OPERATOR_PASSWORD, ""))

    def identity(self, folder: str) -> dict[str, str]:
        """Return name and password of one of the broker's users."""
        return {
            name: self.identities[self.folder / folder / name]
            for name in (identities.USERNAME, identities.PASSWORD)
        }


def users_file(folder: Path) -> Path:
    """Return the file of the page's users."""
    return folder / "page" / "users"


def needed(survey: Survey, namespace: str) -> list[str]:
    """Return the variables that the stack's parts need."""
    names = [*(OF_DATABASE if DATABASE in survey.stateful_sets else ())]
    names += OF_PICTURES if PICTURES in survey.stateful_sets else ()
    return names + ([OPERATOR_PASSWORD] if survey.own_deployment(namespace, DASHBOARD) else [])


def lost(root: Path, survey: Survey, namespace: str, streams: Sequence[str]) -> Iterator[Finding]:
    """Find what the cluster has and is lost here, or is another one here.

    Args:
        root: where ``.env`` and ``broker`` are.
        survey: what the cluster has.
        namespace: the farm's.
        streams: the farm's; what is lost of others is not missed.
    """
    folders = {"balancer", "dashboard", "viewer", *(f"{role}-{name}" for role in STREAM_ROLES for name in streams)}
    stored = {
        key: value
        for key, value in _stored(survey, namespace).items()
        if not key.endswith(f".{identities.PASSWORD}") or key.partition(".")[0] in folders
    }
    if not stored:
        return
    here = EnvironmentFile(root / ".env").values
    environment = [name for name in (*OF_DATABASE, *OF_PICTURES, OPERATOR_PASSWORD) if name in stored]
    absent = [name for name in environment if name not in here]
    other = [name for name in environment if name in here and here[name] != stored[name]]
    files = {key: root / "broker" / _path(key) for key in stored if key not in environment}
    gone = [str(path.relative_to(root)) for path in files.values() if not path.exists()]
    recover = "python3 setup_farm.py --recover   (writes them here as the Secret posture-setup has them)"
    if absent:
        yield Finding(f"{root / '.env'} lacks {some_of(absent)}, with which the cluster was set up", recover)
    if gone:
        yield Finding(
            f"{some_of(gone)} {'is' if len(gone) == 1 else 'are'} not here; the cluster was set up with it", recover
        )
    if other:
        yield Finding(
            f"{root / '.env'} has another value of {some_of(other)} than the cluster was set up with",
            f"{recover}; to change a password: docs/setup.md",
        )
    authority = [files[key] for key in (CA_CERTIFICATE, CA_KEY) if key in files and files[key].exists()]
    if any(path.read_text(encoding="utf-8") != stored[path.name] for path in authority):
        yield Finding(f"{root / 'broker' / 'ca'} is another authority than the cluster was set up with", recover)


def keep(root: Path, settings: Settings, streams: Sequence[str], survey: Survey, *, recover: bool = False) -> Kept:
    """Return what is kept here, with what is missing made anew, or taken from the cluster. Nothing is written.

    Args:
        root: where ``.env`` and ``broker`` are.
        settings: the farm's.
        streams: the farm's.
        survey: what the cluster has.
        recover: what the cluster has counts.

    Raises:
        UserError: a file is not accepted.
    """
    namespace = settings.kubernetes.namespace
    stored = _stored(survey, namespace) if recover else {}
    folder = root / "broker"
    environment = EnvironmentFile(root / ".env")
    made = {}
    for name in needed(survey, namespace):
        made[name] = stored.get(name) or environment.values.get(name) or secrets.token_urlsafe(BYTES)
    known = {
        key.removesuffix(f".{identities.PASSWORD}"): value
        for key, value in stored.items()
        if key.endswith(f".{identities.PASSWORD}")
    }
    _, content = identities.compose(
        folder, streams, settings.mqtt.prefix, home_assistant=settings.dashboard.home_assistant, known=known
    )
    if settings.mqtt.prefix:
        for name in streams:
            content[folder / f"camera-{name}" / PREFIX] = settings.mqtt.prefix
    authority = _authority(folder / "ca", stored, f"Posture Farm {namespace}")
    users = _users(
        users_file(folder), survey.data(DASHBOARD, namespace).get("users", ""), made.get(OPERATOR_PASSWORD, "")
    )
    return Kept(environment, made, folder, content, users, authority)


def _stored(survey: Survey, namespace: str) -> dict[str, str]:
    """Return what the cluster has of what is kept here: the copy, or else the database's own Secret."""
    of_database = survey.data(DATABASE, namespace)
    known = {name: of_database[name] for name in OF_DATABASE if name in of_database}
    return {**known, **survey.data(COPY, namespace)}


def _path(key: str) -> Path:
    folder, _, name = key.rpartition(".")
    return Path("ca") / key if key in {CA_CERTIFICATE, CA_KEY} else Path(folder) / name


def _authority(folder: Path, stored: Mapping[str, str], name: str) -> Pair:
    if CA_KEY in stored:
        pair = Pair(stored[CA_CERTIFICATE], stored[CA_KEY])
    else:
        try:
            texts = [
                path.read_text(encoding="utf-8") if path.exists() else ""
                for path in (folder / CA_CERTIFICATE, folder / CA_KEY)
            ]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{folder}: {getattr(error, 'strerror', None) or error}") from None
        pair = Pair(*texts)
        if not any(texts):
            return certificates.new_authority(name)
    certificates.check(pair)
    return pair


def _users(path: Path, live: str, password: str) -> str:
    """Return the page's users: those of the file, else those that the cluster has, else a first operator."""
    if path.exists():
        passwords.read(path)
        return path.read_text(encoding="utf-8")
    if live or not password:
        return live
    return passwords.with_user(passwords.check(path, OPERATOR, "operator"), OPERATOR, "operator", password)
