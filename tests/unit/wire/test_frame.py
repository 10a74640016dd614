"""Frames over the wire: raw or base64, identity in the picture, file names."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timezone

import numpy as np
import pytest
from hostile import encoded, noise_picture, with_segment
from hypothesis import example, given
from hypothesis import strategies as st

from posture.wire import decoding, frame
from posture.wire.frame import Identity, UndecodableError

JPEG = encoded(noise_picture(), "JPEG", quality=60)
PNG, WEBP = encoded(noise_picture(), "PNG"), encoded(noise_picture(), "WEBP")
PICTURES = [pytest.param(JPEG, id="jpeg"), pytest.param(PNG, id="png"), pytest.param(WEBP, id="webp")]
NOON = datetime(2026, 11, 24, 12, 0, 0, 125_000, timezone.utc)

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200)
identities = st.builds(
    Identity,
    printable,
    st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(timezone.utc)),
    st.none() | st.integers(0, 2**53 - 1),
    st.none() | printable,
    st.just("comment"),
)


# Raw or base64.


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda picture: picture, id="raw"),
        pytest.param(base64.b64encode, id="base64"),
        pytest.param(base64.encodebytes, id="base64-in-lines"),
        pytest.param(lambda picture: base64.b64encode(picture).rstrip(b"="), id="base64-unpadded"),
        pytest.param(lambda picture: b" \r\n" + base64.b64encode(picture) + b"\n", id="base64-with-blanks"),
    ],
)
def test_raw_and_base64_are_told_apart_and_give_the_same_picture(picture: bytes, wrap) -> None:
    assert frame.unwrap(wrap(picture)) == picture


def test_what_is_neither_a_picture_nor_its_base64_is_left_as_it_is() -> None:
    for payload in (b"", b"text", base64.b64encode(b"text"), b"/9j/*", b"/9j/\x00\xff"):
        assert frame.unwrap(payload) == payload


# Identity.


@given(identities)
@example(Identity("\U0001f642" * 200, NOON, 2**53 - 1, "\U0001f643" * 200, "comment"))
def test_an_identity_comes_back_from_the_picture_that_carries_it(identity: Identity) -> None:
    assert frame.identify(frame.stamp(JPEG, identity), {}) == identity


@given(identities)
def test_stamping_leaves_everything_else_in_the_file_byte_equal(identity: Identity) -> None:
    stamped = frame.stamp(JPEG, identity)
    assert stamped[:2] + stamped[len(stamped) - len(JPEG) + 2 :] == JPEG


@given(identities, identities)
def test_a_new_identity_replaces_the_old_one(first: Identity, second: Identity) -> None:
    assert frame.stamp(frame.stamp(JPEG, first), second) == frame.stamp(JPEG, second)


@given(identities, identities)
def test_a_digest_is_that_of_the_picture_whatever_its_stamp(first: Identity, second: Identity) -> None:
    stamped = frame.stamp(JPEG, first)
    assert (
        frame.content_digest(stamped)
        == frame.content_digest(frame.stamp(stamped, second))
        == hashlib.sha256(JPEG).hexdigest()
    )
    assert frame.content_digest(stamped + b"x") != frame.content_digest(stamped)


def test_of_several_comments_of_ours_the_new_one_alone_is_left() -> None:
    twice = with_segment(with_segment(JPEG, 0xFE, b'{"id": "one"}'), 0xFE, b'{"id": "two"}')
    assert frame.stamp(twice, Identity("three")) == frame.stamp(JPEG, Identity("three"))


def test_a_foreign_comment_stays_beside_ours() -> None:
    foreign = with_segment(JPEG, 0xFE, b"CREATOR: some camera")
    stamped = frame.stamp(foreign, Identity("one"))
    assert b"CREATOR: some camera" in stamped
    assert frame.identify(stamped, {}).frame_id == "one"
    assert frame.identify(foreign, {}).source == "hash"


def test_a_stamped_picture_shows_the_same_pixels() -> None:
    stamped = frame.stamp(JPEG, Identity("one", NOON, 7, "boot"))
    plain, same = (decoding.decode(picture, frame.Limits(), 1280) for picture in (JPEG, stamped))
    assert np.array_equal(plain, same)


@pytest.mark.parametrize("picture", [b"", b"\xff\xd8", PNG], ids=["empty", "two-bytes", "png"])
def test_only_a_jpeg_can_be_stamped(picture: bytes) -> None:
    with pytest.raises(UndecodableError, match="not_a_jpeg"):
        frame.stamp(picture, Identity("one"))


def test_the_comment_counts_before_properties_and_properties_before_the_hash() -> None:
    properties = {"id": "by-property", "seq": "12", "captured_at": "2026-11-24T12:00:00.125Z", "boot_id": "b"}
    stamped = frame.stamp(JPEG, Identity("by-comment"))
    assert frame.identify(stamped, properties).frame_id == "by-comment"
    assert frame.identify(JPEG, properties) == Identity("by-property", NOON, 12, "b", "properties")
    assert frame.identify(PNG, properties).source == "properties"
    assert frame.identify(JPEG, {}) == Identity(hashlib.sha256(JPEG).hexdigest())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"captured_at": "2026-11-24T14:00:00.125+02:00"}, {"captured_at": NOON}, id="zone-to-utc"),
        pytest.param({"captured_at": "2026-11-24T12:00:00.125"}, {"captured_at": NOON}, id="naive-is-utc"),
        pytest.param({"captured_at": "2026-11-24T12:00:00.125Z"}, {"captured_at": NOON}, id="Z"),
        pytest.param({"captured_at": "0001-01-01T00:00:00+23:59"}, {"captured_at": None}, id="before-all-time"),
        pytest.param({"captured_at": "9999-12-31T23:59:59.999999Z"}, {"captured_at": None}, id="last-of-all-time"),
        pytest.param({"captured_at": "0001-01-01T00:00:00Z"}, {"captured_at": None}, id="first-of-all-time"),
        pytest.param({"captured_at": "1970-01-01T00:00:09Z"}, {"ignored": ()}, id="a-clock-that-begins-with-1970"),
        pytest.param({"captured_at": "yesterday"}, {"captured_at": None}, id="no-time"),
        pytest.param({"captured_at": 5}, {"captured_at": None}, id="time-of-wrong-type"),
        pytest.param({"seq": 2**53 - 1}, {"seq": 2**53 - 1}, id="largest-seq"),
        pytest.param({"seq": 2**53}, {"seq": None}, id="seq-too-large"),
        pytest.param({"seq": -1}, {"seq": None}, id="negative-seq"),
        pytest.param({"seq": True}, {"seq": None}, id="seq-of-wrong-type"),
        pytest.param({"seq": 1.0}, {"seq": None}, id="fractional-seq"),
        pytest.param({"seq": "007"}, {"seq": 7}, id="seq-as-text"),
        pytest.param({"boot_id": "a\nb"}, {"boot_id": None}, id="boot-with-control-character"),
        pytest.param({"boot_id": 3}, {"boot_id": None}, id="boot-of-wrong-type"),
    ],
)
def test_nonsense_in_one_field_costs_that_field_alone(fields: dict, expected: dict) -> None:
    comment = json.dumps({"id": "one", **fields}).encode()
    identity = frame.identify(with_segment(JPEG, 0xFE, comment), {})
    assert identity.frame_id == "one"
    for name, value in expected.items():
        assert getattr(identity, name) == value
        assert (name in identity.ignored) == (value is None)


@pytest.mark.parametrize(
    "frame_id",
    ["", "x" * 201, "a\x00b", "a\nb", "\u202egpj.exe", "\ud800", 7, None, ["a"]],
    ids=["empty", "too-long", "nul", "newline", "right-to-left", "surrogate", "number", "null", "list"],
)
def test_an_id_that_is_none_falls_to_the_next_source(frame_id: object) -> None:
    picture = with_segment(JPEG, 0xFE, json.dumps({"id": frame_id}).encode())
    assert frame.identify(picture, {"id": "by-property"}).source == "properties"
    assert frame.identify(picture, {}).frame_id == hashlib.sha256(picture).hexdigest()


# File names.


@given(st.text(max_size=300))
def test_an_id_never_leaves_its_folder(frame_id: str) -> None:
    name = frame.safe_name(frame_id)
    assert 0 < len(name) <= 100
    assert name.isascii()
    assert not set(name) & set('/\\\0:*?"<>| \n')
    assert not name.startswith(".")


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=8, unique=True))
def test_two_ids_never_share_a_file(ids: list[str]) -> None:
    ids += [frame.safe_name(frame_id) for frame_id in ids]  # an id may look like another's name
    assert len({frame.safe_name(frame_id) for frame_id in ids}) == len(set(ids))


def test_an_id_made_to_look_like_another_ids_file_gets_one_of_its_own() -> None:
    taken = frame.safe_name("../../etc/passwd")
    assert frame.safe_name(taken) != taken


@pytest.mark.parametrize("frame_id", ["pi1-5f3a90c1d2e4-17", "a" * 64, "A.b_c-9"])
def test_a_harmless_id_is_its_own_name(frame_id: str) -> None:
    assert frame.safe_name(frame_id) == frame_id
