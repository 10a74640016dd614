"""What a receipt says, of this version and of the one before."""

from __future__ import annotations

import json

import pytest

from posture.wire import receipts


def test_a_receipt_is_read_as_it_was_written() -> None:
    frames = [("pi1-boot-0", "ab" * 32), ("pi1-boot-1", "cd" * 32)]
    assert receipts.read(json.loads(json.dumps(receipts.receipt(frames)))) == frames


def test_a_camera_of_the_version_before_finds_the_ids_where_they_always_were() -> None:
    assert receipts.receipt([("a", "ab" * 32)])["ids"] == ["a"]


def test_a_receipt_of_the_version_before_has_no_hashes() -> None:
    assert receipts.read({"ids": ["a", "b"]}) == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"ids": 7},
        {"ids": "abc"},
        {"ids": [7]},
        {"ids": ["a"], "sha256": []},
        {"ids": ["a"], "sha256": None},
        {"ids": ["a"], "sha256": [None]},
        {"ids": ["a", "b"], "sha256": ["ab" * 32]},
    ],
    ids=str,
)
def test_what_is_no_receipt_confirms_nothing(said: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        receipts.read(said)


@pytest.mark.parametrize("status", [{}, {"receipts": None}, {"receipts": "ids"}, {"receipts": ["sha256"]}])
def test_only_an_analyzer_that_says_so_gives_hashes(status: dict[str, object]) -> None:
    assert not receipts.announced_in(status)
    assert receipts.announced_in({**status, **receipts.ANNOUNCED})
