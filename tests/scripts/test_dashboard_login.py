"""Who gets in, and what each role may, over HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest
from dashboard_process import ROOT, DashboardProcess
from servers import free_port

from posture.dashboard import passwords

NOWHERE = {"mqtt": {"url": "mqtt://127.0.0.1:9"}}
PASSWORD = "correct horse battery"  # noqa: S105
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Visitor:
    """A client with cookies, as far as these tests need them."""

    def __init__(self, dashboard: DashboardProcess) -> None:
        self.dashboard = dashboard
        self.cookie = ""

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent["Cookie"] = self.cookie
        status, answered, text = self.dashboard.ask(path, method=method, body=body, headers=sent)
        if "set-cookie" in answered:
            self.cookie = answered["set-cookie"].partition(";")[0]
        return status, answered, text

    def form_token(self) -> str:
        _, _, page = self.ask("/login")
        found = re.search(rb'name="token" value="([^"]+)"', page)
        assert found
        return found[1].decode()

    def log_in(self, name: str, password: str = PASSWORD, **fields: str) -> tuple[int, Mapping[str, str], bytes]:
        form = {"token": self.form_token(), "name": name, "password": password, "next": "/", **fields}
        return self.ask("/login", method="POST", body=urlencode(form).encode(), **FORM)

    def token(self) -> str:
        """The page's token, as its feed tells it."""
        _, said = self.dashboard.first_event(self.cookie)
        return str(said["token"])


@pytest.fixture(scope="module")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    passwords.add(path, "ada", "operator", PASSWORD)
    passwords.add(path, "vic", "viewer", PASSWORD)
    return path


@pytest.fixture(scope="module")
def dashboard(users_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    settings = {**NOWHERE, "dashboard": {"users_file": str(users_file)}}
    process = DashboardProcess(tmp_path_factory.mktemp("dashboard"), settings, listen="0.0.0.0")  # noqa: S104
    process.start()
    yield process
    process.stop()


@pytest.fixture
def visitor(dashboard: DashboardProcess) -> Visitor:
    return Visitor(dashboard)


def test_who_is_not_logged_in_sees_nothing(visitor: Visitor) -> None:
    status, headers, _ = visitor.ask("/streams/pi1?day=2026-11-24")
    assert (status, headers["location"]) == (303, "/login?next=%2Fstreams%2Fpi1%3Fday%3D2026-11-24")
    for path in ("/api/streams", "/api/feed", "/api/streams/pi1/picture"):
        assert visitor.ask(path)[0] == 401


def test_a_login_leads_to_the_page_that_was_asked_for(visitor: Visitor) -> None:
    status, headers, _ = visitor.log_in("ada", next="/streams/pi1?day=2026-11-24")
    assert (status, headers["location"]) == (303, "/streams/pi1?day=2026-11-24")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in headers["set-cookie"].split(";")} | {
        part.strip().replace("httponly", "HttpOnly").replace("samesite", "SameSite")
        for part in headers["set-cookie"].split(";")
    }
    assert visitor.ask("/")[0] == 200


@pytest.mark.parametrize("elsewhere", ["http://evil.example/", "//evil.example", "/\\evil.example", "javascript:1"])
def test_a_login_leads_nowhere_else(visitor: Visitor, elsewhere: str) -> None:
    assert visitor.log_in("ada", next=elsewhere)[1]["location"] == "/"


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("ada", ""), ("nobody", PASSWORD), ("", ""), ("ada\0", PASSWORD), ("ada", "x" * 2000)],
)
def test_a_wrong_name_or_password_is_refused_with_the_same_words(
    visitor: Visitor, name: str, password: str
) -> None:
    status, _, page = visitor.log_in(name, password)
    assert status == 401
    assert b"Name or password is wrong." in page
    assert visitor.ask("/")[0] == 303


def test_what_was_typed_is_shown_as_text(visitor: Visitor) -> None:
    _, _, page = visitor.log_in('"><script>alert(1)</script>', "wrong")
    assert b"<script>alert" not in page


def test_a_form_without_this_browsers_token_is_refused(visitor: Visitor) -> None:
    visitor.form_token()
    for token in ("", "guessed", Visitor(visitor.dashboard).form_token()):
        assert visitor.log_in("ada", token=token)[0] == 403


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"&".join(b"a=1" for _ in range(100)), b'{"name": "ada"}'],
    ids=["no text", "many", "JSON"],
)
def test_a_malformed_form_is_refused(visitor: Visitor, body: bytes) -> None:
    assert visitor.ask("/login", method="POST", body=body, **FORM)[0] in (400, 403)


def test_a_viewer_may_look_and_no_more(visitor: Visitor) -> None:
    visitor.log_in("vic")
    assert visitor.ask("/")[0] == 200
    status, _, body = visitor.ask(
        "/api/streams/pi1/command", method="POST", body=b'{"calibrate": 6}', X_CSRF_Token=visitor.token()
    )
    assert (status, json.loads(body)["error"]) == (403, "this needs the operator's role")


def test_a_command_without_the_pages_token_is_refused(visitor: Visitor) -> None:
    visitor.log_in("ada")
    right = visitor.token()
    for token in ("", "guessed", right + "x"):
        status, _, body = visitor.ask("/api/streams/pi1/command", method="POST", body=b"{}", X_CSRF_Token=token)
        assert (status, "token" in json.loads(body)["error"]) == (403, True)
    # with it the command is read, and there is no such stream
    assert visitor.ask("/api/streams/pi1/command", method="POST", body=b"{}", X_CSRF_Token=right)[0] == 404


