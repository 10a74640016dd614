"""Cameras over HTTP, on a real connection: streams of JPEGs, single pictures, and those who don't let us in."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import count, islice

import cv2
import numpy as np
import pytest
from farm import noise_jpeg
from http_camera_server import Answer, HttpCamera, part, snapshot, stream

from posture.camera import http_camera, live
from posture.camera.sources import open_source
from posture.errors import UserError
from posture.settings.table import Camera
from posture.wire.frame import JPEG

PICTURES = [noise_jpeg(number, 32, 24) for number in range(5)]
PASSWORD, WRONG, NOT_ASCII = "p@ss:w/?#%", "hush", "paßwort"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(live, "LAST_PICTURE_S", 60.0)  # none is left to log into the next test


def filmed(camera: HttpCamera, number: int, *, path: str = "/video", **settings: str) -> list[bytes]:
    return list(islice(open_source(f"{camera.url}{path}", loop=False, camera=Camera(**settings)), number))


def all_pictures(**how: object) -> Callable[[], Iterator[bytes]]:
    return lambda: (part(picture, **how) for picture in PICTURES)  # type: ignore[arg-type]


def slowly(parts: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
    """So slowly that each one is fetched before the next one comes."""

    def paced() -> Iterator[bytes]:
        for each in parts():
            time.sleep(0.05)
            yield each

    return paced


@pytest.mark.parametrize(
    ("boundary", "how"),
    [
        pytest.param("frame", {}, id="with lengths"),
        pytest.param("frame", {"length": False}, id="without lengths"),
        pytest.param("--frame", {}, id="a boundary that has its dashes already"),
        pytest.param('"frame"', {}, id="a boundary in quotes"),
        pytest.param("frame", {"boundary": b"----frame"}, id="more dashes than due"),
        pytest.param("frame", {"boundary": b"frame"}, id="no dashes at all"),
        pytest.param("frame", {"boundary": b"--another", "length": False}, id="another one than was promised"),
        pytest.param("", {}, id="none was promised"),
        pytest.param("frame", {"junk": b"\r\n\0"}, id="junk before the picture"),
    ],
)
def test_a_streams_jpegs_come_byte_by_byte_as_they_are(boundary: str, how: dict[str, object]) -> None:
    with HttpCamera(stream(slowly(all_pictures(**how)), boundary)) as camera:
        # the last one without a length ends with a boundary that does not come; and again: on a busy machine one
        # may be over before it is asked for
        assert any(filmed(camera, 4) == PICTURES[:4] for _ in range(20))


def test_a_stream_in_chunks_is_read_as_well() -> None:
    def chunked(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        whole = b"".join(map(part, PICTURES))
        for start in range(0, len(whole), 700):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(whole[start : start + 700]), whole[start : start + 700]))
            request.wfile.flush()
            time.sleep(0.02)

    with HttpCamera(chunked) as camera:
        assert filmed(camera, 1)[0] in PICTURES


def test_who_fetches_seldom_gets_the_newest_picture_and_not_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    late, read, wait = noise_jpeg(300, 32, 24), threading.Event(), http_camera.MjpegCamera.wait

    def watched(camera: http_camera.MjpegCamera) -> None:
        wait(camera)
        if camera.picture() == late:
            read.set()

    monkeypatch.setattr(http_camera.MjpegCamera, "wait", watched)

    def parts() -> Iterator[bytes]:
        for number in count():
            yield part(noise_jpeg(number, 32, 24))
            time.sleep(0.001)

    with HttpCamera(stream(parts)) as camera:
        frames = open_source(f"{camera.url}/video", loop=False)
        next(frames)
        assert read.wait(60)
        second = next(frames)
        frames.close()  # type: ignore[attr-defined]
    assert second not in {noise_jpeg(number, 32, 24) for number in range(200)}


def test_each_snapshot_is_asked_for_when_it_is_wanted() -> None:
    with HttpCamera(snapshot(PICTURES[0])) as camera:
        assert filmed(camera, 3) == [PICTURES[0]] * 3
        assert 3 <= camera.requests <= 5


def test_a_snapshot_that_is_a_png_becomes_a_jpeg() -> None:
    png = cv2.imencode(".png", np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
    with HttpCamera(snapshot(png, "image/png")) as camera:
        assert filmed(camera, 1)[0].startswith(JPEG)


@pytest.mark.parametrize("digest", [True, False], ids=["digest", "basic"])
@pytest.mark.parametrize(
    "answer", [stream(slowly(all_pictures())), snapshot(PICTURES[0])], ids=["MJPEG", "snapshot"]
)
def test_user_and_password_open_the_camera(answer: Answer, digest: bool) -> None:
    with HttpCamera(answer, user="viewer", password=PASSWORD, digest=digest) as camera:
        assert filmed(camera, 2, username="viewer", password=PASSWORD)[0] in PICTURES
        assert set(camera.schemes) == {"Digest" if digest else "Basic"}


@pytest.mark.parametrize("digest", [True, False], ids=["digest", "basic"])
def test_a_wrong_password_ends_the_camera_with_a_line_that_names_the_settings_and_not_the_password(
    digest: bool,
) -> None:
    with HttpCamera(snapshot(PICTURES[0]), user="viewer", password=PASSWORD, digest=digest) as camera:
        with pytest.raises(UserError, match="refuses user 'viewer'") as caught:
            filmed(camera, 1, username="viewer", password=WRONG)
        assert "hush" not in str(caught.value)
        with pytest.raises(UserError, match="POSTURE_CAMERA_USERNAME"):
            filmed(camera, 1)


def test_a_password_that_digest_authentication_cannot_carry_is_refused_and_not_repeated() -> None:
    with HttpCamera(snapshot(PICTURES[0]), user="viewer", password=NOT_ASCII, digest=True) as camera:
        with pytest.raises(UserError, match="in ASCII") as caught:
            filmed(camera, 1, username="viewer", password=NOT_ASCII)
        assert "ß" not in str(caught.value)


def test_a_password_goes_nowhere_by_a_redirection() -> None:
    with HttpCamera(snapshot(PICTURES[0])) as other:

        def elsewhere(request: object) -> None:
            request.send_response(302)  # type: ignore[attr-defined]
            request.send_header("Location", f"{other.url}/video")  # type: ignore[attr-defined]
            request.end_headers()  # type: ignore[attr-defined]

        with (
            HttpCamera(elsewhere, user="viewer", password=PASSWORD) as camera,
            pytest.raises(UserError, match="redirects us"),
        ):
            filmed(camera, 1, username="viewer", password=PASSWORD)
        assert other.requests == 0


def test_a_camera_that_breaks_off_is_asked_again_and_the_query_is_in_no_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with HttpCamera(stream(slowly(lambda: (part(picture) for picture in PICTURES[:2])))) as camera:
        with caplog.at_level(logging.INFO):
            seen = filmed(camera, 5, path="/video?user=me&pwd=hush")
        assert camera.requests >= 3
    assert set(seen) == set(PICTURES[:2])
    assert "has ended its stream; next try in" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(snapshot(b"<html>log in</html>", "text/html"), "text/html, which is no picture", id="a page"),
        pytest.param(snapshot(b"busy", "text/plain", 503), "answers 503", id="busy"),
        pytest.param(snapshot(b"", "text/plain", 404), "answers 404", id="a wrong path"),
        pytest.param(snapshot(b"\xff\xd8", "image/jpeg"), "damaged", id="half a picture"),
        pytest.param(
            stream(lambda: iter([b"--frame\r\n" + b"x: y\r\n" * 100])), "no stream of JPEGs", id="headers"
        ),
        pytest.param(
            stream(lambda: iter([b"--frame\r\nContent-Length: 99999999999\r\n\r\n"])), "up to", id="a huge picture"
        ),
        pytest.param(stream(lambda: (part(b"no picture") for _ in count())), "damaged", id="no pictures in it"),
        pytest.param(lambda request: request.wfile.write(b"\0\x1b[2J\n"), "not speak HTTP", id="no HTTP"),
    ],
)
def test_what_is_no_camera_is_said_in_one_line_and_asked_again_with_growing_pauses(
    answer: Answer, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with HttpCamera(answer) as camera, caplog.at_level(logging.WARNING):
        tried = lambda: sum("next try in" in line for line in caplog.messages) >= 3  # noqa: E731
        assert list(open_source(f"{camera.url}/", loop=False, given_up=tried)) == []
    lines = [line for line in caplog.messages if "next try in" in line]
    assert all(said in line and line.isprintable() for line in lines), lines
    pauses = [float(line.split()[-2]) for line in lines]
    assert pauses[2] > pauses[0]


def test_a_camera_that_sends_too_slowly_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_camera, "ANSWER_S", 0.2)

    def parts() -> Iterator[bytes]:
        yield b"--frame\r\nContent-Length: 100000\r\n\r\n"
        while True:
            time.sleep(0.05)
            yield b"x"

    with HttpCamera(stream(parts)) as camera:
        given_up = lambda: "no whole picture within" in caplog.text  # noqa: E731
        assert list(open_source(f"{camera.url}/", loop=False, given_up=given_up)) == []
