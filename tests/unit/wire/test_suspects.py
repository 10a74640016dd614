"""What analyzers leave to their successors about frames stays small, whatever it was that ended them."""

from __future__ import annotations

import hashlib

from posture.wire.suspects import MOST_BYTES, MOST_FRAMES, Remembered


def test_it_is_read_as_it_was_written_and_nothing_to_remember_clears_the_topic() -> None:
    digest = hashlib.sha256().hexdigest()
    for said in (Remembered("0" * 16, digest, {}), Remembered("f" * 16, "", {digest: 4})):
        assert Remembered.parse(said.as_bytes()) == said
    assert Remembered("0" * 16).as_bytes() == b""
    assert Remembered.parse(b"") == Remembered()


def test_those_of_which_something_was_known_first_are_forgotten_first() -> None:
    digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(MOST_FRAMES + 5)]
    said = Remembered("0" * 16, digests[0], dict.fromkeys(digests, 2)).as_bytes()
    assert len(said) < MOST_BYTES
    assert list(Remembered.parse(said).counts) == digests[5:]