def test_a_foreign_page_can_not_command_though_the_cookie_came_along(visitor: Visitor) -> None:
    visitor.log_in("ada")
    status, _, _ = visitor.ask(
        "/api/streams/pi1/command", method="POST", body=b"{}", X_CSRF_Token=visitor.token(),
        Origin="http://evil.example",
    )  # fmt: skip
    assert status == 403


def test_a_forged_or_changed_session_is_none(visitor: Visitor) -> None:
    visitor.log_in("vic")
    name, _, value = visitor.cookie.partition("=")
    visitor.cookie = f"{name}={value[:5]}{'A' if value[5] != 'A' else 'B'}{value[6:]}"
    assert visitor.ask("/api/streams")[0] == 401


def test_logging_out_ends_the_session(visitor: Visitor) -> None:
    visitor.log_in("ada")
    assert visitor.ask("/logout", method="POST", X_CSRF_Token=visitor.token())[0] == 303
    visitor.cookie = visitor.cookie if "null" not in visitor.cookie else ""
    assert visitor.ask("/api/streams")[0] == 401


def test_a_link_on_another_page_does_not_end_at_the_login_though_the_cookie_is_strict(visitor: Visitor) -> None:
    status, _, page = visitor.ask("/streams/pi1", Sec_Fetch_Site="cross-site")
    assert status == 200
    assert b'http-equiv="refresh"' in page


def test_guessing_is_slowed_down(users_file: Path, tmp_path: Path) -> None:
    process = DashboardProcess(tmp_path, {**NOWHERE, "dashboard": {"users_file": str(users_file)}})
    process.start()
    try:
        for _ in range(5):  # the first pause is of 2 s, in which a busy machine may stand still
            visitor = Visitor(process)
            statuses = [visitor.log_in("ada", f"guess number {number}")[0] for number in range(7)]
            assert statuses[:4] == [401] * 4
            status, headers, page = visitor.log_in("ada")
            if status == 429:
                break
        assert (status, int(headers["retry-after"]) >= 1) == (429, True)
        assert b"Too many attempts" in page
        # another name is not locked out by it
        assert visitor.log_in("vic")[0] == 303
    finally:
        process.stop()


def test_a_session_outlives_the_process_and_ends_with_the_password(tmp_path: Path) -> None:
    path = tmp_path / "users"
    passwords.add(path, "ada", "operator", PASSWORD)
    process = DashboardProcess(tmp_path / "d", {**NOWHERE, "dashboard": {"users_file": str(path)}})
    process.start()
    try:
        visitor = Visitor(process)
        visitor.log_in("ada")
        process.kill()
        process.start()
        assert visitor.ask("/api/streams")[0] == 200
        passwords.add(path, "ada", "operator", PASSWORD + "2")
        assert visitor.ask("/api/streams")[0] == 401
    finally:
        process.stop()


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    options = {"proxy_header": "X-User", "proxy_addresses": "127.0.0.0/8", "proxy_operators": "ada, grace"}
    process = DashboardProcess(tmp_path_factory.mktemp("proxied"), {**NOWHERE, "dashboard": options})
    process.start()
    yield process
    process.stop()


def test_a_trusted_proxy_names_the_user(behind_proxy: DashboardProcess) -> None:
    assert behind_proxy.ask("/api/streams", headers={"X-User": "vic"})[0] == 200
    assert behind_proxy.ask("/api/streams")[0] == 403
    _, ada = behind_proxy.first_event(headers={"X-User": "ada"})
    _, vic = behind_proxy.first_event(headers={"X-User": "vic"})
    assert (ada["user"], ada["operator"], vic["operator"]) == ("ada", True, False)


def test_the_header_counts_from_nowhere_else(tmp_path: Path) -> None:
    options = {"proxy_header": "X-User", "proxy_addresses": "192.0.2.1"}
    process = DashboardProcess(tmp_path, {**NOWHERE, "dashboard": options})
    process.start()
    try:
        assert process.ask("/api/streams", headers={"X-User": "ada"})[0] == 403
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"users_file": "/nowhere/users"}, "made by dashboard.py --add-user", id="no file"),
        pytest.param({"proxy_header": "X-User"}, "accepted: both or neither", id="header from anywhere"),
        pytest.param(
            {"proxy_addresses": "127.0.0.1"}, "accepted: both or neither", id="addresses without a header"
        ),
        pytest.param({"proxy_addresses": "10.0.0.1/8"}, "proxy_addresses", id="no network"),
        pytest.param({"proxy_header": "X User"}, "proxy_header", id="no header"),
        pytest.param(
            {"users_file": "x", "proxy_header": "X", "proxy_addresses": "10.0.0.1"},
            "accepted: one of them",
            id="both",
        ),
    ],
)
def test_a_way_in_that_is_none_is_refused_at_the_start(tmp_path: Path, options: dict[str, str], says: str) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text(json.dumps({**NOWHERE, "dashboard": {**options, "listen": f"127.0.0.1:{free_port()}"}}))
    command = [sys.executable, str(ROOT / "dashboard.py"), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_add_user_takes_the_password_from_its_input_and_says_what_it_did(tmp_path: Path) -> None:
    started = time.time()
    path = tmp_path / "users"
    flags = ["--users-file", str(path), "--add-user", "ada", "--role", "operator"]
    command = [sys.executable, str(ROOT / "dashboard.py"), *flags]
    done = subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"ada may log in as operator; {path}\n")
    assert path.stat().st_mtime >= started - 1
    done = subprocess.run(command, input="short\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "accepted: 10 to 256" in done.stderr) == (2, True)
