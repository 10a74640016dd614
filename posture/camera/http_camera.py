"""Cameras that are read over HTTP: a stream of JPEGs (MJPEG), or one picture for each request."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.request
from typing import Any
from urllib.error import HTTPError, URLError

from posture.camera.live import CREDENTIALS, Camera, CameraLostError, CameraRefusedError
from posture.settings import table
from posture.wire.frame import JPEG, Limits

ANSWER_S = 10.0
"""How long a camera may take to answer, and for each picture."""
MAX_LINE = 8_192
MAX_HEADERS = 50
MOST_BEFORE = 64
"""Bytes; further on there may be a small picture inside of one of another kind."""
REFUSED = (401, 403)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another host is not told our password, and a camera that moves is not followed where nobody looks."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the redirection is the error."""


class _Basic(urllib.request.HTTPBasicAuthHandler):
    """The library's own takes it for an error that a camera which asks for digest refuses that, too."""

    def http_error_401(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        """Say who we are, if basic authentication is asked for."""
        asked = headers.get_all("WWW-Authenticate", [])
        if not any(value.lower().startswith("basic") for value in asked):
            return None
        return super().http_error_401(req, fp, code, msg, headers)


def open_http(url: str, settings: table.Camera) -> Camera:
    """Open a camera; its answer says which kind it is.

    Args:
        url: ``http://...`` or ``https://...``, without user and password.
        settings: user and password, by digest or basic authentication, and who signed its certificate.

    Raises:
        CameraRefusedError: it refuses user or password, or its certificate is not trusted.
        CameraLostError: it does not answer, or not with pictures.
    """
    opener = _opener(url, settings)
    answer = _ask(opener, url, settings)
    if answer.headers.get_content_maintype() == "multipart":
        return MjpegCamera(answer, str(answer.headers.get_boundary("")).encode("latin-1", "replace"))
    answer.close()
    return SnapshotCamera(opener, url, settings)


class MjpegCamera:
    """A camera that sends one JPEG after the other as the parts of one answer.

    Args:
        answer: the rest of the answer.
        boundary: what stands between the parts, as the answer's header has it. Cameras disagree about the dashes
            around it, and some send another one: the first line that looks like one is believed.
    """

    on_demand = False

    def __init__(self, answer: http.client.HTTPResponse, boundary: bytes) -> None:
        self._answer, self._boundary, self._begun = answer, boundary.strip(b"-"), False
        self._part, self._at_boundary = b"", False
        self._late_at = 0.0

    def wait(self) -> None:
        """See ``Camera``."""
        self._late_at = time.monotonic() + ANSWER_S
        try:
            while not self._at_boundary:
                self._at_boundary = self._is_boundary(self._line())
            self._at_boundary = False
            length = self._length_of_part()
            self._part = self._to_boundary() if length is None else self._exactly(length)
        except (OSError, http.client.HTTPException) as error:
            raise CameraLostError(f"connection lost: {_why(error)}") from error

    def picture(self) -> bytes:
        """See ``Camera``."""
        return _from_start(self._part)

    def close(self) -> None:
        """See ``Camera``."""
        self._answer.close()

    def _line(self) -> bytes:
        line = self._answer.readline(MAX_LINE)
        if not line:
            raise CameraLostError("the camera has ended its stream")
        if time.monotonic() > self._late_at:
            raise CameraLostError(f"no whole picture within {ANSWER_S:g} s")
        return line

    def _is_boundary(self, line: bytes) -> bool:
        name = line.strip().strip(b"-")
        if name and not self._begun and line.startswith(b"--"):
            self._begun, self._boundary = True, name
        return bool(name) and name == self._boundary

    def _length_of_part(self) -> int | None:
        """Read a part's headers; return its Content-Length, if it has one."""
        length = None
        for _ in range(MAX_HEADERS):
            name, _, value = self._line().partition(b":")
            if not name.strip():
                return length
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
                if length > Limits.max_bytes:
                    raise CameraLostError(f"a picture of {length} bytes; accepted: up to {Limits.max_bytes}")
        raise CameraLostError("what it sends is no stream of JPEGs")

    def _exactly(self, length: int) -> bytes:
        part = bytearray()
        while len(part) < length:
            some = self._answer.read1(length - len(part))
            if not some:
                raise CameraLostError("the camera has ended its stream")
            if time.monotonic() > self._late_at:
                raise CameraLostError(f"no whole picture within {ANSWER_S:g} s")
            part += some
        return bytes(part)

    def _to_boundary(self) -> bytes:
        part = bytearray()
        while len(part) <= Limits.max_bytes:
            line = self._line()
            if self._is_boundary(line):
                self._at_boundary = True
                return bytes(part.removesuffix(b"\r\n"))
            part += line
        raise CameraLostError(f"a picture of more than {Limits.max_bytes} bytes")


class SnapshotCamera:
    """A camera that answers each request with one picture."""

    on_demand = True

    def __init__(self, opener: urllib.request.OpenerDirector, url: str, settings: table.Camera) -> None:
        self._opener, self._url, self._settings = opener, url, settings
        self._picture = b""

    def wait(self) -> None:
        """See ``Camera``."""
        with _ask(self._opener, self._url, self._settings) as answer:
            try:
                self._picture = answer.read(Limits.max_bytes + 1)
            except (OSError, http.client.HTTPException) as error:
                raise CameraLostError(f"connection lost: {_why(error)}") from error
            if answer.headers.get_content_maintype() == "text":
                raise CameraLostError(f"answers with {answer.headers.get_content_type()}, which is no picture")

    def picture(self) -> bytes:
        """See ``Camera``."""
        return _from_start(self._picture)

    def close(self) -> None:
        """See ``Camera``: each request has a connection of its own."""


def _from_start(picture: bytes) -> bytes:
    """Return a JPEG without the few bytes that some cameras put before it."""
    start = picture.find(JPEG, 0, MOST_BEFORE)
    return picture[max(start, 0) :]


def _opener(url: str, settings: table.Camera) -> urllib.request.OpenerDirector:
    """Return what sends requests, with user and password where it is asked for them.

    Raises:
        CameraRefusedError: the file of the certificates' authority can't be read.
    """
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if settings.username:
        passwords.add_password(None, url, settings.username, settings.password)
    try:
        tls = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        raise CameraRefusedError(f"camera.ca_file {settings.ca_file}: {_why(error)}") from None
    return urllib.request.build_opener(
        _NoRedirect(),
        # a camera is near, not behind the proxy of whoever set one in the environment
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPDigestAuthHandler(passwords),
        _Basic(passwords),
    )


def _ask(opener: urllib.request.OpenerDirector, url: str, settings: table.Camera) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = opener.open(url, timeout=ANSWER_S)
    except HTTPError as error:
        error.close()
        if error.code in REFUSED:
            raise CameraRefusedError(_refusal(error.code, settings)) from None
        if 300 <= error.code < 400:
            raise CameraRefusedError(f"redirects us ({error.code}); accepted: the pictures' address") from None
        raise CameraLostError(f"answers {error.code} {error.reason}") from None
    except UnicodeEncodeError:
        raise CameraRefusedError(f"asks for digest authentication; accepted: {CREDENTIALS} in ASCII") from None
    except ValueError as error:  # ways to say who one is that the library does not know
        raise CameraRefusedError(_why(error)) from None
    except (OSError, http.client.HTTPException) as error:
        why = _why(error.reason if isinstance(error, URLError) else error)
        if "CERTIFICATE_VERIFY_FAILED" in why:
            raise CameraRefusedError(f"{why}; accepted: one that camera.ca_file has signed") from None
        raise CameraLostError(why) from None
    return answer


def _refusal(status: int, settings: table.Camera) -> str:
    if settings.username:
        return f"refuses user {settings.username!r} with that password ({status})"
    return f"asks who we are ({status}); accepted: {CREDENTIALS}"


def _why(error: object) -> str:
    if isinstance(error, http.client.HTTPException):
        return f"what answers does not speak HTTP ({type(error).__name__}: {error})"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
