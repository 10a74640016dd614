"""What cameras really send: base64 in every dress, JSON around it, junk before a picture's start."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hostile import encoded, noise_picture

from posture.wire.payload import unwrap

JPEG = encoded(noise_picture(), "JPEG", quality=60)
PICTURES = [
    pytest.param(JPEG, id="jpeg"),
    pytest.param(encoded(noise_picture(), "PNG"), id="png"),
    pytest.param(encoded(noise_picture(), "WEBP"), id="webp"),
]
MULTIPART = b'--frame\r\nContent-Disposition: form-data; name="img"\r\nContent-Type: image/jpeg\r\n%s\r\n'


def text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


DRESSES = {
    "data-uri": lambda picture: b"data:image/jpeg;base64," + base64.b64encode(picture),
    "data-uri-with-parameters": lambda picture: b"data:image/x;charset=utf-8;base64, " + base64.b64encode(picture),
    "quoted": lambda picture: b'"' + base64.b64encode(picture) + b'"',
    "printed-by-python": lambda picture: str(base64.b64encode(picture)).encode(),
    "nul-ended": lambda picture: base64.b64encode(picture) + b"\0",
    "nul-padded": lambda picture: base64.b64encode(picture) + bytes(100),
    "url-safe": base64.urlsafe_b64encode,
    "url-safe-unpadded": lambda picture: base64.urlsafe_b64encode(picture).rstrip(b"="),
    "percent-encoded": lambda picture: quote(text(picture), safe="").encode(),
    "form-field": lambda picture: b"image=" + quote(text(picture), safe="").encode() + b"&camera=7",
    "data-uri-percent-encoded": lambda picture: quote("data:image/png;base64," + text(picture)).encode(),
    "with-bom": lambda picture: b"\xef\xbb\xbf" + base64.b64encode(picture),
    "utf-16": lambda picture: text(picture).encode("utf-16"),
    "bom-before-the-picture": lambda picture: b"\xef\xbb\xbf" + picture,
    "junk-before-the-picture": lambda picture: b"\0\1\2IMG" * 20 + picture,
    "multipart": lambda picture: MULTIPART % b"" + picture + b"\r\n--frame--\r\n",
    "multipart-in-base64": lambda picture: (
        MULTIPART % b"Content-Transfer-Encoding: base64\r\n" + base64.encodebytes(picture) + b"\r\n--frame--\r\n"
    ),
    "hex": lambda picture: picture.hex().encode() + b"\n",
    "json-image": lambda picture: json.dumps({"camera": 7, "image": text(picture)}).encode(),
    "json-data-uri": lambda picture: json.dumps({"data": "data:image/png;base64," + text(picture)}).encode(),
    "json-with-bom": lambda picture: b"\xef\xbb\xbf" + json.dumps({"image": text(picture)}).encode(),
    "json-escaped": lambda picture: json.dumps({"image": text(picture)}).replace("/", "\\/").encode() + b"\0",
    "json-data-after-a-caption": lambda picture: json.dumps({"image": "cat.jpg", "data": text(picture)}).encode(),
    "json-buffer": lambda picture: json.dumps({"type": "Buffer", "data": list(picture)}).encode(),
    "json-image-buffer": lambda picture: json.dumps({"image": {"type": "Buffer", "data": list(picture)}}).encode(),
    "dictionary-printed-by-python": lambda picture: str({"image": text(picture)}).encode(),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES)
def test_a_picture_is_found_in_what_cameras_wrap_it_in(picture: bytes, dress) -> None:
    found = unwrap(dress(picture))
    # decoders pass over what follows a picture's end
    assert found[: len(picture)] == picture
    assert len(found) <= len(picture) + 20


def test_a_json_key_of_ones_own_is_a_setting() -> None:
    payload = json.dumps({"snapshot": text(JPEG), "thumbnail": "x"}).encode()
    assert unwrap(payload, "snapshot") == JPEG
    assert unwrap(payload) == payload


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{" * 100_000, id="braces"),
        pytest.param(b'{"image":' + b"[" * 100_000, id="nested"),
        pytest.param(b'{"image": [1, 2, "x"]}', id="list-of-something"),
        pytest.param(b'{"image": 9' + b"9" * 10_000 + b"}", id="endless-number"),
        pytest.param(b"[1, 2]", id="list"),
        pytest.param(b"/9j/ * but then text", id="text"),
        pytest.param(bytes(5000) + JPEG, id="too-much-junk"),
        pytest.param(b"\xff\xfe" + bytes(99), id="utf-16-of-nothing"),
        pytest.param(b"ffd8ffzz", id="no-hex"),
    ],
)
def test_what_holds_no_picture_is_left_as_it_is(payload: bytes) -> None:
    assert unwrap(payload) == payload
